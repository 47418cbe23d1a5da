"""Answer every question to a GPU in one run of some minutes, without network.

bench/gpu.sh --output FOLDER                                     on a GPU: eight minutes at most
bench/gpu.sh --output FOLDER --wheels WHEELS                     with packages that the machine lacks
bench/gpu.sh --output FOLDER --device cpu --scale tiny           a rehearsal of the same, in half a minute
bench/gpu.sh --packages --present pip-list.txt                   the command that fetches what another machine lacks
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

from bench.gpu_questions.context import Context
from bench.gpu_questions.gathered import FILES, Gathered, fresh_output
from bench.gpu_questions.packages import install, missing_sentence, search_path, whole_line
from bench.gpu_questions.plan import MINUTES, SCALES, STEPS, Step
from bench.gpu_questions.runner import Outcome, Runner

_LAST_SECONDS = 5.0
"""For ending the last step and gathering."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser("bench/gpu.sh", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("--output", type=Path, help=f"folder for {', '.join(FILES)}")
    made.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    made.add_argument("--scale", choices=SCALES, default="full", help="how much is measured; the others are rehearsals")
    made.add_argument("--minutes", type=float, default=MINUTES, help=f"of the whole run ({MINUTES:g}); with more, "
                      "steps may take longer in proportion")  # fmt: skip
    made.add_argument("--at-once", type=int, default=1, help="steps side by side, for rehearsals: times mean nothing")
    made.add_argument("--steps", default="", help=f"only these, with commas: {','.join(step.name for step in STEPS)}")
    made.add_argument("--wheels", type=Path, help="folder of .whl files to install first, beside the machine's own")
    made.add_argument("--data", type=Path, help="folder with rendered pedestrians under synthetic/")
    made.add_argument("--work", type=Path, help="folder for everything else; kept (a temporary one is not)")
    made.add_argument("--commit", default="", help="the commit, where this is no git checkout")
    made.add_argument("--packages", action="store_true", help="print the pip command for the packages that are needed")
    made.add_argument("--present", type=Path, help="with --packages: a file of the packages that machine has")
    return made


def chosen_steps(names: str, minutes: float = MINUTES) -> list[Step]:
    """The steps of those names and what they need, in the plan's order; all where none is named.

    With more ``minutes`` than the plan's own each may take longer.
    """
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    unknown = wanted - {step.name for step in STEPS}
    if unknown:
        sys.exit(f"unknown steps: {', '.join(sorted(unknown))}; known: {', '.join(step.name for step in STEPS)}")
    wanted |= {step.needs for step in STEPS if step.name in wanted and step.needs}
    chosen = [step for step in STEPS if step.name in wanted or not wanted]
    more = max(1.0, minutes / MINUTES)
    return [replace(step, seconds=None if step.seconds is None else more * step.seconds) for step in chosen]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; the exit code is 1 where a step failed or could not be finished."""
    options = parser().parse_args(arguments)
    if options.packages:
        print(whole_line(options.present.read_text().splitlines() if options.present else []))
        return 0
    if options.output is None:
        sys.exit("--output is missing: the folder for the results")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that steps are ended and results written
    ends = time.time() + 60 * options.minutes - _LAST_SECONDS
    steps = chosen_steps(options.steps, options.minutes)
    work = options.work or Path(tempfile.mkdtemp(prefix="gpu-questions-"))
    try:
        return run(options, steps, work.absolute(), ends)
    finally:
        if options.work is None:
            rmtree(work, ignore_errors=True)


def run(options: argparse.Namespace, steps: Sequence[Step], work: Path, ends: float) -> int:
    """Install, ask, and gather after every change."""
    data = options.data.absolute() if options.data else None
    device = "cuda:0" if options.device == "cuda" else options.device
    context = Context(device, options.scale, work, data, commit=options.commit)
    rmtree(context.steps, ignore_errors=True)
    context.steps.mkdir(parents=True)
    fresh_output(options.output)
    site = work / "site"
    notes = [install(options.wheels.absolute(), site)] if options.wheels else []
    sys.path.insert(0, str(site))
    notes.append(missing_sentence())
    print("\n".join(notes), flush=True)
    gathered = Gathered(options.output.absolute(), context, notes)
    runner = Runner(
        context, ends=ends, environment=environment(context, site), on_change=telling(gathered), at_once=options.at_once
    )
    try:
        runner.run(steps)
    finally:
        gathered.write(runner.outcomes)
    print("\n" + gathered.summary(runner.outcomes), flush=True)
    return 0 if all(outcome.state == "complete" for outcome in runner.outcomes) else 1


def telling(gathered: Gathered) -> Callable[[Sequence[Outcome]], None]:
    """What gathers after a change, and prints a line when a step is over."""
    told: set[str] = set()

    def on_change(outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            if outcome.state not in ("running", "not started") and outcome.name not in told:
                told.add(outcome.name)
                print(f"{outcome.name}: {outcome.state}, {outcome.seconds:.0f} s", flush=True)
        gathered.write(outcomes)

    return on_change


def environment(context: Context, site: Path) -> dict[str, str]:
    """For steps: where modules are found, and caches that begin empty, so that no earlier run shortens a figure."""
    return {
        "GOMP_SPINCOUNT": "1000",  # as in the Makefile
        **os.environ,
        "PYTHONPATH": search_path(site),
        "PYTHONUNBUFFERED": "1",
        "DENSEREID_CACHE": str(context.work / "cache"),
        "TORCHINDUCTOR_CACHE_DIR": str(context.work / "inductor"),
        "TRITON_CACHE_DIR": str(context.work / "triton"),
    }


if __name__ == "__main__":
    sys.exit(main())
