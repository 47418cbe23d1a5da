"""Ranks of chosen columns of a table of distances, without sorting the table.

A column's rank in its row is one more than the columns before it: the smaller ones, and the equal ones of a lower
index. That is its place in a stable sort, for one pass over the row. Both ways here give the same ranks: the one for
the CPU counts row by row, while a row is in the processor's cache, the other one takes many rows at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MOST_COUNTED = 256
"""Columns of a row up to which counting is faster than a sort of the row (16,000 columns: 4 us each against 1.2 ms)."""


@dataclass(frozen=True)
class Cells:
    """Cells of a table, int64 (N,) each, sorted by row and then by column."""

    row: Tensor
    column: Tensor

    def to(self, device: torch.device) -> Cells:
        """The same on another device."""
        return Cells(self.row.to(device), self.column.to(device))


def stable_ranks(distances: Tensor, chosen: Cells, left_out: Cells) -> Tensor:
    """Ranks from 1 of the ``chosen`` cells in their rows of ``distances`` (rows, columns), int64, on its device.

    Equal distances are ordered by column. Cells that are ``left_out`` have no place in a row; none of them is chosen.
    All distances are finite.
    """
    ranks = ranks_by_row if distances.device.type == "cpu" else ranks_by_table
    return ranks(distances, chosen.to(distances.device), left_out.to(distances.device))


def ranks_by_row(distances: Tensor, chosen: Cells, left_out: Cells) -> Tensor:
    """:func:`stable_ranks` on the CPU, one row at a time."""
    table = (distances if distances.dtype == torch.float64 else distances.float()).detach().numpy()
    ranks = np.empty(len(chosen.row), np.int64)
    every_row = torch.arange(len(table) + 1)
    bounds, gaps = (torch.searchsorted(cells.row, every_row).tolist() for cells in (chosen, left_out))
    columns, absent = chosen.column.numpy(), left_out.column.numpy()
    for row, values in enumerate(table):
        ours, away = slice(bounds[row], bounds[row + 1]), absent[gaps[row] : gaps[row + 1]]
        if ours.start == ours.stop:
            continue
        wanted = columns[ours]
        if len(away):
            values, wanted = np.delete(values, away), wanted - np.searchsorted(away, wanted)
        ranks[ours] = _sorted_places(values, wanted) if len(wanted) > MOST_COUNTED else _counted_places(values, wanted)
    return torch.from_numpy(ranks + 1)


def _counted_places(values: np.ndarray, wanted: np.ndarray) -> list[int]:
    """How many of ``values`` a stable sort has before each wanted one."""
    return [
        int(np.count_nonzero(values[:column] <= value) + np.count_nonzero(values[column:] < value))
        for column, value in zip(wanted.tolist(), values[wanted], strict=True)
    ]


def _sorted_places(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    place = np.empty(len(values), np.int64)
    place[values.argsort(kind="stable")] = np.arange(len(values))
    return place[wanted]


def ranks_by_table(distances: Tensor, chosen: Cells, left_out: Cells) -> Tensor:
    """:func:`stable_ranks` on any device, as many chosen cells at a time as ``distances`` has rows."""
    rows, columns = distances.shape
    # Behind all others, for here all rows have one length.
    table = distances.index_put((left_out.row, left_out.column), distances.new_tensor(torch.inf))
    index = torch.arange(columns, device=distances.device)
    if len(chosen.row) > MOST_COUNTED * rows:
        order = table.argsort(dim=1, stable=True)
        return 1 + torch.empty_like(order).scatter_(1, order, index.expand_as(order))[chosen.row, chosen.column]
    ranks = [chosen.row.new_empty(0)]
    for row, column in zip(chosen.row.split(rows), chosen.column.split(rows), strict=True):
        values, wanted = table[row], table[row, column][:, None]
        ranks.append(1 + ((values < wanted) | ((values == wanted) & (index < column[:, None]))).sum(1))
    return torch.cat(ranks)
