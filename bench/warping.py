"""Masks and DSAP images of a batch: ours against a numpy loop over the 24 parts of each image."""

from __future__ import annotations

import numpy as np
import torch

from bench.report import print_table, seconds
from data_catalog.parts import NUM_BODY_PARTS, PART_TO_LABEL
from data_catalog.schema import DSAP_FILL
from data_catalog.synthetic.config import SyntheticConfig
from data_catalog.synthetic.sample import render_sample
from preprocess.derive import dsap_from_iuv, mask_from_iuv

BATCH, SIZE = 64, 32


def by_parts(image: np.ndarray, iuv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What people write: one boolean mask and one scatter per part and image."""
    dsap = np.empty((len(image), NUM_BODY_PARTS, SIZE, SIZE, 3), np.uint8)
    dsap[:] = DSAP_FILL
    for index in range(len(image)):
        for part in range(1, NUM_BODY_PARTS + 1):
            y, x = np.nonzero(iuv[index, ..., 0] == part)
            row, column = (np.minimum(SIZE - 1, SIZE * iuv[index, y, x, axis].astype(int) // 255) for axis in (1, 2))
            dsap[index, part - 1, row, column] = image[index, y, x]
    return PART_TO_LABEL[iuv[..., 0]], dsap


def main() -> None:
    config = SyntheticConfig(height=256, width=128)
    samples = [render_sample(config, 1 + index, 0, 1 + index % 4, junk=False) for index in range(BATCH)]
    image, iuv = np.stack([sample.image for sample in samples]), np.stack([sample.iuv for sample in samples])
    torch_image, torch_iuv = torch.from_numpy(image), torch.from_numpy(iuv)
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    baseline = seconds(lambda: by_parts(image, iuv))
    rows = [("numpy, a loop over 24 parts", f"{BATCH / baseline:.0f}", "1.0x")]
    for device in devices:
        there = torch_image.to(device), torch_iuv.to(device)

        def ours(there: tuple[torch.Tensor, torch.Tensor] = there) -> None:
            mask_from_iuv(there[1])
            dsap, _ = dsap_from_iuv(*there)
            dsap[0, 0, 0, 0, 0].item()  # waits for the device

        took = seconds(ours)
        rows.append((f"ours, {device}", f"{BATCH / took:.0f}", f"{baseline / took:.1f}x"))
    assert np.array_equal(by_parts(image, iuv)[1], dsap_from_iuv(torch_image, torch_iuv)[0].numpy())
    title = f"Masks and DSAP images at 256x128, batches of {BATCH}"
    print_table(title, ("implementation", "images/s", "ratio"), rows, ("torch", "numpy"))


if __name__ == "__main__":
    main()
