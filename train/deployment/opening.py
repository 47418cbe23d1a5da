"""A trained network from whatever file it lies in: a run, a checkpoint, or an export of any format."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from densereid.data_catalog.errors import UserError, first_line
from densereid.train.config.train_config import TrainConfig, from_dict
from densereid.train.deployment.image_network import ImageNetwork
from densereid.train.deployment.onnx_file import open_onnx
from densereid.train.engine.checkpoint import EXPORT_FORMAT, LAST, load_trained_network
from densereid.train.engine.export import finite_inference_network, load_exported
from densereid.train.families import as_reid, build_empty_network, inference_feature
from densereid.train.networks.finite import not_finite
from densereid.train.networks.tensor_file import load_tensor_file

_REMEDY = "Export the run again: `densereid export RUN`."


@dataclass(frozen=True)
class OpenedNetwork:
    """A trained network that is ready to embed."""

    run: Callable[[Tensor], Tensor]
    """From RGB images, uint8 (B, 3, height, width) on ``device``, to L2-normalised embeddings, float32 (B, D)."""
    height: int
    width: int
    feature: str
    """What is embedded, as ``evaluate.feature`` names it."""
    embedding_width: int
    """D."""
    device: str


def open_network(path: Path, *, checkpoint_name: str = LAST, device: str = "cpu") -> OpenedNetwork:
    """The network of a run folder (its ``checkpoint_name``), of a checkpoint, or of an export of any format.

    ``.onnx`` runs on the CPU, whatever the ``device``. No code of a file is run. Raises UserError where it is missing,
    damaged or something else, and where onnxruntime is missing.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist", "Give a run's folder, a checkpoint, or a file of `densereid export`.")
    opener = None if path.is_dir() else _OPENERS.get(path.suffix)
    if opener is not None:
        run, card = opener(path, device)
        return _opened(path, run, card, "cpu" if path.suffix == ".onnx" else device)
    if path.is_dir() or (feature := _exported_feature(path)) is None:
        network, checkpoint = load_trained_network(path, name=checkpoint_name)
        kept, config = finite_inference_network(network, checkpoint), checkpoint.config
        feature = inference_feature(config)
    else:
        kept, config = load_exported(path)
    return _of_torch(ImageNetwork(kept, height=config.height, width=config.width), feature, device)


def _of_torch(network: ImageNetwork, feature: str, device: str) -> OpenedNetwork:
    with torch.inference_mode():
        width = network(network.example(1)).shape[1]
    return OpenedNetwork(network.to(device), *network.size, feature, width, device)


def _opened(path: Path, run: Callable[[Tensor], Tensor], card: Mapping[str, Any], device: str) -> OpenedNetwork:
    """The network of a file with a model card, tried on one image."""
    try:
        height, width = card["input"]["height"], card["input"]["width"]
        blank = torch.zeros(1, 3, height, width, dtype=torch.uint8, device=device)
        with torch.inference_mode():
            embedding_width = run(blank).shape[1]
        return OpenedNetwork(run, height, width, str(card["feature"]), embedding_width, device)
    except (KeyError, TypeError, RuntimeError, IndexError) as error:
        raise _damaged(path, error) from error


def _exported_feature(path: Path) -> str | None:
    """What an export of torch's embeds; None where the file is no export, but perhaps a checkpoint."""
    values = load_tensor_file(path, what="network", remedy=_REMEDY, mapped=True)
    is_export = isinstance(values, dict) and values.get("format") == EXPORT_FORMAT
    return str(values.get("feature", "f")) if is_export else None


def _of_safetensors(path: Path, device: str) -> tuple[nn.Module, Mapping[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("model_card")
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dictionary
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    card = _card(path, text)
    if problem := not_finite(weights):
        raise UserError(f"{path}: {problem}", "Export another checkpoint of the run.")
    try:
        config: TrainConfig = from_dict(card["config"])
        kept = as_reid(build_empty_network(config, num_identities=1)).inference_network(card["feature"])
        network = ImageNetwork(kept, height=config.height, width=config.width)
        network.load_state_dict(weights)
    except (UserError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    return network.to(device), card


def _of_program(path: Path, device: str) -> tuple[Callable[[Tensor], Tensor], Mapping[str, Any]]:
    extra = {"model_card.json": ""}
    try:
        with _without_pickled_code():
            program = torch.export.load(path, extra_files=extra)
        card = _card(path, extra["model_card.json"])
        if problem := not_finite(program.state_dict):
            raise UserError(f"{path}: {problem}", "Export another checkpoint of the run.")
        if torch.device(device).type != "cpu":  # where it was exported, and where its constants are
            from torch.export.passes import move_to_device_pass  # here, since it takes time that others do not need

            program = move_to_device_pass(program, device)
        return program.module().to(device), card
    except UserError:
        raise
    except Exception as error:  # torch raises many types for a damaged or foreign archive
        raise _damaged(path, error) from error


@contextmanager
def _without_pickled_code() -> Iterator[None]:
    """While the block runs, torch loads no pickle that asks for more than tensors: torch.export.load would."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        os.environ |= {} if before is None else {name: before}


def _of_onnx(path: Path, device: str) -> tuple[Callable[[Tensor], Tensor], Mapping[str, Any]]:
    del device
    run, card = open_onnx(path)
    return run, _card(path, card)


_Opener = Callable[[Path, str], tuple[Callable[[Tensor], Tensor], Mapping[str, Any]]]
_OPENERS: dict[str, _Opener] = {".safetensors": _of_safetensors, ".pt2": _of_program, ".onnx": _of_onnx}
"""By the suffix of a format; on a device, they give what runs and the model card."""


def _card(path: Path, text: str | None) -> Mapping[str, Any]:
    if not text:
        raise UserError(f"{path} has no model card: it is no network that this project exported", _REMEDY)
    try:
        card = json.loads(text)
    except ValueError as error:
        raise _damaged(path, error) from error
    return card if isinstance(card, dict) else {}


def _damaged(path: Path, error: Exception) -> UserError:
    if isinstance(error, zipfile.BadZipFile):
        return UserError(f"exported network {path} is damaged: it is no archive", _REMEDY)
    return UserError(f"exported network {path} cannot be used: {first_line(error)[:200]}", _REMEDY)
