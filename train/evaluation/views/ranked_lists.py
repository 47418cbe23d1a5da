"""The images that are nearest to a query, as a person looks at them: each right, wrong or junk, with its rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from densereid.data_catalog.datasets.records import UNKNOWN
from densereid.train.evaluation.metrics import Labels, matching_cells, squared_distances
from densereid.train.evaluation.query_scores import QueryScores

LENGTH = 10
"""Images of a list."""


class Outcome(Enum):
    """What an image of a ranked list is for its query."""

    RIGHT = "right"
    """The same person."""
    WRONG = "wrong"
    """Another person, or a distractor."""
    JUNK = "junk"
    """Not ranked: labelled as junk, or the same person under the query's own camera."""


@dataclass(frozen=True)
class RankedImage:
    """An image of the gallery in a query's list."""

    image: int
    """Its number in the gallery, from 0."""
    outcome: Outcome
    rank: int
    """From 1; 0 for junk, which has none."""
    distance: float
    """Euclidean, of the embeddings."""


@dataclass(frozen=True)
class RankedList:
    """The nearest images of one query."""

    query: int
    """Its number among the queries, from 0."""
    images: tuple[RankedImage, ...]
    """The nearest, junk among them, which only takes a place."""
    first_match: RankedImage | None
    """The first right image where it lies behind these; None where it is among them, or there is none."""


def extreme_queries(values: Tensor, is_valid: Tensor, least: int, greatest: int) -> tuple[list[int], list[int]]:
    """The queries of the least and of the greatest ``values`` (N,), so many at most, most extreme first; none is in
    both.

    Only of those that are valid, bool (N,); of equal values the first leads. Where there are not enough, the least
    have half.
    """
    valid = torch.nonzero(is_valid)[:, 0]
    rising = valid[values[valid].sort(stable=True).indices].tolist()[: min(least, (len(valid) + 1) // 2)]
    falling = valid[values[valid].sort(stable=True, descending=True).indices].tolist()
    return rising, [query for query in falling if query not in rising][:greatest]


def worst_and_best(scores: QueryScores, worst: int, best: int) -> tuple[list[int], list[int]]:
    """The queries with a match of the lowest and of the highest average precision, so many at most."""
    return extreme_queries(scores.average_precision, scores.num_matches > 0, worst, best)


def ranked_lists(
    query: Tensor, query_labels: Labels, gallery: Tensor, gallery_labels: Labels, chosen: Sequence[int]
) -> list[RankedList]:
    """The lists of the ``chosen`` queries, of embeddings (num_query, D) and (num_gallery, D), in their order.

    Of equal distances the first in the gallery leads, as in the scores.
    """
    return [
        _ranked_list(number, squared_distances(query[number][None], gallery)[0].cpu(), query_labels, gallery_labels)
        for number in chosen
    ]


def _ranked_list(number: int, distances: Tensor, query: Labels, gallery: Labels) -> RankedList:
    matches, dropped = matching_cells(query.chosen(slice(number, number + 1)), gallery)
    matching, kept = torch.zeros_like(gallery.person_id, dtype=torch.bool), gallery.person_id != UNKNOWN
    matching[matches.column], kept[dropped.column] = True, False
    order = distances.sort(stable=True).indices
    ranks = kept[order].cumsum(0)

    def image(place: int) -> RankedImage:
        index = int(order[place])
        outcome = Outcome.RIGHT if matching[index] else Outcome.WRONG if kept[index] else Outcome.JUNK
        rank = int(ranks[place]) if kept[index] else 0
        return RankedImage(index, outcome, rank, float(distances[index].sqrt()))

    right = torch.nonzero(matching[order])[:, 0].tolist()
    first = image(right[0]) if right and right[0] >= LENGTH else None
    return RankedList(number, tuple(image(place) for place in range(min(LENGTH, len(order)))), first)
