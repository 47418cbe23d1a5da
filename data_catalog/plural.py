"""Numbers in sentences."""

from __future__ import annotations

_ENDINGS = (("y", "ies"), ("x", "xes"), ("s", "ses"), ("sh", "shes"))


def plural(number: int, noun: str) -> str:
    """The number with its noun, given as for one: ``1 shard``, ``0 shards``, ``2,000 images``, ``3 identities``."""
    if number == 1:
        return f"1 {noun}"
    ending, several = next(((one, many) for one, many in _ENDINGS if noun.endswith(one)), ("", "s"))
    return f"{number:,} {noun.removesuffix(ending)}{several}"
