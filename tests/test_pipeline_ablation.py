"""The papers' ablation tables: published numbers, shared and finished runs, rows that a dataset cannot have."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from reference_train import TINY

from densereid.data_catalog.errors import UserError
from densereid.pipeline.cli.parameter_types import parse_numbers
from densereid.pipeline.commands import ablation
from densereid.pipeline.commands.ablation import AblationRequest, row_config, run_ablation
from densereid.pipeline.reports.ablation_report import report
from densereid.pipeline.reports.paper_tables import Row, Table, known_tables
from densereid.pipeline.settings import choose_model
from densereid.pipeline.store_request import StoreRequest
from densereid.train.config.train_config import TrainConfig, load_config
from densereid.train.evaluation.metrics import Scores

SMALL = "dsa-reid-small"
TABLES = known_tables()
FEW = {**TINY, "evaluate_every": 0, "epochs": 1}


def _store_request(data_root: Path) -> StoreRequest:
    return StoreRequest("synthetic", data_root, data_root, "zarr", (64, 32), 32, "last", device="cpu")


def _run(
    table: str, store: Path, run_root: Path, *, seeds: tuple[int, ...] = (0,), changes: dict[str, object] = FEW
) -> Path:
    request = _store_request(run_root)
    return run_ablation(AblationRequest(request, table, SMALL, seeds, changes, run_root, store_path=store))


def _runs(folder: Path) -> dict[str, int]:
    """The last checkpoint of each run by the run's name, as the time of its writing."""
    return {path.parent.name: path.stat().st_mtime_ns for path in sorted(folder.glob("*/last.pt"))}


def _scores(value: float) -> Scores:
    return Scores(value, value, value, value, value, value, 1, 1, 1)


def test_dsa_table_3_published_numbers_and_shared_runs() -> None:
    rows = TABLES["dsa-3"].rows
    published = [row.paper["market"][0] for row in rows if row.paper]
    assert published == [76.4, 78.6, 81.2, 83.4, 84.7, 83.2, 87.4, 86.5, 87.5, 87.6]
    assert [row.config for row in rows if not row.paper] == ["two-branches-plain"]
    assert len({row.run for row in rows}) == 8  # four rows of DSA-reID share one training
    for name in ("dsa-3", "dsa-4", "dsa-5"):
        for row in TABLES[name].rows:
            config = row_config(TABLES[name], row, SMALL, {"epochs": 3})
            assert (config.epochs, config.model.backbone) == (3, "small")
            assert config.augmentation.erase == (0.0 if row.config == "baseline" else 0.5)


def test_magnifiernet_published_numbers() -> None:
    """The gains that the papers' text or tables state again, recomputed from the numbers in our tables."""
    v2 = TABLES["magnifiernet-v2-2"]
    gains = {"cuhk03-labeled": (12.6, 12.2), "dukemtmc": (7.3, 9.9)}  # the brackets of v2's last row
    for dataset, expected in gains.items():
        first, last = (v2.numbers(row, dataset) for row in (v2.rows[0], v2.rows[-1]))
        assert [round(b - a, 1) for a, b in zip(first, last, strict=True)] == list(expected)
    v1 = TABLES["magnifiernet-v1-4"]
    assert v1.numbers(v1.rows[-1], "market") == (95.8, 89.7)  # v1's table 1 has these four too
    assert v1.numbers(v1.rows[-1], "dukemtmc") == (90.0, 81.1)
    assert v1.numbers(v1.rows[-2], "cuhk03-labeled") == (82.6, 79.9)
    assert v1.numbers(v1.rows[-2], "cuhk03-detected") == (80.4, 77.3)
    best = {"market": "2-2", "dukemtmc": "2-2", "cuhk03-labeled": "2-2", "cuhk03-detected": "3-3"}  # bold in table 3
    regions = TABLES["magnifiernet-v1-3"]
    for dataset, label in best.items():
        assert max(regions.rows, key=lambda row: regions.numbers(row, dataset)[0] or 0).label == label
    for version, last in (("v1", "magnifiernet-v1-4"), ("v2", "magnifiernet-v2-2")):
        own, rows = TABLES[f"magnifiernet-{version}-1"], TABLES[last].rows
        plain, reranked = (row.paper for row in own.rows)
        assert list(plain) == list(reranked) == ["cuhk03-labeled", "cuhk03-detected", "dukemtmc", "market"]
        assert {name: row.paper[name] for row in rows[-2:] for name in row.paper}.items() & plain.items()
        assert all(after > before for name in plain for before, after in zip(plain[name], reranked[name], strict=True))  # type: ignore[operator]
    fusion = TABLES["magnifiernet-v1-5"]
    for dataset in best:  # "SFB surpasses the Ablation Branch on all datasets"
        assert fusion.numbers(fusion.rows[1], dataset)[0] > fusion.numbers(fusion.rows[0], dataset)[0]  # type: ignore[operator]


