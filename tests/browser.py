"""A headless Chromium, spoken to through a pipe: pages opened from disk, measured and photographed."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""The browser's path; None where there is none."""

_PROBLEMS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.loadingFailed")


class Page:
    """The one page of a browser. ``problems`` are what it said on its console, and what it could not load."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._write, self._read = to_browser, os.fdopen(from_browser, "rb")
        self._number, self._buffer, self._session = itertools.count(1), b"", None
        self.problems: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command of the DevTools protocol, and its answer."""
        number = next(self._number)
        message = {"id": number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            chunk = os.read(self._read.fileno(), 1 << 20)
            assert chunk, "the browser has ended"
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\0")
        found = json.loads(text)
        if found.get("method") in _PROBLEMS:
            self.problems.append(json.dumps(found["params"])[:500])
        return found

    def open(self, path: Path, *, width: int, dark: bool = False, paper: bool = False) -> None:
        """Load a file from disk, as a screen of that width or as paper shows it."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 600)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.ask("Emulation.setEmulatedMedia", media="print" if paper else "screen", features=scheme)
        self.ask("Page.navigate", url=path.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def value(self, script: str) -> Any:
        """What a piece of JavaScript gives."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def photograph(self, path: Path, *, top: int = 0, height: int | None = None) -> None:
        """The page as a PNG: all of it, or so many pixels from ``top`` on."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": top, "width": size["width"], "height": height or size["height"], "scale": 1}
        found = self.ask("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))

    def print(self, path: Path) -> None:
        """The page as a PDF on A4."""
        found = self.ask("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=False)
        path.write_bytes(base64.b64decode(found["data"]))


@contextlib.contextmanager
def opened_browser(folder: Path) -> Iterator[Page]:
    """A browser whose own files lie in ``folder``, and its page."""
    assert BROWSER is not None
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--hide-scrollbars", "--disable-background-networking", "--remote-debugging-pipe", f"--user-data-dir={folder}",
    ]  # fmt: skip
    theirs_in, ours_out = os.pipe()
    ours_in, theirs_out = os.pipe()
    high = [fcntl.fcntl(file, fcntl.F_DUPFD, 10) for file in (theirs_in, theirs_out)]
    nowhere = [(os.POSIX_SPAWN_OPEN, file, os.devnull, os.O_RDWR, 0) for file in (1, 2)]
    theirs = [
        (os.POSIX_SPAWN_DUP2, file, number) for number, file in enumerate(high, start=3)
    ]  # the protocol's numbers
    process = os.posix_spawn(BROWSER, command, os.environ, file_actions=[*nowhere, *theirs])
    for file in (theirs_in, theirs_out, *high):
        os.close(file)
    try:
        yield Page(ours_out, ours_in)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(ours_out)
