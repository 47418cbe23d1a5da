"""A GPU while something is measured: how busy it is, as the driver's own tool samples it, and its peak of memory."""

from __future__ import annotations

import shutil
import statistics
import subprocess

import torch


def forget_peak_memory(device: str) -> None:
    """Count the peak of a GPU's memory from here; of a CPU's there is nothing to forget."""
    if torch.device(device).type == "cuda":
        torch.cuda.init()  # before it there is nothing to forget, and torch says that the device is wrong
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


class BusyShare:
    """Samples ``nvidia-smi`` ten times a second between :meth:`start` and :meth:`stop`."""

    def __init__(self, gpu: int = 0) -> None:
        self._gpu = gpu
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Begin; without ``nvidia-smi`` nothing is sampled."""
        query = [
            "nvidia-smi",
            "--query-gpu=utilization.gpu",
            "--format=csv,noheader,nounits",
            "--loop-ms=100",
            f"--id={self._gpu}",
        ]
        if shutil.which(query[0]):
            self._process = subprocess.Popen(query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def stop(self) -> float:
        """The share of time, 0..1, in which a kernel was at work on the GPU; NaN where nothing was sampled."""
        if self._process is None:
            return float("nan")
        self._process.terminate()
        printed, _ = self._process.communicate()
        samples = [int(line) for line in printed.split() if line.isdigit()]
        return statistics.mean(samples) / 100 if samples else float("nan")
