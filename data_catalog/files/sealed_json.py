"""JSON and YAML, read whatever they are; and JSON with a checksum of its own, by which a changed digit is noticed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import yaml

SEAL = "content_crc32"
"""The key of the checksum: CRC-32 of all other keys and values, as compact JSON with sorted keys."""

_MOST_VALUES = 100_000
"""With every alias written out. The largest file that we ship has some thousands."""


def parsed_json(content: str | bytes) -> Any:
    """What JSON says. Raises ValueError where it is none, also for what nests deeper than Python calls."""
    try:
        return json.loads(content if isinstance(content, str) else content.decode("utf-8"))
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with its checksum."""
    return {**content, SEAL: _checksum(content)}


def is_sealed(content: Any) -> bool:
    """Whether something read from JSON has its checksum and is what was written."""
    try:
        return isinstance(content, dict) and content.get(SEAL) == _checksum(content)
    except RecursionError:
        return False


def _checksum(content: Mapping[str, Any]) -> int:
    others = {key: value for key, value in content.items() if key != SEAL}
    return zlib.crc32(json.dumps(others, sort_keys=True, separators=(",", ":")).encode())


def load_yaml(text: str) -> Any:
    """What a YAML text says, of plain types; a few lines of it can stand for a billion values.

    Raises ValueError in words where it is no YAML, or stands for too much.
    """
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        count = _count(node, {})
        if count > _MOST_VALUES:
            raise ValueError(f"it stands for {count} values, its aliases written out; at most {_MOST_VALUES} are read")
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError:
        raise ValueError("it nests too deeply, or a part of it holds itself") from None
    finally:
        if loader is not None:
            loader.dispose()


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    """Values at and below a node; ``known`` are those of the nodes that were counted already."""
    if id(node) not in known:
        children = [child for pair in node.value for child in pair] if isinstance(node, yaml.MappingNode) else []
        children = node.value if isinstance(node, yaml.SequenceNode) else children
        known[id(node)] = 1 + sum(_count(child, known) for child in children)
    return known[id(node)]
