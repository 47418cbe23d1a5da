"""The command line: which commands there are, and how they end. Mistakes end in a message, not in a traceback."""

from __future__ import annotations

import logging
import sys
import warnings

import click

import densereid
from densereid.data_catalog.errors import UserError
from densereid.pipeline.cli.command import LazyGroup, as_parameters, name_in
from densereid.pipeline.cli.variables import all_commands
from densereid.pipeline.console import StatusHandler, close_output, is_first_process, print_status
from densereid.pipeline.exit import (
    explained,
    failed,
    interrupted,
    leave_events_to_who_writes_them,
    stop_at_once_when_interrupted_twice,
)
from densereid.pipeline.invocation import program

_DATASETS, _STORES, _MODELS = (f"densereid.pipeline.cli.{name}_commands" for name in ("dataset", "store", "model"))

COMMANDS = {
    "demo": _MODELS,
    "doctor": _DATASETS,
    "catalog": _DATASETS,
    "synthesize": _DATASETS,
    "preprocess": _STORES,
    "derive": _STORES,
    "densepose-sizes": _STORES,
    "inspect": _STORES,
    "status": _STORES,
    "verify": _STORES,
    "convert": _STORES,
    "export-masks": _STORES,
    "schema": _STORES,
    "train": _MODELS,
    "evaluate": _MODELS,
    "report": _MODELS,
    "describe": _MODELS,
    "export": _MODELS,
    "ablation": _MODELS,
    "activations": _MODELS,
    "embedded-weights": _MODELS,
}
"""The module of each command, which is imported when the command is asked for."""


_BY_SEVERAL = ("train", "ablation")
"""Commands to which every process that torchrun starts contributes; the others are the first one's alone."""


@click.group(
    cls=LazyGroup,
    modules=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(densereid.__version__, prog_name="densereid")
@click.pass_context
def cli(context: click.Context) -> None:
    """DenseReID: body semantics for person re-identification.

    Images become 7-part masks and 24 DSAP images in a chunked store; stores train networks. Every option is also a
    variable: --short-edge is SHORT_EDGE for make (make preprocess SHORT_EDGE=512) and DENSEREID_SHORT_EDGE in the
    environment.
    """
    warnings.filterwarnings("ignore", message=".*lr_scheduler.step.*")
    logging.basicConfig(format="%(message)s", handlers=[StatusHandler()], force=True)
    level = logging.INFO if is_first_process() else logging.ERROR  # the libraries' chatter is not for users
    logging.getLogger("densereid").setLevel(level)
    if not is_first_process():
        close_output()
        if context.invoked_subcommand not in _BY_SEVERAL:
            context.exit(0)


def main() -> None:
    """Run the command line; turn mistakes into messages and exit codes."""
    stop_at_once_when_interrupted_twice()
    leave_events_to_who_writes_them()
    try:
        code = cli.main(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = interrupted()
    except RuntimeError as error:
        if not isinstance(error.__cause__, KeyboardInterrupt):  # as Python reports one while a class is made
            raise
        code = interrupted()
    except (click.ClickException, UserError, OSError, ModuleNotFoundError) as error:
        code = _told(error)
    sys.stdout.flush()
    sys.exit(code if isinstance(code, int) else 0)


def _told(error: click.ClickException | UserError | OSError | ModuleNotFoundError) -> int:
    """Print what is wrong and what to do, in the words in which the command was typed; the exit code."""
    if isinstance(error, click.ClickException):
        return _misused(error)
    if isinstance(error, ModuleNotFoundError):
        return _not_installed(error)
    problem, remedy = explained(error) if isinstance(error, OSError) else (error.problem, error.remedy)
    return failed(_as_typed(problem), _as_typed(remedy))


def _not_installed(error: ModuleNotFoundError) -> int:
    """Print which package this Python lacks; the exit code. A module of our own that is not there is our mistake."""
    if (error.name or "").partition(".")[0] in ("", "densereid"):
        raise error
    return failed(
        f"{sys.executable} has no module {error.name}",
        "`make` fills .venv with all that is needed, and .venv/bin/densereid uses it; elsewhere `pip install "
        "--editable .` in the project's folder installs what is missing",
    )


def _as_typed(text: str) -> str:
    """A message with the options of all commands as they were typed."""
    try:
        from densereid.pipeline.cli.wording import as_typed  # here, as the commands: only mistakes need it

        return as_typed(text, {name: as_parameters(command) for name, command in all_commands(cli).items()})
    except OSError:  # the mistake is one that no file can be opened after, as without a free file number
        return text


def _misused(error: click.ClickException) -> int:
    """Print what click, or the check of the variables, says of a wrong option; the exit code."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    print_status(f"Error: {_as_typed(error.format_message())}")
    if context is not None:
        words = " ".join((program(), name_in(context))).strip()
        print_status(f"`{words} --help` lists what it takes.")
    return error.exit_code
