"""Numbers of options: what is out of range is refused with the option's name before anything is done."""

from __future__ import annotations

import click
import pytest

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.store.schema import Geometry
from densereid.pipeline.cli import cli
from densereid.pipeline.cli.variables import all_commands
from densereid.pipeline.settings import parse_size, parse_workers

COMMANDS = all_commands(cli)
HUGE = "1" + "0" * 40
NUMBERS = {
    "seed": ("-1", HUGE), "seeds": ("-1", HUGE, "0,nan", ""), "epochs": ("-1", "0", HUGE), "rows": ("-1", HUGE),
    "dsap_size": ("-1", "0", "100000", HUGE), "shard_rows": ("-1", "0", HUGE), "short_edge": ("-1", "0", "100000"),
    "short_edges": ("-1", "0", "100000", HUGE, "128,0"), "images": ("-1", "0", HUGE), "sample": ("-1", HUGE),
    "workers": ("-1", "100000", HUGE), "splits": ("-1", "0", "101", HUGE),
    "scale": ("-1", "0", "1000"), "size": ("0x0", "-1x5", "100000x100000", f"{HUGE}x1", "256", "1x"),
}  # fmt: skip
"""Values out of range of every option that is a number or several, besides those of the synthetic pedestrians."""


@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_number_out_of_range_is_refused_at_once(command: str) -> None:
    arguments = [each for each in COMMANDS[command].params if isinstance(each, click.Argument) and each.required]
    for parameter in COMMANDS[command].params:
        if parameter.name not in NUMBERS:
            assert not isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType) or (
                command == "synthesize"
            ), parameter.name
            continue
        for text in (*NUMBERS[parameter.name], "nan", "inf", "x"):
            words = [f"{parameter.opts[0]}={text}", *("x" for _ in arguments)]
            with pytest.raises((UserError, click.BadParameter)) as told:
                COMMANDS[command].make_context(command, words)
            said = told.value.problem if isinstance(told.value, UserError) else told.value.format_message()
            assert parameter.opts[0] in said or parameter.opts[0][2:].replace("-", "_").upper() in said


def test_the_words_say_what_was_expected() -> None:
    with pytest.raises(
        UserError, match=r"SIZE is '100000x100000'\nexpected HEIGHTxWIDTH in pixels, each from 1 to 4096"
    ):
        parse_size("100000x100000")
    assert parse_size("0256X0128") == (256, 128)
    with pytest.raises(UserError, match=r"WORKERS is '100000'\nexpected a number of processes up to 512"):
        parse_workers("100000")
    with pytest.raises(UserError, match="SHARD_ROWS is 33; expected a multiple of 32"):
        Geometry(1, 8, 8, 8, 33)
