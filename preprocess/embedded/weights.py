"""The embedded network's weights: a safetensors file in the package, half precision, known by its SHA-256.

``make embedded-weights`` makes such files; the recipe, the data and the scores stand in the file's metadata.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from densereid.data_catalog.errors import UserError, first_line
from densereid.data_catalog.files.atomic import replacing
from densereid.preprocess.densepose.precision import Precision, type_of
from densereid.preprocess.embedded.network import EmbeddedNetwork, fused

WEIGHTS = Path(__file__).with_name("weights.safetensors")

SHA256 = "6ce881cbd53b83c82f3773a401505db58cb07ba8c51375e9fb8818d12d5bea0a"
"""Of :data:`WEIGHTS`, as it is released."""

_MADE_BY = "made_by"

_MAX_BYTES = 2**26
"""Larger files are no weights of this network, and are not read."""


def read_weights(path: Path, sha256: str | None = None) -> EmbeddedNetwork:
    """The network with the weights of a file, ready to be used: on the CPU, in float32.

    Raises UserError where the file is missing, is not the one of that ``sha256``, or holds other layers.
    """
    content = _content(path)
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise _not_ours(path, f"its SHA-256 is {found}", sha256)
    network = EmbeddedNetwork()
    try:
        network.load_state_dict({name: value.float() for name, value in load(content).items()})
    except (SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{path} does not hold weights of the embedded network: {first_line(error)}",
            "give a file that `make embedded-weights` wrote",
        ) from error
    return network.eval()


def write_weights(path: Path, network: EmbeddedNetwork, metadata: Mapping[str, Any]) -> str:
    """Write the weights in half precision, with the metadata as one JSON text; the file's SHA-256."""
    tensors = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in network.state_dict().items()
    }
    # One key: safetensors writes several in an order that differs from run to run.
    content = save(tensors, {_MADE_BY: json.dumps(dict(metadata), sort_keys=True)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_metadata(path: Path) -> dict[str, Any]:
    """What was written beside the weights: recipe, data, scores, commit."""
    content = _content(path)
    length = int.from_bytes(content[:8], "little")
    metadata: dict[str, Any] = json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_MADE_BY])
    return metadata


@lru_cache(maxsize=1)
def load_embedded(path: Path, sha256: str, device: str, precision: Precision) -> EmbeddedNetwork:
    """The fused network on a device, in an arithmetic; the last one asked for is kept."""
    return fused(read_weights(path, sha256)).to(type_of(precision)).to(memory_format=torch.channels_last).to(device)


def digest(path: Path) -> str:
    """The SHA-256 of a file of weights. Raises UserError where it cannot be read."""
    return hashlib.sha256(_content(path)).hexdigest()


def _content(path: Path) -> bytes:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UserError(f"{path} is larger than any weights of the embedded network", "look at which file it is")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise _not_ours(path, first_line(error), SHA256) from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {first_line(error)}", "look at its permissions and its disk"
        ) from error


def _not_ours(path: Path, found: str, sha256: str) -> UserError:
    if path != WEIGHTS:
        return UserError(f"the weights {path} cannot be used: {found}", "look at the path, or leave it out")
    return UserError(
        f"the weights of the embedded network are not as they were released: {path}: {found}",
        f"expected SHA-256 {sha256}; install DenseReID again, or `git checkout` that file in a clone of it",
    )
