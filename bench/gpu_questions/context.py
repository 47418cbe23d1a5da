"""What every question is told: the device, how much to measure, where files go, and when its time ends."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.gpu_questions.plan import SCALES, Scale

ROOT = Path(__file__).parents[2]
"""The checkout, where every step's process runs."""

_MEMORY_DISK = Path("/dev/shm")
_RUN_BYTES = 16 * 2**30
"""Room for the checkpoints of one training: a network of 80 million weights and Adam's two moments, twice."""


@dataclass(frozen=True)
class Context:
    """The same for all steps of a run, but for ``ends``, the clock's time (seconds since 1970) at which one ends."""

    device: str
    scale_name: str
    work: Path
    """Everything that is made on the way lies here."""
    data: Path | None = None
    """A folder with rendered pedestrians under ``synthetic``; without it they are rendered."""
    ends: float = 0.0
    commit: str = ""
    """Where git cannot say it."""

    @property
    def scale(self) -> Scale:
        return SCALES[self.scale_name]

    @property
    def is_gpu(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def steps(self) -> Path:
        """Result file, table and log of each step."""
        return self.work / "steps"

    @property
    def stores(self) -> Path:
        """The rendered pedestrians' stores, by size: 256x128.zarr."""
        return self.work / "stores"

    @property
    def data_root(self) -> Path:
        return self.data or self.work / "data"

    def seconds_left(self) -> float:
        return self.ends - time.time()

    def run_folder(self) -> tempfile.TemporaryDirectory[str]:
        """A folder for a training; in memory where there is room, since its checkpoints are not what is measured."""
        roomy = _MEMORY_DISK.is_dir() and shutil.disk_usage(_MEMORY_DISK).free > _RUN_BYTES
        return tempfile.TemporaryDirectory(dir=_MEMORY_DISK if roomy else self.work)

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=os.fspath)

    @classmethod
    def from_json(cls, text: str) -> Context:
        values = json.loads(text)
        data = values["data"]
        return cls(**{**values, "work": Path(values["work"]), "data": None if data is None else Path(data)})
