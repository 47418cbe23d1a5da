"""A trained network that embeds images, whatever file it lies in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from densereid.data_catalog.errors import UserError
from densereid.images import Images, in_batches
from densereid.pipeline.settings import resolve_device
from densereid.preprocess.images import resize_image
from densereid.train.deployment.opening import OpenedNetwork, open_network
from densereid.train.evaluation.metrics import check_embeddings


@dataclass(frozen=True)
class EmbeddingModel:
    """A trained network with all that it takes from images to embeddings; :func:`load_model` makes one."""

    network: OpenedNetwork
    source: Path
    """The run folder or the file that it was loaded from."""
    device: str

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) to which images are resized."""
        return self.network.height, self.network.width

    @property
    def feature(self) -> str:
        """The feature that is embedded, as ``evaluate.feature`` names it."""
        return self.network.feature

    def embed(self, images: Images, *, batch_size: int = 64) -> np.ndarray:
        """Embeddings of one image or several: float32 (N, D), each of length 1, in their order.

        Images are paths, Pillow's images, uint8 arrays (height, width, 3) in RGB, uint8 tensors (3, height, width), or
        any iterable of these; they are read ``batch_size`` at a time. One image gives one row. A larger dot product
        means more alike. Raises UserError that names an image that cannot be read.
        """
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}", "Expected a number of images, at least 1.")
        none = np.zeros((0, self.network.embedding_width), np.float32)
        return np.concatenate([none, *map(self._embedded, in_batches(images, batch_size))])

    def _embedded(self, batch: list[tuple[str, np.ndarray]]) -> np.ndarray:
        with torch.inference_mode():
            pixels = np.stack([resize_image(image, self.size) for _, image in batch])
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
            embeddings = self.network.run(images.to(self.device)).float().cpu()
        check_embeddings(embeddings, f"embeddings of {self.source}")
        return embeddings.numpy()


def load_model(path: str | Path, *, checkpoint: str = "last", device: str = "auto") -> EmbeddingModel:
    """The network of a run folder, of a checkpoint (``last.pt``), or of an export: .pt, .safetensors, .onnx or .pt2.

    What it was trained with, such as the size and the normalisation of images, comes from the file. It embeds what
    ``evaluate`` ranks, or f where that is z, which needs part images. ``checkpoint``: of a run folder, ``last``, or
    ``best``, which was chosen by its mAP on the test set. ``device``: auto, cpu, cuda or cuda:N; ONNX runs on the CPU.
    No code of a file is run. Raises UserError where the file is missing, damaged or something else, and where a
    package or the device is missing.
    """
    if checkpoint not in ("last", "best"):
        raise UserError(f"checkpoint is {checkpoint!r}", "Expected last or best.")
    source = Path(path).expanduser()
    chosen, _ = resolve_device(device)
    network = open_network(source, checkpoint_name=f"{checkpoint}.pt", device=chosen)
    return EmbeddingModel(network, source, network.device)
