"""How busy the GPU is while something runs, as the driver's own tool samples it."""

from __future__ import annotations

import statistics
import subprocess


class BusyShare:
    """Samples ``nvidia-smi`` ten times a second between :meth:`start` and :meth:`stop`."""

    def start(self) -> None:
        query = [
            "nvidia-smi",
            "--query-gpu=utilization.gpu",
            "--format=csv,noheader,nounits",
            "--loop-ms=100",
            "--id=0",
        ]
        self._process = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)

    def stop(self) -> float:
        """The share of time, 0..1, in which a kernel was at work on GPU 0; NaN where nothing was sampled."""
        self._process.terminate()
        printed, _ = self._process.communicate()
        samples = [int(line) for line in printed.split() if line.isdigit()]
        return statistics.mean(samples) / 100 if samples else float("nan")
