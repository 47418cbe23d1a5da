"""Synthetic pedestrians a second, written to disk as JPEG with their IUV maps, by number of processes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from bench.report import print_markdown_table
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import plan_images, write_dataset


def main() -> None:
    config = SyntheticConfig()
    count = len(plan_images(config))
    rates = {}
    for workers in (0, 2):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            write_dataset(Path(folder) / "synthetic", config, workers=workers)
            rates[workers] = count / (time.perf_counter() - start)
    rows = [(workers or "this one", f"{rate:.0f}", f"{rate / rates[0]:.2f}x") for workers, rate in rates.items()]
    print_markdown_table(f"Rendering {count} images", ("processes", "images/s", "ratio"), rows, ("numpy", "pillow"))


if __name__ == "__main__":
    main()
