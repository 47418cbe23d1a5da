"""JSON that carries its own checksum, so that a changed digit is noticed wherever it is read."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

SEAL = "content_crc32"
"""The key of the checksum: CRC-32 of all other keys and values, as compact JSON with sorted keys."""


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with its checksum."""
    return {**content, SEAL: _checksum(content)}


def is_sealed(content: Any) -> bool:
    """Whether something read from JSON has its checksum and is what was written."""
    return isinstance(content, dict) and content.get(SEAL) == _checksum(content)


def _checksum(content: Mapping[str, Any]) -> int:
    others = {key: value for key, value in content.items() if key != SEAL}
    return zlib.crc32(json.dumps(others, sort_keys=True, separators=(",", ":")).encode())
