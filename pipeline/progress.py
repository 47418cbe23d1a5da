"""Progress of long work: a bar on a terminal, a line now and then elsewhere; rate, remaining time, failures."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from densereid.pipeline.console import print_status

_LINE_SECONDS = 10.0


class ProgressReport:
    """Counts finished images of ``total`` and shows them on standard error while the block runs."""

    def __init__(self, title: str, total: int) -> None:
        self.done = 0
        self._title = title
        self._total = total
        self._failed = 0
        self._start = self._last_line = time.monotonic()
        console = Console(stderr=True)
        self._bar = None
        if console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            rate = TextColumn("{task.fields[rate]:.0f} images/s"), TimeRemainingColumn()
            self._bar = Progress(*columns, *rate, TextColumn("{task.fields[failed]} failed"), console=console)
            self._task = self._bar.add_task(title, total=total, rate=0.0, failed=0)

    def __enter__(self) -> ProgressReport:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        elif kind is None:
            self._write_line()

    def advance(self, images: int, failed: int = 0) -> None:
        """Count ``images`` more as finished, ``failed`` of them with a reason in failures.csv."""
        self.done += images
        self._failed += failed
        if self._bar:
            self._bar.update(self._task, advance=images, rate=self.rate, failed=self._failed)
        elif time.monotonic() - self._last_line > _LINE_SECONDS:
            self._write_line()

    @property
    def rate(self) -> float:
        """Images a second since the start."""
        return self.done / max(time.monotonic() - self._start, 1e-9)

    def _write_line(self) -> None:
        self._last_line = time.monotonic()
        if not self._total:
            return
        speed = ""
        if self.done:  # otherwise nothing is known of it
            speed = f"{self.rate:.0f} images/s, {(self._total - self.done) / self.rate:.0f} s remaining, "
        print_status(f"{self._title}: {self.done}/{self._total} images, {speed}{self._failed} failed")
