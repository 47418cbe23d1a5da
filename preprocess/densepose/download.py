"""Fetching one published file: it appears whole and read, or not at all; what broke off is continued."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.atomic import write_json
from densereid.data_catalog.files.sealed_json import parsed_json
from densereid.data_catalog.files.writer_lock import in_turn

if TYPE_CHECKING:
    from requests import Response

_TIMEOUT = 30.0
_BLOCK = 2**16
"""Bytes that are written at once; of a block that breaks off nothing is kept."""

_Read = TypeVar("_Read")


def download(url: str, target: Path, *, read: Callable[[Path], _Read], notify: Callable[[str], None]) -> _Read:
    """What ``read`` makes of the file at ``url``, which lies at ``target`` once that has read it.

    A bar is shown on a terminal. What breaks off stays beside ``target`` as NAME.partial and is continued the next
    time where the server can tell that the file is still the same, and fetched again where it cannot. Two processes
    take turns, and the second finds the file. Raises UserError where ``read`` does, and nothing of the file is kept;
    OSError where it cannot be fetched, requests' own included.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(".downloading-*"):  # by versions that could not continue what was killed
        shutil.rmtree(left, ignore_errors=True)
    partial = target.with_name(f"{target.name}.partial")
    with in_turn(target, lambda: notify(f"another process is fetching {target.name}; waiting for it")):
        if target.is_file():  # another process was first
            _discard(partial)
            return read(target)
        try:
            sender = _fetch(url, partial, notify)
        except BaseException:
            if not _record(partial, url):
                _discard(partial)
            raise
        return _accept(sender, partial, target, read)


def _accept(sender: str, partial: Path, target: Path, read: Callable[[Path], _Read]) -> _Read:
    try:
        content = read(partial)
    except UserError as error:
        size = partial.stat().st_size
        _discard(partial)
        raise UserError(
            f"what {sender} sent ({size} bytes) is not the file that was asked for: {error.problem}",
            "it was deleted, and nothing of it is recorded. A login or a proxy may be in the way: try again, or get "
            f"the file elsewhere and put it at {target}",
        ) from error
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(target)
    _discard(partial)
    return content


def _fetch(url: str, partial: Path, notify: Callable[[str], None]) -> str:
    """Bring all of ``url`` into ``partial``, continuing what is there; the address that sent it, after redirections."""
    import requests  # takes a tenth of a second, and most often the weights are in the cache

    record = _record(partial, url)
    have = min(partial.stat().st_size, record.get("bytes", 0)) if record and partial.is_file() else 0
    if record and have == record["bytes"]:
        os.truncate(partial, have)
        return url
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-", "If-Range": record["validator"]}
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as answer:
        if have and (
            answer.status_code == requests.codes.requested_range_not_satisfiable or _is_another_part(answer, have)
        ):
            _discard(partial)
            return _fetch(url, partial, notify)
        answer.raise_for_status()
        continued = answer.status_code == requests.codes.partial_content
        if continued:
            notify(f"continuing what broke off after {have} bytes")
        else:
            _write_record(partial, url, answer)
        _write(answer, partial, have if continued else 0)
        return answer.url


def _is_another_part(answer: Response, have: int) -> bool:
    """Whether a server that was asked for what is missing sends some other part."""
    sent = answer.headers.get("Content-Range", "")
    return answer.status_code == 206 and not sent.startswith(f"bytes {have}-")


def _write(answer: Response, partial: Path, have: int) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    length = answer.headers.get("Content-Length", "")
    total = have + int(length) if length.isdecimal() else None
    columns = (BarColumn(), TaskProgressColumn(), DownloadColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
    with partial.open("ab" if have else "wb") as file, bar:
        task = bar.add_task("", total=total, completed=have)
        for block in answer.iter_content(_BLOCK):
            file.write(block)
            file.flush()  # what a killed process leaves is as much as the bar said
            bar.advance(task, len(block))


def _record_of(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _write_record(partial: Path, url: str, answer: Response) -> None:
    """Keep what lets a server tell that its file is still the same; of a weak tag or none nothing can be continued."""
    _discard(partial)
    tag, length = answer.headers.get("ETag", "W/"), answer.headers.get("Content-Length", "")
    validator = answer.headers.get("Last-Modified") if tag.startswith("W/") else tag
    as_it_is = "Content-Encoding" not in answer.headers  # or the length would be another than the file's
    if validator and length.isdecimal() and as_it_is:
        write_json(_record_of(partial), {"url": url, "validator": validator, "bytes": int(length)})


def _record(partial: Path, url: str) -> dict[str, Any]:
    """What :func:`_write_record` wrote for ``url``; empty where ``partial`` cannot be continued."""
    try:
        record: dict[str, Any] = parsed_json(_record_of(partial).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return (
        record
        if isinstance(record, dict) and record.keys() >= {"validator", "bytes"} and record.get("url") == url
        else {}
    )


def _discard(partial: Path) -> None:
    """Delete ``partial`` and what is known of it."""
    _record_of(partial).unlink(missing_ok=True)
    partial.unlink(missing_ok=True)
