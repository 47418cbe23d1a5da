"""CUHK01's protocol: ten seeded halves of its persons, query and gallery in turn, mean and deviation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from densereid.data_catalog.datasets.lookup import find_dataset, find_spec
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Split
from densereid.pipeline.commands import ablation
from densereid.pipeline.commands.ablation import AblationRequest, run_ablation
from densereid.pipeline.commands.networks import splits
from densereid.pipeline.reports.network_tables import splits_table
from densereid.pipeline.store_request import StoreRequest
from densereid.train.evaluation.directions import score_both_directions
from densereid.train.evaluation.metrics import Labels, Scores, ScoringError, score_embeddings

CATALOG = """
two-views:
  title: eight people under two cameras
  folders: [two-views]
  halves: {folder: campus, train_identities: 4}
  file_name: '(?P<person>\\d{4})(?P<camera>\\d{3})\\.png'
  cameras: {1: 1, 2: 1, 3: 2, 4: 2}
  example: 0001001.png
  obtain: here
"""


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """A catalog with a dataset of random halves, whose images are beside it."""
    folder = tmp_path / "two-views" / "campus"
    folder.mkdir(parents=True)
    for person in range(1, 9):
        for view in range(1, 5):
            (folder / f"{person:04d}{view:03d}.png").touch()
    (tmp_path / "catalog.yaml").write_text(CATALOG)
    return tmp_path / "catalog.yaml"


def random_side(seed: int, cameras: int, count: int = 30) -> tuple[torch.Tensor, Labels]:
    random = np.random.default_rng(seed)
    people = torch.from_numpy(random.integers(1, 9, count))
    vectors = torch.nn.functional.normalize(torch.from_numpy(random.normal(size=(count, 5))).float())
    return vectors, Labels(people, torch.full((count,), cameras))


def test_both_directions_are_the_mean_of_query_and_gallery_in_turn() -> None:
    query, gallery = random_side(0, 1), random_side(1, 2, 40)
    there, back = score_embeddings(*query, *gallery), score_embeddings(*gallery, *query)
    assert there.rank_1 != back.rank_1
    both = score_both_directions(*query, *gallery)
    assert both == score_both_directions(*gallery, *query)
    assert both.rank_1 == pytest.approx((there.rank_1 + back.rank_1) / 2)
    assert both.mean_average_precision == pytest.approx(
        (there.mean_average_precision + back.mean_average_precision) / 2
    )
    assert (both.num_queries, both.num_gallery) == (70, 70)
    alone = (gallery[0], replace(gallery[1], camera_id=torch.full((40,), 1), person_id=torch.full((40,), 99)))
    with pytest.raises(ScoringError):
        score_both_directions(*query, *alone)


def test_splits_are_seeded_halves_that_differ_and_cover_everybody(halves: Path) -> None:
    tests = []
    for number in range(4):
        found = find_dataset(f"two-views-split{number}", halves.parent, catalog=halves)
        assert found.name == f"two-views-split{number}"
        train = {record.person_id for record in found.records if record.split == Split.TRAIN}
        tests.append({record.person_id for record in found.records} - train)
        assert (len(train), len(tests[-1])) == (4, 4)
    plain = find_dataset("two-views", halves.parent, catalog=halves)
    assert {record.person_id for record in plain.records if record.split != Split.TRAIN} == tests[0]
    assert len({tuple(sorted(people)) for people in tests}) > 2
    assert find_spec("cuhk01-split9").halves == replace(find_spec("cuhk01").halves, seed=9)  # type: ignore[type-var]
    for name in ("market-split1", "cuhk01-split", "cuhk01-split01", "cuhk01-splitx"):
        with pytest.raises(UserError, match=f"unknown dataset '{name}'"):
            find_spec(name)


def _scores(value: float) -> Scores:
    return Scores(value, value, value, value, value, value, 1, 1, 1)


def test_a_table_over_splits_is_the_mean_beside_the_papers_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def scored(
        table: object, request: AblationRequest, *, both_directions: bool
    ) -> tuple[Path, str, dict[str, list[Scores]]]:
        name = request.store.dataset
        asked.append((name, both_directions))
        return tmp_path / f"ablation-{name}-net", name, {"DSA-reID": [_scores(0.8 + 0.01 * int(name[-1]))]}

    monkeypatch.setattr(ablation, "_scored", scored)
    store = StoreRequest("cuhk01", tmp_path, tmp_path, "zarr", (64, 32), 32, "last")
    request = AblationRequest(store, "dsa-2", "dsa-reid-small", (0,), {}, tmp_path, splits=10)
    path = run_ablation(request)
    assert asked == [(f"cuhk01-split{number}", True) for number in range(10)]
    assert path == tmp_path / "ablation-cuhk01-dsa-reid-small" / "dsa-2.md"
    values = [80.0 + number for number in range(10)]
    assert (
        f"| DSA-reID | 10 | {mean(values):.1f} ±{stdev(values):.1f} / 88.6 / {mean(values) - 88.6:+.1f} |"
        in path.read_text()
    )
    assert "DSA-reID,f,0 of split 9,89.00" in path.with_suffix(".csv").read_text()
    with pytest.raises(UserError, match="market has no random splits, and SPLITS is 10\nLeave it out"):
        run_ablation(replace(request, store=replace(store, dataset="market")))
    with pytest.raises(UserError, match="SPLITS makes a store for each split, and STORE_PATH names one"):
        run_ablation(replace(request, store_path=tmp_path))


def test_the_table_of_splits_ends_with_mean_and_deviation() -> None:
    table = splits_table({"a": _scores(0.7), "b": _scores(0.8)})
    assert list(table.columns[1].cells) == ["70.0", "80.0", "75.0 ±7.1"]
    assert list(table.columns[0].cells)[-1] == "mean of 2 splits"


def test_runs_of_splits_are_each_scored_on_their_own_store(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = {name: (random_side(seed, 1), random_side(seed + 9, 2)) for seed, name in enumerate(("a", "b"))}

    def opened(run: Path, *, store_path: None, **_: object) -> SimpleNamespace:
        query, gallery = sides[run.name]
        store = SimpleNamespace(path=Path(f"{run.name}.zarr"))
        return SimpleNamespace(store=store, embedded=lambda: {Split.QUERY: query, Split.GALLERY: gallery})

    monkeypatch.setattr(splits, "open_run", opened)
    monkeypatch.setattr(splits, "store_fingerprint", lambda store: {"digest": store.path.name})
    found = splits.evaluate_splits([Path("a"), Path("b")], device="cpu")
    assert found == {name: score_both_directions(*query, *gallery) for name, (query, gallery) in sides.items()}
    assert "mean of 2 splits" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"a and a are of the same split: a\.zarr\nGive runs on other splits"):
        splits.evaluate_splits([Path("a"), Path("a")], device="cpu")
