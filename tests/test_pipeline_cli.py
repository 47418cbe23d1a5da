"""The command line itself: what it loads, which variables it reads, what it refuses."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest
from helpers import ROOT, failed, given_by_make, run, run_process

import densereid
from densereid.data_catalog.store.store import FORMATS
from densereid.pipeline.cli import cli, group
from densereid.pipeline.cli.variables import check_variables, variable_of
from densereid.pipeline.settings import STORE_FORMATS
from densereid.pipeline.store_request import StoreRequest


def commands(group: click.Group = cli) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from ((f"{name} {inner}", command) for inner, command in commands(found))
        else:
            yield name, found


COMMANDS = dict(commands())

_WATCHED = """
import json, pathlib, sys
root, opened = pathlib.Path("densereid").resolve().parent, []
folders = ["densereid", "pipeline", "preprocess", "train", "data_catalog"]

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        path = pathlib.Path(arguments[0]).resolve()
        own = any(root / folder in path.parents for folder in folders)
        if own and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts:
            opened.append(str(path.relative_to(root)))

sys.addaudithook(watch)
{code}
json.dump([opened, sorted(sys.modules)], sys.__stdout__)
"""
_COMMAND = """
import contextlib, io
from densereid.pipeline.cli import cli, group
with contextlib.redirect_stdout(io.StringIO()):
    cli.main({arguments!r}, standalone_mode=False)
