"""Frames of Zstandard that hold what they should: a file may claim any size, and memory would be taken for it."""

from __future__ import annotations

from numcodecs import zstd

_SHORTEST = 5
"""Magic number and header."""


def decompress(frame: bytes, size: int) -> bytes:
    """What a frame holds. Raises ValueError, before memory is taken, where it says that this is not ``size`` bytes.

    RuntimeError where it is damaged.
    """
    if len(frame) < _SHORTEST or _content_size(frame) != size:
        raise ValueError(f"a compressed chunk does not hold {size} bytes")
    result: bytes = zstd.decompress(frame)
    return result


def _content_size(frame: bytes) -> int:
    """How many bytes a frame says that it holds (RFC 8878, 3.1.1.1): it may say anything."""
    flag, single, dictionary = frame[4] >> 6, frame[4] >> 5 & 1, frame[4] & 3
    start, length = 6 - single + (0, 1, 2, 4)[dictionary], (single, 2, 4, 8)[flag]
    return int.from_bytes(frame[start : start + length], "little") + (256 if flag == 1 else 0)
