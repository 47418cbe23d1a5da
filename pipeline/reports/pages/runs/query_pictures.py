"""Ranked lists as pictures: each image with its sign, its rank, who it shows, and its mask for whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from densereid.data_catalog.store.store import Store
from densereid.pipeline.reports.pages.pictures import camera_text, image_url, mask_url, person_text
from densereid.pipeline.reports.pages.runs.results import RunsReport, ShownActivations, ShownQueries
from densereid.train.evaluation.views.ranked_lists import Outcome, RankedImage, RankedList

_SIGNS = {Outcome.RIGHT: "✓", Outcome.WRONG: "✗", Outcome.JUNK: "○"}
_HEIGHT = 128


@dataclass(frozen=True)
class Tile:
    """One image of a store, as a page shows it."""

    image: str
    mask: str
    person: str
    camera: str
    path: str


@dataclass(frozen=True)
class ListedTile:
    """An image of a ranked list."""

    tile: Tile
    sign: str
    outcome: str
    rank: str
    distance: str


@dataclass(frozen=True)
class ListView:
    """What one run ranks for a query."""

    run: str
    average_precision: float
    first_match: int
    tiles: Sequence[ListedTile]
    later: ListedTile | None
    """The first right image where it lies behind the others."""


@dataclass(frozen=True)
class QueryView:
    """A query and its lists."""

    tile: Tile
    lists: Sequence[ListView]


@dataclass(frozen=True)
class GroupView:
    """Queries that are shown for one reason."""

    title: str
    why: str
    queries: Sequence[QueryView]


class _Tiles:
    """The images of some rows, read from the store at once."""

    def __init__(self, store: Store, rows: np.ndarray) -> None:
        self._place = {int(row): place for place, row in enumerate(rows)}
        names = ("image", "mask", "person_id", "camera_id", "path")
        self._read = {name: store.read(name, rows) for name in names}

    def tile(self, row: int) -> Tile:
        """The image of a row."""
        values = {name: read[self._place[int(row)]] for name, read in self._read.items()}
        person, camera = person_text(int(values["person_id"])), camera_text(int(values["camera_id"]))
        image, mask = image_url(values["image"], height=_HEIGHT), mask_url(values["mask"], height=_HEIGHT)
        return Tile(image, mask, person, camera, str(values["path"]))


def query_groups(report: RunsReport) -> list[GroupView]:
    """The report's queries with their pictures."""
    ranked = report.ranked
    lists = [each for group in report.queries for found in group.lists.values() for each in found]
    used = {int(ranked.query_rows[each.query]) for each in lists}
    used |= {int(ranked.gallery_rows[image.image]) for each in lists for image in _images(each)}
    tiles = _Tiles(ranked.store, np.array(sorted(used), np.int64))
    return [_group(group, report, tiles) for group in report.queries]


def _images(found: RankedList) -> list[RankedImage]:
    return [*found.images, *([found.first_match] if found.first_match else [])]


def _group(group: ShownQueries, report: RunsReport, tiles: _Tiles) -> GroupView:
    queries = [
        QueryView(
            tiles.tile(report.ranked.query_rows[number]),
            [_list(index, each, report, tiles) for index, each in enumerate(lists)],
        )
        for number, lists in group.lists.items()
    ]
    return GroupView(group.title, group.why, queries)


def _list(run: int, found: RankedList, report: RunsReport, tiles: _Tiles) -> ListView:
    def listed(image: RankedImage) -> ListedTile:
        tile = tiles.tile(report.ranked.gallery_rows[image.image])
        rank = str(image.rank) if image.rank else "junk"
        return ListedTile(tile, _SIGNS[image.outcome], image.outcome.value, rank, f"{image.distance:.2f}")

    scores = report.runs[run].findings.scores
    later = listed(found.first_match) if found.first_match else None
    average, first = float(scores.average_precision[found.query]), int(scores.first_match[found.query])
    return ListView(report.runs[run].name, average, first, [listed(image) for image in found.images], later)


@dataclass(frozen=True)
class ActivationView:
    """A query and where each run looks in it."""

    tile: Tile
    pictures: Sequence[tuple[str, str]]
    """Name of the run, and the picture."""


def activation_views(report: RunsReport) -> list[ActivationView]:
    """The report's activations as pictures."""
    shown: ShownActivations = report.activations
    tiles = _Tiles(report.ranked.store, shown.rows)
    return [
        ActivationView(
            tiles.tile(row),
            [
                (run.name, image_url(pictures[place], height=_HEIGHT))
                for run, pictures in zip(report.runs, shown.pictures, strict=True)
            ],
        )
        for place, row in enumerate(shown.rows)
    ]
