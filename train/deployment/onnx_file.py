"""The network as ONNX, run once by onnxruntime before it is written. The only module that needs the group ``onnx``."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from densereid.data_catalog.errors import UserError
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


def _runner(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (embedding,) = session.run(None, {"image": images.numpy()})
        return torch.from_numpy(np.asarray(embedding))

    return run
