"""The command line: which commands there are, and how they end. Mistakes end in a message, not in a traceback."""

from __future__ import annotations

import logging
import sys
import warnings

import click

import densereid
from densereid.data_catalog.errors import UserError
from densereid.pipeline.cli.command import LazyGroup
from densereid.pipeline.console import close_output, is_first_process
from densereid.pipeline.exit import failed, interrupted, stop_at_once_when_interrupted_twice

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
    "schema": _STORES,
    "train": _MODELS,
    "evaluate": _MODELS,
    "describe": _MODELS,
    "export": _MODELS,
    "ablation": _MODELS,
    "activations": _MODELS,
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
    logging.basicConfig(format="%(message)s", stream=sys.stderr, force=True)
    level = logging.INFO if is_first_process() else logging.ERROR  # the libraries' chatter is not for users
    logging.getLogger("densereid").setLevel(level)
    if not is_first_process():
        close_output()
        if context.invoked_subcommand not in _BY_SEVERAL:
            context.exit(0)


def main() -> None:
    """Run the command line; turn mistakes into messages and exit codes."""
    stop_at_once_when_interrupted_twice()
    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        code = interrupted()
    except KeyboardInterrupt:
        code = interrupted()
    except RuntimeError as error:
        if not isinstance(error.__cause__, KeyboardInterrupt):  # as Python reports one while a class is made
            raise
        code = interrupted()
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except UserError as error:
        code = failed(error.problem, error.remedy)
    except OSError as error:  # a full disk, a read-only folder, a file that vanished: the system's own words
        where = f": {error.filename}" if error.filename else ""
        code = failed(f"{error.strerror or error}{where}", "what is finished is kept; run the same command again")
    sys.stdout.flush()
    sys.exit(code if isinstance(code, int) else 0)
