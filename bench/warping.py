"""The derive stage (mask, DSAP images, packed validity) of a batch: ours against a numpy loop over the 24 parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from bench.report import fastest, print_markdown_table
from densereid.data_catalog.parts import NUM_BODY_PARTS, PART_TO_LABEL
from densereid.data_catalog.store.schema import DSAP_FILL, pack_validity
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.sample import render_sample
from densereid.preprocess.semantics import warp_cpu
from densereid.preprocess.semantics.derive import Collision, derive, dsap_from_iuv, mask_from_iuv

BATCH, SIZE = 64, 32
BASELINE = "numpy, a loop over 24 parts"


def by_parts(image: np.ndarray, iuv: np.ndarray, collision: Collision) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What people write: one boolean mask and one scatter per part and image."""
    dsap = np.empty((len(image), NUM_BODY_PARTS, SIZE, SIZE, 3), np.uint8)
    dsap[:] = DSAP_FILL
    valid = np.zeros(dsap.shape[:-1], bool)
    for index in range(len(image)):
        for part in range(1, NUM_BODY_PARTS + 1):
            y, x = np.nonzero(iuv[index, ..., 0] == part)
            row, column = (np.minimum(SIZE - 1, SIZE * iuv[index, y, x, axis].astype(int) // 255) for axis in (1, 2))
            valid[index, part - 1, row, column] = True
            if collision == "last":
                dsap[index, part - 1, row, column] = image[index, y, x]
            elif len(y):
                dsap[index, part - 1][valid[index, part - 1]] = means(row * SIZE + column, image[index, y, x])
    return PART_TO_LABEL[iuv[..., 0]], dsap, pack_validity(valid)


def means(texel: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Mean colour of every texel that has one, in the order of the texels."""
    count = np.bincount(texel)
    total = np.stack([np.bincount(texel, weights=colours[:, channel]) for channel in range(3)], axis=1)
    hit = count > 0
    return np.floor(total[hit] / count[hit, None] + 0.5).astype(np.uint8)


def by_tensors(image: torch.Tensor, iuv: torch.Tensor, collision: Collision) -> tuple[np.ndarray, ...]:
    """What ``derive`` runs on a GPU, here on the CPU."""
    dsap, valid = dsap_from_iuv(image, iuv, size=32, collision=collision)
    return mask_from_iuv(iuv).numpy(), dsap.numpy(), pack_validity(valid.numpy())


def main() -> None:
    config = SyntheticConfig(height=256, width=128)
    samples = [render_sample(config, 1 + index, 0, 1 + index % 4, junk=False) for index in range(BATCH)]
    image, iuv = np.stack([sample.image for sample in samples]), np.stack([sample.iuv for sample in samples])
    tensors = torch.from_numpy(image), torch.from_numpy(iuv)
    rules: tuple[Collision, ...] = ("last", "mean")
    for collision in rules:
        ways: dict[str, Callable[[], object]] = {
            BASELINE: partial(by_parts, image, iuv, collision),
            "tensors, cpu": partial(by_tensors, *tensors, collision),
        }
        for threads in (1, 2):
            ways[f"ours, cpu, threads: {threads}"] = partial(
                warp_cpu.derive, image, iuv, size=SIZE, collision=collision, threads=threads
            )
        if torch.cuda.is_available():
            ways["ours, cuda, from host to host"] = partial(
                derive, *tensors, size=SIZE, collision=collision, device="cuda"
            )
        for ours, theirs in zip(ways["ours, cpu, threads: 2"](), ways[BASELINE](), strict=True):  # type: ignore[call-overload]
            assert np.array_equal(ours, theirs)
        took = fastest(ways)
        rows = [
            (way, f"{BATCH / wall:.0f}", f"{took[BASELINE][0] / wall:.1f}x", f"{took[BASELINE][1] / cpu:.1f}x")
            for way, (wall, cpu) in took.items()
        ]
        title = f"Deriving at 256x128, collision {collision}, batches of {BATCH}"
        print_markdown_table(
            title, ("implementation", "images/s", "ratio", "ratio of CPU time"), rows, ("torch", "numpy", "numba")
        )


if __name__ == "__main__":
    main()
