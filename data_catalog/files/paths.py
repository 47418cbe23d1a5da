"""Where a store lives: a local folder, or a URL that fsspec knows. The only module that imports fsspec.

A local path is a pathlib.Path and everything about it stays pathlib's. A path at a URL is a :class:`UrlPath`,
which has the few methods of Path that stores use. It is not universal_pathlib's UPath, which answers "no" where
no server can be reached, forgets the host of some URLs and must not cross a fork (bench/RESULTS.md). Credentials and
endpoints are read from the environment by fsspec's own libraries (s3fs: AWS_PROFILE, AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, ...; gcsfs: GOOGLE_APPLICATION_CREDENTIALS, ...).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import fsspec

from densereid.data_catalog.errors import UserError, masked

_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
"""The package that fsspec wants for each protocol of an object store; none is a requirement of ours."""

_CREDENTIALS = {
    "s3fs": "AWS_PROFILE, or AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY; AWS_ENDPOINT_URL for another server",
    "gcsfs": "GOOGLE_APPLICATION_CREDENTIALS, or gcloud auth application-default login",
    "adlfs": "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY",
}

_CLIENTS = {"botocore", "aiobotocore", "s3fs", "gcsfs", "google", "adlfs", "azure", "aiohttp"}
"""Libraries whose own exceptions mean that a URL cannot be reached; not all of them are OSErrors."""


@dataclass(frozen=True, order=True)
class UrlPath:
    """A file or folder at a URL, with the methods of pathlib.Path that stores use.

    Objects are written whole or not at all, as S3 and Google Cloud Storage do it. It holds nothing but the URL:
    connections are fsspec's, made per process, so that it may cross a fork and a pickle. Every method raises
    UserError where the URL cannot be reached: a missing package, bucket or permission, or no network.
    """

    url: str

    def __str__(self) -> str:
        """The URL as it may be shown and recorded: without the secrets that it holds."""
        return masked(self.url)

    def __repr__(self) -> str:
        return f"UrlPath({str(self)!r})"

    def __truediv__(self, name: str) -> UrlPath:
        return UrlPath(f"{self.url.rstrip('/')}/{name}")

    @property
    def protocol(self) -> str:
        """What stands before ``://``."""
        return self.url.partition("://")[0]

    @property
    def name(self) -> str:
        """The last component."""
        return PurePosixPath(self.url).name

    @property
    def parent(self) -> UrlPath:
        """The folder it lies in."""
        return UrlPath(self.url.rstrip("/").rpartition("/")[0])

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.url).stem

    @property
    def suffix(self) -> str:
        """The name's suffix, with its dot."""
        return PurePosixPath(self.url).suffix

    def absolute(self) -> UrlPath:
        """Itself: a URL does not depend on the working directory."""
        return self

    def is_file(self) -> bool:
        """Whether there is an object."""
        with url_errors_as_user_errors(self):
            system, path = self._system()
            try:
                return bool(system.info(path)["type"] == "file")
            except FileNotFoundError:
                return False

    def glob(self, pattern: str) -> list[UrlPath]:
        """What is directly in this folder and whose name fits the pattern, sorted; nothing where there is no folder."""
        with url_errors_as_user_errors(self):
            system, path = self._system()
            try:
                entries = system.ls(path, detail=False)
            except FileNotFoundError:
                return []
        names = {PurePosixPath(entry).name for entry in entries if entry.rstrip("/") != path.rstrip("/")}
        return sorted(self / name for name in names if fnmatch(name, pattern))

    def read_bytes(self) -> bytes:
        """The object's content."""
        with url_errors_as_user_errors(self):
            system, path = self._system()
            return bytes(system.cat_file(path))

    def read_text(self, encoding: str) -> str:
        """The object's content as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Put the object, whole."""
        with url_errors_as_user_errors(self):
            system, path = self._system()
            system.pipe_file(path, content)

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object."""
        with url_errors_as_user_errors(self):
            system, path = self._system()
            try:
                system.rm_file(path)
            except FileNotFoundError:
                if not missing_ok:
                    raise

    def copy_to(self, target: UrlPath) -> None:
        """Copy the object, by the server."""
        with url_errors_as_user_errors(self):
            system, path = self._system()
            system.cp_file(path, target._system()[1])

    def move_to(self, target: UrlPath, *, last: str) -> None:
        """Move this folder to the place of ``target``, whose file ``last`` goes first and comes after all others."""
        (target / last).unlink(missing_ok=True)
        target.remove()
        with url_errors_as_user_errors(self):
            system, folder = self._system()
            files = [file[len(folder) :].lstrip("/") for file in system.find(folder)]
        for name in sorted(files, key=lambda name: name == last):
            (self / name).copy_to(target / name)
        self.remove()

    def remove(self) -> None:
        """Delete this folder and everything below it, if it is there."""
        with url_errors_as_user_errors(self), suppress(FileNotFoundError):
            system, path = self._system()
            system.rm(path, recursive=True)

    def num_bytes(self) -> int:
        """Bytes of everything below this folder."""
        with url_errors_as_user_errors(self):
            system, path = self._system()
            return sum(entry["size"] for entry in system.find(path, detail=True).values())

    def _system(self) -> tuple[Any, str]:
        # Listings are never remembered: another process may have written a shard since.
        system, path = fsspec.url_to_fs(self.url, use_listings_cache=False)
        return system, str(path)


AnyPath = Path | UrlPath


def parse_path(text: str | AnyPath) -> AnyPath:
    """The path that a text names; ``file://`` URLs are local folders.

    Raises UserError for a protocol that fsspec does not know, and for what is no URL.
    """
    if not isinstance(text, str):
        return text
    protocol, separator, _ = text.partition("://")
    if not separator:
        return Path(text)
    if protocol in ("file", "local"):
        try:
            return Path(unquote(urlsplit(text).path))
        except ValueError as error:
            raise UserError(f"{text} is no URL: {error}", "give the folder without file://") from error
    if protocol not in fsspec.available_protocols():
        raise UserError(
            f"{text}: '{protocol}' is no protocol that fsspec knows",
            "expected a local folder, or a URL like s3://BUCKET/FOLDER or gs://BUCKET/FOLDER",
        )
    return UrlPath(text.rstrip("/"))


def folder_bytes(path: AnyPath) -> int:
    """Bytes of all files below a folder."""
    if isinstance(path, UrlPath):
        return path.num_bytes()
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def free_bytes(path: AnyPath) -> int | None:
    """Free bytes of the disk on which a folder is or would be made; None at a URL, where it is not known."""
    if isinstance(path, UrlPath):
        return None
    return shutil.disk_usage(nearest_folder(path)).free


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the nearest of those above it that exists."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def upload(path: UrlPath, build: Callable[[Path], None], *, last: str) -> None:
    """Put the files that ``build`` makes in a temporary folder at ``path``, the file ``last`` after all others."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "store"
        build(folder)
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        for file in sorted(files, key=lambda file: file == folder / last):
            (path / file.relative_to(folder).as_posix()).write_bytes(file.read_bytes())


