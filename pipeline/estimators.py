"""Which estimator a command takes: the one that is asked for, or what ``auto`` chooses, whose rule stands here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from densereid.data_catalog.errors import UserError
from densereid.pipeline.settings import PRECISIONS, defaults

if TYPE_CHECKING:  # torch takes seconds, and --help names the estimators without it
    from densereid.data_catalog.datasets.lookup import Dataset
    from densereid.pipeline.store_request import StoreRequest
    from densereid.preprocess.densepose.precision import Precision
    from densereid.preprocess.estimators.base import Estimator

ESTIMATORS = ("auto", "iuv", "densepose", "detectron2", "embedded")

AUTO_RULE = (
    "auto = what made the store that is there, else the dataset's IUV maps where it has them, else DensePose where "
    "its weights are at hand or asked for (detectron2 where that is installed, else densepose), else embedded"
)
"""What :func:`resolve_estimator` does with ``auto``, for people."""

PRECISION_RULE = (
    "auto = what made the store that is there, else bf16 for the embedded network on a CPU with instructions for it, "
    "else fp32"
)
"""What :func:`choose_precision` does with ``auto``, for people."""

_OF_DENSEPOSE = ("weights", "mode", "short_edge", "compiled", "no_fallback")
"""What only DensePose has; the first is a file for the embedded network, too."""


def resolve_estimator(request: StoreRequest, dataset: Dataset) -> tuple[str, str]:
    """The estimator that the request means for ``dataset``, never ``auto``, and the reason for it.

    A store that is there keeps the estimator that made it: two are never mixed. Raises UserError for a name that is
    none of :data:`ESTIMATORS`.
    """
    from densereid.preprocess.densepose.detectron2_network import missing
    from densereid.preprocess.densepose.weights import at_hand

    name = request.estimator
    if name not in ESTIMATORS:
        raise UserError(f"unknown estimator '{name}'", f"known: {', '.join(ESTIMATORS)}")
    if name != "auto":
        return name, "asked for"
    asked = _asked_of_densepose(request)
    if not asked and (made := _made_by(request)) is not None:
        return made, "the store that is there was made with it"
    if dataset.iuv_root is not None:
        return "iuv", f"IUV maps exist in {dataset.iuv_root}"
    if not asked and not at_hand(request.weights):
        return "embedded", _WHY_EMBEDDED
    reason = f"{' and '.join(asked)} asked for" if asked else f"the weights {request.weights} are at hand"
    if missing() is None:
        return "detectron2", f"there are no IUV maps, {reason}, and Detectron2 is installed"
    return "densepose", f"there are no IUV maps, and {reason}"


_WHY_EMBEDDED = (
    "there are neither IUV maps nor weights of DensePose; this network was trained on rendered people alone. "
    "ESTIMATOR=densepose downloads the published weights"
)


_WITHOUT_WEIGHTS = "Or take ESTIMATOR=embedded, the network that comes with DenseReID: nothing to download"


def _made_by(request: StoreRequest) -> str | None:
    """The estimator of the store at the request's path; None where there is none."""
    name = _recorded(request).get("name")
    return name if name in ESTIMATORS else None


def _recorded(request: StoreRequest) -> Mapping[str, object]:
    """The name and the settings of the estimator of the store at the request's path; empty where there is none."""
    from densereid.data_catalog.store.store import exists, open_store

    if not exists(request.path()):
        return {}
    return open_store(request.path(), incomplete=True).attributes.get("estimator", {})


def _asked_of_densepose(request: StoreRequest) -> list[str]:
    """The options of DensePose that are not as they are by default."""
    return [name.upper() for name in _OF_DENSEPOSE if getattr(request, name) != getattr(defaults(), name, False)]


def choose_estimator(request: StoreRequest, dataset: Dataset, device: str) -> tuple[Estimator, str]:
    """The request's estimator, opened, and the reason for it. Raises UserError where it cannot be opened."""
    from densereid.preprocess.estimators.iuv import open_iuv

    name, why = resolve_estimator(request, dataset)
    if name == "iuv":
        return open_iuv(dataset, request.iuv_order), why
    if name == "embedded":
        return _open_embedded(request, device), why
    try:
        return _open_network(name, request, device), why
    except UserError as error:
        if request.estimator != "auto":
            raise
        raise UserError(error.problem, f"{error.remedy}\n{_WITHOUT_WEIGHTS}") from error


def choose_precision(request: StoreRequest, estimator: str, device: str) -> Precision:
    """The arithmetic of that network on that device: with ``auto`` what the store that is there was made in."""
    from densereid.preprocess.densepose.precision import resolve_precision

    recorded = _recorded(request)
    if request.precision == "auto" and recorded.get("name") == estimator:
        for precision in PRECISIONS:
            if precision == recorded.get("precision"):
                return precision
    return resolve_precision(request.precision, estimator, device)


def arithmetic_of(estimator: Estimator) -> str:
    """The precision of a network as the end of a sentence about its device; nothing for what computes nothing."""
    precision = estimator.settings().get("precision")
    return f", {precision}" if precision else ""


def _open_embedded(request: StoreRequest, device: str) -> Estimator:
    from densereid.pipeline.console import print_status
    from densereid.preprocess.estimators.embedded import open_embedded

    refused = [name for name in _asked_of_densepose(request) if name != "WEIGHTS"]
    if refused:
        raise UserError(
            f"ESTIMATOR=embedded has no {' and no '.join(refused)}: it takes every crop whole, at its own size",
            "leave that out, or use ESTIMATOR=densepose",
        )
    own_file = request.weights != defaults().weights
    weights = Path(request.weights).expanduser() if own_file else None
    precision = choose_precision(request, "embedded", device)
    return open_embedded(device, weights, precision=precision, notify=print_status)


def _open_network(name: str, request: StoreRequest, device: str) -> Estimator:
    from densereid.pipeline.console import print_status
    from densereid.preprocess.estimators.densepose import open_densepose
    from densereid.preprocess.estimators.detectron2 import open_detectron2

    precision = choose_precision(request, name, device)
    if name == "detectron2":
        return open_detectron2(
            request.weights,
            device=device,
            mode=request.mode,
            short_edge=request.short_edge,
            precision=precision,
            fallback=not request.no_fallback,
            notify=print_status,
        )
    return open_densepose(
        request.weights,
        device=device,
        mode=request.mode,
        short_edge=request.short_edge,
        precision=precision,
        compiled=request.compiled,
        notify=print_status,
    )