"""


def watched(code: str) -> tuple[list[str], set[str]]:
    """The project's files that are read, besides modules, and the modules that are loaded, while ``code`` runs."""
    result = subprocess.run(
        [sys.executable, "-c", _WATCHED.format(code=code)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    opened, modules = json.loads(result.stdout)
    return opened, set(modules)


HEAVY = {"torch", "zarr", "scipy", "h5py", "fsspec", "dask", "numba", "matplotlib", "PIL"}


def test_the_list_of_commands_needs_no_file_and_no_library_but_click() -> None:
    opened, modules = watched(_COMMAND.format(arguments=["--help"]))
    assert opened == []
    assert not modules & {*HEAVY, "numpy", "rich"}
    assert "densereid.pipeline.cli.store_commands" in modules  # asked for the commands' first sentences


@pytest.mark.parametrize("name", ["preprocess", "train", "inspect", "synthesize"])
def test_the_help_of_a_command_reads_the_defaults_alone(name: str) -> None:
    opened, modules = watched(_COMMAND.format(arguments=[name, "--help"]))
    assert set(opened) == {"pipeline/defaults.yaml"}
    assert not modules & HEAVY


def test_commands_are_loaded_when_they_are_asked_for() -> None:
    _, modules = watched("import densereid.pipeline.cli")
    assert not any(name.endswith("_commands") for name in modules)
    assert "densereid.pipeline.cli.options" not in modules


def test_the_version_is_the_packages() -> None:
    assert run_process("--version").stdout == f"densereid, version {densereid.__version__}\n"


def test_store_formats_are_the_catalogs() -> None:
    assert tuple(FORMATS) == STORE_FORMATS


def test_a_request_for_a_store_is_what_the_options_say() -> None:
    names = {parameter.name for parameter in COMMANDS["preprocess"].params}
    assert {field.name for field in fields(StoreRequest)} == names - {"dry_run"}


@pytest.mark.parametrize("name", list(COMMANDS))
def test_a_command_takes_what_its_options_give(name: str) -> None:
    """click calls it by name; here no type checker looks."""
    command = COMMANDS[name]
    assert command.callback is not None
    taken = set(inspect.signature(command.callback).parameters)
    given = {str(parameter.name) for parameter in command.params}
    if "request" in taken:
        requested = {field.name for field in fields(StoreRequest)}
        taken, given = taken - {"request", "model_size"}, given - requested
    assert taken == given


def _sample(parameter: click.Parameter, folder: Path) -> str:
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return "1"
    if isinstance(parameter.type, click.Choice):
        return str(parameter.type.choices[-1])
    if variable_of(parameter) == "CATALOG":
        (folder / "own.yaml").touch()
        return str(folder / "own.yaml")
    return {"SIZE": "64x48", "SHARD_ROWS": "64", "SET": "a=1 b=2", "FORMAT": "onnx"}.get(variable_of(parameter), "17")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_option_is_read_from_its_variable_and_from_no_other(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = COMMANDS[name]
    samples = {variable_of(parameter): _sample(parameter, tmp_path) for parameter in command.params}
    assert len(samples) == len(command.params)
    for variable in samples:  # what another program may mean
        monkeypatch.setenv(variable, "nonsense")
    for variable, sample in samples.items():
        monkeypatch.setenv(f"DENSEREID_{variable}", sample)
    context = command.make_context(name, [])
    for parameter in command.params:
        source = context.get_parameter_source(str(parameter.name))
        assert source == click.core.ParameterSource.ENVIRONMENT, parameter.name
        assert context.params[str(parameter.name)] not in (None, "nonsense")
    for variable in samples:
        monkeypatch.delenv(f"DENSEREID_{variable}")
    if not any(parameter.required for parameter in command.params):
        sources = {command.make_context(name, []).get_parameter_source(str(each.name)) for each in command.params}
        assert sources <= {click.core.ParameterSource.DEFAULT}


def test_values_are_typed_where_they_are_typed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSEREID_SET", "loss.margin=0.5 epochs=3")
    words = ["--size", "64x32", "--workers", "2", "--store-root", "stores", "--seed", "1"]
    values = COMMANDS["train"].make_context("train", words).params
    assert values["overrides"] == (("loss.margin", "0.5"), ("epochs", "3"))
    assert (values["size"], values["workers"], values["store_root"], values["seed"]) == ((64, 32), 2, Path("stores"), 1)
    assert COMMANDS["ablation"].make_context("ablation", ["--seeds", "0,3"]).params["seeds"] == (0, 3)


def test_a_setting_without_a_value_is_refused() -> None:
    failed(run("train", "--set", "loss.margin"), "--set loss.margin has no value", "expected KEY=VALUE")


def test_a_table_that_is_none_is_refused_with_the_nearest() -> None:
    failed(run("ablation", TABLE="dsa-6"), "unknown table 'dsa-6'", "TABLE=dsa-", "magnifiernet-v1-4")


def test_describe_without_a_name_lists_the_models() -> None:
    listed = run("describe").stdout.split()
    assert {"dsa-reid", "dsa-reid-small", "magnifiernet", "magnifiernet-v1", "csa"} <= set(listed)


def check(name: str) -> None:
    check_variables(COMMANDS[name], cli, name)


def test_a_variable_that_no_command_has_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    given_by_make(monkeypatch, "preprocess", SIZE="64x32", DATSET="market")
    with pytest.raises(click.UsageError, match=r"preprocess has no variable DATSET; did you mean DATASET\?"):
        check("preprocess")
    for typed, meant in (("short-edge", "SHORT_EDGE"), ("dataset", "DATASET")):
        given_by_make(monkeypatch, "preprocess", **{typed: "1"})
        with pytest.raises(click.UsageError, match=rf"no variable {typed}; did you mean {meant}\?"):
            check("preprocess")
    given_by_make(monkeypatch, "train", EPOCH="1")
    with pytest.raises(click.UsageError, match=r"train has no variable EPOCH; did you mean EPOCHS\?(.|\n)*FRESH"):
        check("train")
    with pytest.raises(click.UsageError, match=r"status has no variable EPOCH; did you mean EPOCHS\?"):
        check("status")
    given_by_make(monkeypatch, "train", CUDA_VISIBLE_DEVICES="1")
    with pytest.raises(click.UsageError, match=r"CUDA_VISIBLE_DEVICES\nIt has (.|\n)*CUDA_VISIBLE_DEVICES=\.\.\. make"):
        check("train")


def test_a_variable_of_other_commands_is_not_called_one_of_this(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSEREID_DATSET", "market")
    with pytest.raises(
        click.UsageError, match=r"DENSEREID_DATASET\? status does not use it: other commands do\.\nIt has J"
    ):
        check("status")
    with pytest.raises(click.UsageError, match=r"did you mean DENSEREID_DATASET\?\nIt has "):
        check("inspect")


def test_a_flag_that_is_neither_on_nor_off_is_named_with_what_it_takes(tmp_path: Path) -> None:
    wrong = run("evaluate", tmp_path, RERANK="maybe")
    failed(wrong, "the value of DENSEREID_RERANK is 'maybe'\nexpected 1, or 0 as if not given")
    assert ", 0" not in wrong.stderr


def test_a_variable_that_only_other_commands_have_is_mentioned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given_by_make(monkeypatch, "preprocess train", SIZE="64x32", EPOCHS="3")
    check("preprocess")
    assert capsys.readouterr().err == "note: preprocess does not use EPOCHS\n"
    given_by_make(monkeypatch, "preprocess", DATA_ROOT="")
    check("preprocess")
    assert capsys.readouterr().err == "note: DATA_ROOT is empty, as if it had not been given\n"
    given_by_make(monkeypatch, "preprocess train", SIZE="64x32", EPOCHS="3")
    check("train")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("value", ["1", "true"])
def test_a_dry_run_of_a_command_that_has_none_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("DENSEREID_DRY_RUN", value)
    check("preprocess")
    with pytest.raises(click.UsageError, match="derive has no dry run"):
        check("derive")
    monkeypatch.setenv("DENSEREID_DRY_RUN", "0")
    check("derive")


def test_an_exported_variable_of_ours_that_no_command_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DENSEREID_CACHE", "known")
    monkeypatch.setenv("DENSEREID_EPOCHS", "3")
    check("schema")
    for typed, meant in (("DATSET", "DATASET"), ("dataset", "DATASET"), ("RUN", "RUN_FOLDER")):
        with monkeypatch.context() as environment:
            environment.setenv(f"DENSEREID_{typed}", "x")
            with pytest.raises(click.UsageError, match=rf"DENSEREID_{typed}; did you mean DENSEREID_{meant}\?"):
                check("evaluate")


def test_the_environments_own_words_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = {"MODE": "x", "SIZE": "nonsense", "SEED": "z", "FRESH": "1", "WORKERS": "many", "STORE": "parquet"}
    for name, value in exported.items():
        monkeypatch.setenv(name, value)
    result = run("preprocess", "--dry-run", "--data-root", tmp_path)
    failed(result, "the synthetic pedestrians are not rendered yet")


@pytest.mark.parametrize(
    ("cause", "ends", "code"), [(KeyboardInterrupt, SystemExit, 130), (OSError, RuntimeError, None)]
)
def test_ctrl_c_while_a_class_is_made_is_still_an_interruption(
    monkeypatch: pytest.MonkeyPatch, cause: type[BaseException], ends: type[BaseException], code: int | None
) -> None:
    """Python 3.11 reports it as a RuntimeError: a library that is imported late may be in the middle of one."""

    def interrupted(**_: object) -> None:
        raise RuntimeError("Error calling __set_name__") from cause()

    monkeypatch.setattr(group, "stop_at_once_when_interrupted_twice", lambda: None)
    monkeypatch.setattr(cli, "main", interrupted)
    with pytest.raises(ends) as ended:
        group.main()
    assert getattr(ended.value, "code", None) == code
