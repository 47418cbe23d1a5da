"""The network as ONNX, run once by onnxruntime before it is written. The only module that needs the group ``onnx``."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from densereid.data_catalog.errors import UserError, first_line
from densereid.train.deployment.image_network import ImageNetwork, checked

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""What writes, translates and runs it: the optional group ``onnx``."""

OPSET = 18
"""The version of the operators; onnxruntime reads it since 1.14 (2023)."""


def check_onnx_packages() -> None:
    """Raise UserError where a package that ONNX needs is not installed, with the command that installs it."""
    missing = []
    for name in PACKAGES:
        try:
            import_module(name)
        except ImportError as error:
            missing.append(f"{name} ({error})")
    if missing:
        raise UserError(
            f"FORMAT=onnx needs packages that cannot be imported: {', '.join(missing)}",
            "Install the optional group: pip install 'densereid[onnx]'. The other formats need nothing more.",
        )


def onnx_bytes(network: ImageNetwork, card: str) -> tuple[bytes, float]:
    """The file, and the largest difference of an embedding that onnxruntime gives of it.

    Equal weights give equal bytes with equal versions of torch and onnxscript. Raises UserError where packages are
    missing, and where it does not give the network's embeddings.
    """
    check_onnx_packages()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        program = torch.onnx.export(
            network, (network.example(2),), dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True,
            input_names=["image"], output_names=["embedding"], opset_version=OPSET, verbose=False,
        )  # fmt: skip
    assert program is not None
    for node in program.model.graph:
        node.metadata_props.clear()  # which lines of which files it came of
    program.model.metadata_props["model_card"] = card
    content: bytes = program.model_proto.SerializeToString(deterministic=True)
    return content, checked(_runner(content), network, "ONNX")


def open_onnx(path: Path) -> tuple[Callable[[Tensor], Tensor], str | None]:
    """What runs the file on the CPU, and the model card in it as JSON, None where there is none.

    Raises UserError where onnxruntime is missing, and where it cannot read the file.
    """
    try:
        import_module("onnxruntime")
    except ImportError as error:
        raise UserError(
            f"{path} needs onnxruntime, which cannot be imported: {first_line(error)}",
            "Install it: pip install onnxruntime; or load the run itself, or another format of it.",
        ) from error
    try:
        session = _session(path.read_bytes())
    except Exception as error:  # onnxruntime has an exception of its own for each of its codes
        remedy = "Export the run again: `densereid export RUN --format onnx`."
        raise UserError(f"{path} cannot be read as ONNX: {first_line(error)[:200]}", remedy) from error
    return _runs(session), session.get_modelmeta().custom_metadata_map.get("model_card")


def _runner(content: bytes) -> Callable[[Tensor], Tensor]:
    return _runs(_session(content))


def _session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _runs(session: Any) -> Callable[[Tensor], Tensor]:
    def run(images: Tensor) -> Tensor:
        (embedding,) = session.run(None, {"image": images.numpy()})
        return torch.from_numpy(np.asarray(embedding))

    return run