@pytest.mark.parametrize("name", list(TABLES))
def test_every_row_has_a_number_or_nothing_for_each_column(name: str) -> None:
    table = TABLES[name]
    assert len({row.label for row in table.rows}) == len(table.rows)
    for row in table.rows:
        for dataset, numbers in row.paper.items():
            assert len(numbers) == len(table.columns), (row.label, dataset)
            assert all(50 < number < 100 for number in numbers if number is not None)
    for row in table.rows:
        for other in table.rows:  # rows of one run may differ in what is ranked alone
            assert row.run != other.run or (row.settings, row.recipe) == (other.settings, other.recipe)


def test_rows_are_variants_of_a_model_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: dsa-reid-small\nepochs: 7\nmodel: {backbone: small}\n")
    for row in TABLES["dsa-3"].rows:
        config = row_config(TABLES["dsa-3"], row, str(tmp_path / "mine.yaml"), {"width": 32})
        assert (config.epochs, config.width, config.height) == (7, 32, 128)
    streams = [row_config(TABLES["dsa-3"], row, SMALL, {}).model.streams for row in TABLES["dsa-3"].rows]
    assert streams == ["mf"] * 5 + ["two"] * 6


def test_rows_take_the_datasets_own_settings() -> None:
    table = TABLES["magnifiernet-v1-4"]
    configs = {row.label: row_config(table, row, table.base, {}, "dukemtmc") for row in table.rows}
    assert {config.loss.mask for config in configs.values()} == {0.5}  # v1, table 2
    with_sd = {label for label, config in configs.items() if config.loss.diversity == 0.05}
    assert with_sd == {"G, SEG, SRB, SFB, SD", "G, SEG, SRB, SFB, A, SD"}
    assert {config.loss.diversity for label, config in configs.items() if label not in with_sd} == {0.0}


@pytest.mark.parametrize("name", list(TABLES))
@pytest.mark.parametrize("size", ["", "-small"])
def test_every_row_names_an_experiment(name: str, size: str) -> None:
    table = TABLES[name]
    for row in table.rows:
        config = row_config(table, row, table.base + size, {"epochs": 600})
        assert config.epochs == 600
        assert all(getattr(config.loss, key.removeprefix("loss.")) == value for key, value in row.settings.items())


@pytest.mark.parametrize("name", list(TABLES))
def test_ours_are_compared_with_the_datasets_own_numbers_or_with_none(name: str, tmp_path: Path) -> None:
    table = TABLES[name]
    for dataset in ("synthetic", "market1501", *table.datasets):
        path = report(table, {row.label: [_scores(0.5)] for row in table.rows}, (0,), tmp_path, dataset)
        lines = path.read_text().splitlines()
        assert ("the paper prints no numbers on" in lines[0]) == (dataset not in table.datasets)
        for row, line in zip(table.rows, lines[4:], strict=False):
            differences = line.count(" / +") + line.count(" / -")
            assert differences == sum(number is not None for number in row.paper.get(dataset, ()))
        with (tmp_path / f"{name}.csv").open() as file:
            papers = [[row[f"paper {column}"] for column in table.columns] for row in csv.DictReader(file)]
        wanted = [row.paper.get(dataset, (None,) * len(table.columns)) for row in table.rows]
        assert papers == [["" if number is None else str(number) for number in numbers] for numbers in wanted]


def test_the_tables_own_base_is_the_model_where_none_is_asked_for() -> None:
    bases = {name: choose_model("auto", "cpu", table.base)[0] for name, table in TABLES.items()}
    assert (bases["dsa-5"], bases["magnifiernet-v1-3"]) == ("dsa-reid-small", "magnifiernet-v1-small")
    assert choose_model("auto", "cuda:0", "magnifiernet") == ("magnifiernet", "the paper's network, on a GPU")
    assert choose_model("mine.yaml", "cpu", "magnifiernet") == ("mine.yaml", "asked for")


