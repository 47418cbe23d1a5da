"""The formats of an exported network: how each is made, and the files that are written."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from densereid.data_catalog.errors import UserError, first_line
from densereid.data_catalog.files.atomic import write_bytes
from densereid.train.deployment.card import card_json, card_page, model_card
from densereid.train.deployment.image_network import ImageNetwork, checked
from densereid.train.deployment.onnx_file import check_onnx_packages, onnx_bytes
from densereid.train.engine.checkpoint import Checkpoint
from densereid.train.engine.export import export_network, finite_inference_network

TORCH = "torch"
"""The project's own file; :mod:`densereid.train.engine.export` writes and reads it."""


@dataclass(frozen=True)
class WrittenFile:
    """A file that was written."""

    path: Path
    difference: float | None = None
    """Largest difference of a number of an embedding, where the file was run on random images; else None."""


def _safetensors_bytes(network: ImageNetwork, card: str) -> tuple[bytes, None]:
    # One key of metadata: several are written in an order that differs from run to run.
    return save(network.state_dict(), {"model_card": card}), None


def _program_bytes(network: ImageNetwork, card: str) -> tuple[bytes, float]:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about itself
        batch = {0: torch.export.Dim("batch")}
        program = torch.export.export(network, (network.example(2),), dynamic_shapes=(batch,))
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # which lines of which files it came of
        torch.export.save(program, file, extra_files={"model_card.json": card})
        file.seek(0)
        read = torch.export.load(file).module()
    return file.getvalue(), checked(read, network, "torch.export")


_Maker = Callable[[ImageNetwork, str], tuple[bytes, float | None]]
_MAKERS: dict[str, tuple[str, _Maker]] = {
    "safetensors": (".safetensors", _safetensors_bytes),
    "onnx": (".onnx", onnx_bytes),
    "torch-export": (".pt2", _program_bytes),
}
FORMATS = (TORCH, *_MAKERS)
"""By the names that a user gives."""


def check_formats(formats: Sequence[str]) -> None:
    """Raise UserError where a format needs a package that is not installed."""
    if "onnx" in formats:
        check_onnx_packages()


def write_formats(
    network: nn.Module, checkpoint: Checkpoint, target: Path, formats: Sequence[str]
) -> list[WrittenFile]:
    """Write the network's inference part in each of the ``formats``, and its model card beside them.

    ``target`` is the file of a single format; of several, each has its own suffix instead of one of these. The card,
    a Markdown page, belongs to all formats but ``torch``. Every file appears whole or not at all. Raises UserError for
    weights that are not finite, packages that are missing, a format that does not give the network's embeddings, and
    a file that cannot be written.
    """
    check_formats(formats)
    stem = target.with_suffix("") if target.suffix in map(suffix_of, FORMATS) else target
    paths = {each: target if len(formats) == 1 else stem.with_name(stem.name + suffix_of(each)) for each in formats}
    written = []
    if TORCH in paths:
        export_network(network, checkpoint, paths[TORCH])
        written.append(WrittenFile(paths[TORCH]))
    others = {each: path for each, path in paths.items() if each != TORCH}
    if not others:
        return written
    config = checkpoint.config
    kept = ImageNetwork(finite_inference_network(network, checkpoint), height=config.height, width=config.width)
    card = model_card(kept, checkpoint)
    for each, path in others.items():
        content, difference = _MAKERS[each][1](kept, card_json(card))
        _write(path, content)
        written.append(WrittenFile(path, difference))
    page = stem.with_name(f"{stem.name}.md")
    _write(page, card_page(card, stem.name).encode())
    return [*written, WrittenFile(page)]


def suffix_of(name: str) -> str:
    """The end of a format's file name, ``.onnx``."""
    return ".pt" if name == TORCH else _MAKERS[name][0]


def _write(path: Path, content: bytes) -> None:
    try:
        write_bytes(path, content)
    except OSError as error:
        remedy = "Free some space, or choose another file."
        raise UserError(f"exported network {path} could not be written: {first_line(error)}", remedy) from error
