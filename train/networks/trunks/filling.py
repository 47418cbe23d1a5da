"""A trunk filled with the weights of a file: what matched and what did not, said in words."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isqrt

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from densereid.data_catalog.errors import UserError
from densereid.train.networks.finite import not_finite
from densereid.train.networks.trunks.weights_file import known_beginnings, named_weights

log = logging.getLogger(__name__)

_NAMED = 3
_COUNTER = "num_batches_tracked"
"""Of batch norms; older files have none, and nothing reads it."""


@dataclass(frozen=True)
class Filled:
    """A network's tensors that are to be filled, and what a message calls the network."""

    wanted: Mapping[str, Tensor]
    """By their names in timm's network."""
    others: frozenset[str]
    """Names of the network's tensors that are not wanted."""
    architecture: str
    grid: tuple[int, ...] = ()
    """Rows and columns of a transformer's patches."""


def fill(network: Filled, state: Mapping[str, Tensor], source: str) -> None:
    """Copy the ``state`` of a file into the wanted tensors.

    All of them must be there in the same shape, but for positions of a transformer, which are resampled, and axes of
    length 1. What else the file holds is left out and named in the log, unless it is more of a stage than the network
    has. Raises UserError.
    """
    wanted, architecture = network.wanted, network.architecture
    found = named_weights(state, wanted)
    given = {name: _fitted(value, name, network) for name, value in found.weights.items()}
    matched = [name for name in wanted if name in given and given[name].shape == wanted[name].shape]
    if not any(name in given for name in wanted):
        raise _nothing_matches(network, state, source)
    if problem := not_finite({name: given[name] for name in matched}):
        raise UserError(f"weights {source!r}: {problem}", "They cannot train anything: give other weights.")
    _check(network, given, source, len(matched))
    with torch.no_grad():
        for name in matched:
            wanted[name].copy_(given[name])
    left = [name for name in found.weights if name not in wanted] + list(found.elsewhere)
    also = f"; {len(left)} left out: {_some(left)}" if left else ""
    log.info(
        "%s starts from %s, names %s: %d of %d tensors matched%s.",
        architecture, source, found.layout, len(matched), len(wanted), also,
    )  # fmt: skip


def _fitted(value: Tensor, name: str, network: Filled) -> Tensor:
    """The tensor in the shape that is wanted, where that is another view of it or other positions."""
    target, grid = network.wanted.get(name), network.grid
    if target is None or target.shape == value.shape:
        return value
    if [side for side in value.shape if side != 1] == [side for side in target.shape if side != 1]:
        return value.reshape(target.shape)
    if name == "pos_embed" and grid and value.ndim == 3 and value.shape[2] == target.shape[2]:
        return _resampled(value, target, grid)
    return value


def _resampled(positions: Tensor, target: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Positions (1, P + n, C) of a square image, or one twice as high as wide, at the patches of ``grid``."""
    prefix = target.shape[1] - grid[0] * grid[1]
    number = positions.shape[1] - prefix
    for rows_in_column in (1, 2):
        columns = isqrt(max(number, 0) // rows_in_column)
        old = [rows_in_column * columns, columns]
        if number > 0 and old[0] * old[1] == number:
            resampled: Tensor = resample_abs_pos_embed(positions, list(grid), old, num_prefix_tokens=prefix)
            return resampled
    return positions


def _check(network: Filled, given: Mapping[str, Tensor], source: str, matched: int) -> None:
    wanted, architecture = network.wanted, network.architecture
    stages = {name.partition(".")[0] for name in wanted}
    unknown = given.keys() - wanted.keys() - network.others
    problems = {
        "missing": sorted(name for name in set(wanted) - set(given) if not name.endswith(_COUNTER)),
        "unexpected": sorted(name for name in unknown if name.partition(".")[0] in stages),
        "of another shape": [name for name in wanted if name in given and wanted[name].shape != given[name].shape],
    }
    summary = "; ".join(f"{len(names)} {kind} ({names[0]}, ...)" for kind, names in problems.items() if names)
    if not summary:
        return
    shapes = [
        f"; {name} is {_size(given[name])} there and {_size(wanted[name])} here"
        for name in problems["of another shape"][:1]
    ]
    raise UserError(
        f"the weights {source!r} do not fit {architecture}: {summary}{''.join(shapes)}; {matched} of {len(wanted)} "
        "matched",
        f"Give a state dict of {architecture}, or set model.backbone to the network that they are of.",
    )


def _nothing_matches(network: Filled, state: Mapping[str, Tensor], source: str) -> UserError:
    return UserError(
        f"none of the {len(state)} tensors in the weights {source!r} is one of {network.architecture}'s: it has "
        f"{_some(state)}; expected {_some(network.wanted)}",
        f"Give weights of {network.architecture}. Their names may begin with {known_beginnings()}.",
    )


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:_NAMED]) + (", ..." if len(shown) > _NAMED else "")


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