def test_an_ablation_trains_each_network_once_and_resumes(
    stores: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _run("dsa-5", stores["zarr"], tmp_path, seeds=(0, 1))
    folder = tmp_path / f"ablation-synthetic-{SMALL}"
    trained = _runs(folder)
    assert list(trained) == ["dsa-concat-seed0", "dsa-concat-seed1", "dsa-reid-seed0", "dsa-reid-seed1"]
    text = path.read_text()
    assert text.count("Elem-add") == 1
    assert "87.6" not in text  # Market-1501's
    assert "On synthetic: ours (%); the paper prints no numbers on synthetic (it does on market)" in text
    with (folder / "dsa-5.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["network"], row["seed"]) for row in rows] == [
        ("Concatenation+fc", "0"), ("Concatenation+fc", "1"), ("Elem-add", "0"), ("Elem-add", "1"),
    ]  # fmt: skip
    assert "Concatenation+fc" in capsys.readouterr().out
    assert _run("dsa-5", stores["zarr"], tmp_path, seeds=(0, 1)).read_text() == text
    assert _runs(folder) == trained
    (folder / "dsa-concat-seed0" / "last.pt").unlink()  # the first row would be trained before the second is looked at
    (folder / "dsa-concat-seed0" / "best.pt").unlink()
    with pytest.raises(
        UserError, match=r"dsa-concat-seed1/last.pt was trained with other settings: loss.margin differs"
    ):
        _run("dsa-5", stores["zarr"], tmp_path, seeds=(0, 1), changes={**FEW, "loss.margin": 0.2})
    assert list(_runs(folder)) == list(trained)[1:]
    with pytest.raises(UserError, match="SEEDS is 'x'"):
        parse_numbers("SEEDS", "x")


def test_a_sweep_is_one_experiment_with_other_settings(
    stores: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = (
        Row("margin 0.1", "dsa-reid", settings={"loss.margin": 0.1}),
        Row("margin 0.3", "dsa-reid", settings={"loss.margin": 0.3}, paper={"synthetic": (90.0, None)}),
        Row("margin 0.3, z", "dsa-reid", feature="z", settings={"loss.margin": 0.3}),
        Row("attributes", "dsa-reid", attributes=True),
    )
    sweep = Table("sweep", "A sweep", "dsa-reid", ("Rank-1", "mAP"), rows, note="What the paper says.")
    monkeypatch.setitem(TABLES, "sweep", sweep)
    monkeypatch.setattr(ablation, "has_attributes", lambda dataset: False)
    path = _run("sweep", stores["zarr"], tmp_path, changes={**FEW, "loss.margin": 0.2})  # the rows' own settings win
    runs = tmp_path / f"ablation-synthetic-{SMALL}"
    assert list(_runs(runs)) == ["dsa-reid-margin=0.1-seed0", "dsa-reid-margin=0.3-seed0"]
    assert "margin: 0.1" in (runs / "dsa-reid-margin=0.1-seed0" / "config.yaml").read_text()
    lines = {line.split(" | ")[0].strip("| "): line for line in path.read_text().splitlines() if " | " in line}
    assert lines["margin 0.1"].count("not printed") == 2
    assert lines["margin 0.3"].count("not printed") == 1
    assert "/ 90.0 / " in lines["margin 0.3"]
    assert "attributes" not in lines
    shown = capsys.readouterr()
    assert "left out: attributes, which needs person attributes; synthetic has none" in shown.err + shown.out
    assert "What the paper says." in path.read_text()


def test_rows_with_attributes_read_the_datasets_file(synthetic_root: Path, tmp_path: Path) -> None:
    rows = (Row("G", "dsa-reid"), Row("A", "dsa-reid", settings={"model.fusion": "add"}, attributes=True))
    table = Table("t", "T", "dsa-reid", ("mAP",), rows)
    asked: list[dict[str, object]] = []

    def noting(table: Table, row: Row, model: str, settings: dict[str, object], dataset: str) -> TrainConfig:
        asked.append(settings)
        return load_config(model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "row_config", noting)
        folders = ablation._attribute_folders("synthetic", _store_request(synthetic_root))
        configs = ablation._configs(table, rows, SMALL, {"epochs": 1}, "synthetic", folders)
    file = synthetic_root / "synthetic" / "synthetic_attribute.mat"
    assert asked == [{"epochs": 1}, {"epochs": 1, "magnifier.attributes": str(file)}]
    assert list(configs) == ["dsa-reid", "dsa-reid-fusion=add"]
    assert ablation._possible_rows(table, "synthetic", folders, {}) == rows
    (tmp_path / "market" / "query").mkdir(parents=True)
    with pytest.raises(UserError, match=r"market_attribute\.mat, the attributes of 'market', is not in"):
        ablation._possible_rows(table, "market", ablation._attribute_folders("market", _store_request(tmp_path)), {})
    elsewhere = ablation._attribute_folders("market", _store_request(tmp_path / "elsewhere"))
    assert ablation._possible_rows(table, "market", elsewhere, {}) == rows  # said when the dataset is looked for
    with pytest.raises(UserError, match=r"market_attribute\.mat, the attributes of 'market', is not in"):
        ablation._configs(table, rows, SMALL, {}, "market", elsewhere)


def test_a_cell_has_mean_deviation_and_the_difference_to_the_paper(tmp_path: Path) -> None:
    rows = (Row("one", "a", paper={"market": (80.0,)}), Row("gone", "b", paper={"market": (1.0,)}))
    table = Table("t", "T", "dsa-reid", ("mAP",), rows)
    path = report(table, {"one": [_scores(0.7), _scores(0.8), _scores(0.9)]}, (0, 1, 2), tmp_path, "market")
    assert "| one | 3 | 80.0 ±10.0 / 80.0 / +0.0 |" in path.read_text()
    assert "gone" not in path.read_text()
