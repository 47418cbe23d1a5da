"""Which estimator a command takes: the one that is asked for, or what ``auto`` chooses, whose rule stands here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from densereid.data_catalog.errors import UserError

if TYPE_CHECKING:  # torch takes seconds, and --help names the estimators without it
    from densereid.data_catalog.datasets.lookup import Dataset
    from densereid.pipeline.store_request import StoreRequest
    from densereid.preprocess.estimators.base import Estimator

ESTIMATORS = ("auto", "iuv", "densepose", "detectron2")

AUTO_RULE = "auto = the dataset's IUV maps where it has them, else detectron2 where it is installed, else densepose"
"""What :func:`resolve_estimator` does with ``auto``, for people."""


def resolve_estimator(name: str, dataset: Dataset) -> tuple[str, str]:
    """The estimator that ``name`` means for ``dataset``, never ``auto``, and the reason for it.

    Raises UserError for a name that is none of :data:`ESTIMATORS`.
    """
    from densereid.preprocess.densepose.detectron2_network import missing

    if name not in ESTIMATORS:
        raise UserError(f"unknown estimator '{name}'", f"known: {', '.join(ESTIMATORS)}")
    if name != "auto":
        return name, "asked for"
    if dataset.iuv_root is not None:
        return "iuv", f"IUV maps exist in {dataset.iuv_root}"
    if missing() is None:
        return "detectron2", "there are no IUV maps, and Detectron2 is installed"
    return "densepose", "there are no IUV maps, and Detectron2 is not installed"


def choose_estimator(request: StoreRequest, dataset: Dataset, device: str) -> tuple[Estimator, str]:
    """The request's estimator, opened, and the reason for it. Raises UserError with the choices where none fits."""
    from densereid.preprocess.estimators.iuv import open_iuv

    name, why = resolve_estimator(request.estimator, dataset)
    if name == "iuv":
        return open_iuv(dataset, request.iuv_order), why
    try:
        return _open_network(name, request, device), why
    except UserError as error:
        if request.estimator != "auto":
            raise
        raise _no_estimator(dataset, str(error)) from error


def _open_network(name: str, request: StoreRequest, device: str) -> Estimator:
    from densereid.pipeline.console import print_status
    from densereid.preprocess.estimators.densepose import open_densepose
    from densereid.preprocess.estimators.detectron2 import open_detectron2

    if name == "detectron2":
        return open_detectron2(
            request.weights,
            device=device,
            mode=request.mode,
            short_edge=request.short_edge,
            precision=request.precision,
            fallback=not request.no_fallback,
            notify=print_status,
        )
    return open_densepose(
        request.weights,
        device=device,
        mode=request.mode,
        short_edge=request.short_edge,
        precision=request.precision,
        compiled=request.compiled,
        notify=print_status,
    )


def _no_estimator(dataset: Dataset, why: str) -> UserError:
    from densereid.preprocess.estimators.detectron2 import GUIDE

    return UserError(
        f"{dataset.root} has images but no IUV maps, and DensePose cannot be run: {why}",
        "the choices are:\n"
        "  ESTIMATOR=iuv with IUV_ROOT=FOLDER: DensePose IUV maps you already have, NAME.png or NAME_IUV.png\n"
        "  ESTIMATOR=iuv with IUV_ROOT=FILE: what DensePose's apply_net.py dump wrote\n"
        "  ESTIMATOR=densepose with WEIGHTS=NAME or FILE: DensePose of whole crops, nothing to install\n"
        "  ESTIMATOR=detectron2 with WEIGHTS=NAME or FILE: DensePose by Detectron2; environment.yml brings both for\n"
        f"    conda, its own guide is {GUIDE}\n"
        "  DATASET=synthetic: pedestrians rendered with exact IUV maps, nothing to download",
    )
