"""A server of files on this machine that misbehaves as real ones do."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

LOGIN = b"<!DOCTYPE html><html><title>Sign in</title></html>"


@dataclass
class FileServer:
    """``content`` under every path; each request's headers in ``asked``.

    ``etag`` and ``last_modified`` are sent where they are set. ``ranges``: whether a part can be had; ``part``: the
    status for one, and how far from what was asked it begins. ``most``: bytes after which every answer breaks off.
    ``length``: the Content-Length that is said, instead of the true one; -1 for none. ``encoding``: what the content is
    said to be packed by. ``moved``: redirect there first.
    ``held``: what waits before the last byte is sent, while it is not set.
    """

    content: bytes
    etag: str = '"1"'
    last_modified: str = ""
    ranges: bool = True
    part: tuple[int, int] = (206, 0)
    most: int | None = None
    length: int | None = None
    encoding: str = ""
    moved: str = ""
    held: threading.Event | None = None
    asked: list[dict[str, str]] = field(default_factory=list)
    address: str = ""


class _Server(http.server.ThreadingHTTPServer):
    files: FileServer


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        files = self.server.files
        files.asked.append(dict(self.headers))
        if files.moved and self.path != files.moved:
            self._answer(302, {"Location": files.moved, "Content-Length": "0"})
            return
        start = self._start()
        status, start = (files.part[0], start + files.part[1]) if start else (200, 0)
        self._answer(status, self._headers(status, start))
        content = files.content[start:][: files.most]
        if files.held is not None:
            self.wfile.write(content[:-1])
            self.wfile.flush()
            files.held.wait(20)
            content = content[-1:]
        self.wfile.write(content)

    def _start(self) -> int:
        files, validator = self.server.files, self.headers.get("If-Range")
        if not files.ranges or "Range" not in self.headers or validator not in (files.etag, files.last_modified):
            return 0
        return int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))

    def _headers(self, status: int, start: int) -> dict[str, str]:
        files = self.server.files
        size = len(files.content)
        headers = {"ETag": files.etag, "Last-Modified": files.last_modified, "Content-Encoding": files.encoding}
        if files.length != -1:
            headers["Content-Length"] = str(size - start if files.length is None else files.length)
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        return headers

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, *arguments: object) -> None: ...


@contextmanager
def serving(files: FileServer) -> Iterator[FileServer]:
    """The server at work, with its ``address``."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.files = files
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    files.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield files
    finally:
        if files.held is not None:
            files.held.set()
        server.shutdown()
        server.server_close()
        thread.join()