@contextmanager
def url_errors_as_user_errors(path: AnyPath) -> Iterator[None]:
    """Turn a failure to reach a URL into a UserError that names it; a local folder's errors pass as they are."""
    try:
        yield
    except Exception as error:
        if isinstance(path, Path) or not _is_out_of_reach(error):
            raise
        raise _explanation(path, error) from error


def _is_out_of_reach(error: Exception) -> bool:
    return isinstance(error, (OSError, ImportError)) or type(error).__module__.partition(".")[0] in _CLIENTS


def _explanation(path: UrlPath, error: Exception) -> UserError:
    package = _PACKAGES.get(path.protocol, "")
    credentials = _CREDENTIALS.get(package, f"see fsspec's documentation of {path.protocol}://")
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, ImportError):
        return UserError(
            f"{path} needs a package that is not installed: {package or reason}",
            f"pip install {package}" if package else "install what is named, or use a local folder",
        )
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path} is not there: {reason}", "make the bucket first, or correct STORE_ROOT")
    if isinstance(error, PermissionError) or "credentials" in reason.lower():
        return UserError(
            f"{path} may not be used with the credentials that were found: {reason}", f"credentials: {credentials}"
        )
    return UserError(
        f"{path} cannot be reached: {type(error).__name__}: {reason}",
        f"check the network and the server, then run the same command again; it continues. Credentials: {credentials}",
    )
