"""Rows of the papers' tables that differ by dataset, read attributes, start from another run, or are re-ranked."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from reference_train import TINY

from densereid.data_catalog.errors import UserError
from densereid.pipeline.commands import ablation
from densereid.pipeline.commands.ablation import AblationRequest, row_config, run_ablation
from densereid.pipeline.commands.networks.evaluation import evaluate_run
from densereid.pipeline.reports.paper_tables import Row, Table, known_tables
from densereid.pipeline.store_request import StoreRequest
from densereid.train.evaluation.reranking import Reranking

SMALL = "dsa-reid-small"
TABLES = known_tables()


def test_v1_tables_1_3_and_5_train_what_the_number_is_of() -> None:
    """SFB's numbers are those of Table 4's rows: on Market with attributes, on Duke with attributes and SD."""
    fourth = {row.paper[name]: row.config for row in TABLES["magnifiernet-v1-4"].rows for name in row.paper}
    for row in (TABLES["magnifiernet-v1-5"].rows[1], TABLES["magnifiernet-v1-1"].rows[0]):
        for dataset, numbers in row.paper.items():
            there = row.of_dataset(dataset)
            assert there.config == fourth[numbers]
            assert there.attributes == ("attributes" in there.config) == (dataset in ("market", "dukemtmc"))
    for row in TABLES["magnifiernet-v1-3"].rows:
        assert [name for name in row.paper if row.of_dataset(name).attributes] == ["dukemtmc", "market"]
    for table in TABLES.values():
        for row in table.rows:
            for dataset in row.by_dataset:
                config = row_config(table, row.of_dataset(dataset), table.base, {}, dataset)
                assert config.magnifier.facilitator is not False


@pytest.mark.parametrize("name", ["magnifiernet-v1-4", "magnifiernet-v1-5"])
def test_attributes_of_the_command_reach_the_rows_that_have_them_and_no_other(name: str, tmp_path: Path) -> None:
    table, file = TABLES[name], tmp_path / "mine.mat"
    given = {"magnifier.attributes": str(file)}
    with pytest.raises(UserError, match=r"magnifier.attributes: \S+mine.mat does not exist"):
        ablation._possible_rows(table, "market", [tmp_path], given)
    file.touch()
    rows = ablation._possible_rows(table, "market", [tmp_path, tmp_path], given)
    configs = ablation._configs(table, rows, table.base, given, "market", [tmp_path])
    assert {row.label: configs[row.run].magnifier.attributes for row in rows} == {
        row.label: str(file) if row.attributes else "" for row in rows
    }
    with pytest.raises(UserError, match=r"no row of table magnifiernet-v1-gamma has attributes, and magnifier.attr"):
        ablation._possible_rows(TABLES["magnifiernet-v1-gamma"], "cuhk03-detected", [tmp_path], given)


def test_dsa_table_2_has_a_row_that_starts_from_another_run(capsys: pytest.CaptureFixture[str]) -> None:
    table = TABLES["dsa-2"]
    first, tuned = table.rows
    assert {name: numbers[0] for name, numbers in first.paper.items()} == {
        "cuhk03-labeled": 78.9, "cuhk03-detected": 78.2, "dukemtmc": 86.2, "market": 95.7, "cuhk01": 88.6,
    }  # fmt: skip
    third = TABLES["dsa-3"].rows[-1].paper["market"]
    assert (first.paper["market"][0], first.paper["market"][2]) == (third[1], third[0])
    assert (tuned.paper["cuhk01"], first.paper["cuhk01"]) == ((90.4, 97.8, None), (88.6, 97.1, None))
    assert ablation._possible_rows(table, "cuhk01", [], {}) == (first,)
    assert "DSA-reID from CUHK03, which needs a run to start from: --set model.initial=RUN" in capsys.readouterr().err
    given = {"model.initial": "runs/cuhk03"}
    configs = ablation._configs(table, ablation._possible_rows(table, "cuhk01", [], given), SMALL, given, "cuhk01", [])
    assert {run: config.model.initial for run, config in configs.items()} == {
        "dsa-reid": "", "dsa-reid-initial": "runs/cuhk03",
    }  # fmt: skip


def test_a_row_is_re_ranked(stores: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (Row("plain", "dsa-reid"), Row("re-ranked", "dsa-reid", rerank=True))
    monkeypatch.setitem(TABLES, "own", Table("own", "Own rows", "dsa-reid", ("Rank-1", "mAP"), rows))
    monkeypatch.setattr(ablation, "Reranking", lambda: Reranking(k1=4, k2=2))
    request = StoreRequest("synthetic", tmp_path, tmp_path, "zarr", (64, 32), 32, "last", device="cpu")
    few = {**TINY, "evaluate_every": 0, "epochs": 1}
    path = run_ablation(AblationRequest(request, "own", SMALL, (0,), few, tmp_path, store_path=stores["zarr"]))
    run = tmp_path / f"ablation-synthetic-{SMALL}" / "dsa-reid-seed0"
    assert [each.parent.name for each in run.parent.glob("*/last.pt")] == [run.name]
    wanted = {
        "plain": evaluate_run(run, store_path=stores["zarr"], device="cpu"),
        "re-ranked": evaluate_run(run, store_path=stores["zarr"], device="cpu", reranking=Reranking(k1=4, k2=2)),
    }
    with path.with_suffix(".csv").open() as file:
        found = {row["network"]: row["mAP"] for row in csv.DictReader(file)}
    assert found == {label: f"{100 * scores.mean_average_precision:.2f}" for label, scores in wanted.items()}
