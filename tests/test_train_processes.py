"""What needs several processes: a run killed at a random step, and two processes that share one run."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from forked import start_forked
from reference_train import TINY, random_store

import densereid.train.engine.loop as loop_module
from densereid.train.config.train_config import load_config
from densereid.train.engine.checkpoint import load_checkpoint, load_trained_network
from densereid.train.engine.loop import fit
from densereid.train.engine.tracking import read_metrics
from densereid.train.evaluation.evaluate import evaluate

ROOT = Path(__file__).parents[1]
SCRIPT = """
import json, os, sys
from dataclasses import asdict
from pathlib import Path
import torch
torch.set_num_threads({threads})
from reference_train import TINY, random_store
import densereid.train.engine.loop as loop
from densereid.train.config.train_config import load_config
folder = Path(sys.argv[1])
rows, augment = [], loop.augment
def recording(batch, *arguments, **options):
    rows.append(batch.row.tolist())
    return augment(batch, *arguments, **options)
loop.augment = recording
evaluated, evaluate = [], loop.evaluate
def counting(network, *arguments, **options):
    evaluated.append(evaluate(network, *arguments, **options))
    return evaluated[-1]
loop.evaluate = counting
config = load_config("dsa-reid-small", {{**TINY, **{changes!r}}})
result = loop.fit(config, random_store(), folder, device="cpu")
rank = os.environ.get("RANK", "0")
torch.save(rows, folder / f"rows-{{rank}}.pt")
told = {{"scores": asdict(result.scores), "evaluations": len(evaluated), "first": result.is_first}}
(folder / f"told-{{rank}}.json").write_text(json.dumps(told))
"""


def _script(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(changes=changes, threads=torch.get_num_threads()), encoding="utf-8")
    return path


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", "CUDA_VISIBLE_DEVICES": ""}


def test_a_run_killed_at_a_random_step_continues_bit_for_bit(tmp_path: Path) -> None:
    """SIGKILL, which no code sees; the step is another one in every test run."""
    changes = {"epochs": 5, "evaluate_every": 2, "augmentation.erase": 0.5}
    config = load_config("dsa-reid-small", {**TINY, **changes})
    fit(config, random_store(), tmp_path / "whole", device="cpu", on_event=lambda event: None)
    steps = load_checkpoint(tmp_path / "whole" / "last.pt").step
    wanted = random.randrange(1, steps)
    killed = tmp_path / "killed"
    process = start_forked(_script(tmp_path, **changes).read_text(), [killed], output=tmp_path / "said")
    while process.is_alive() and not any(int(row["step"]) >= wanted for row in read_metrics(killed)):
        time.sleep(0.002)
    process.kill()
    process.join()
    done = load_checkpoint(killed / "last.pt").step if (killed / "last.pt").is_file() else 0
    fit(config, random_store(), killed, device="cpu", on_event=lambda event: None)
    left, right = (load_checkpoint(folder / "last.pt") for folder in (tmp_path / "whole", killed))
    assert left.step == right.step == steps
    for name, weights in left.model.items():
        assert torch.equal(weights, right.model[name]), f"{name}; killed after step {wanted}, resumed from {done}"
    for key, state in left.optimiser["state"].items():
        assert torch.equal(state["exp_avg_sq"], right.optimiser["state"][key]["exp_avg_sq"])
    assert not list(killed.glob(".*.partial"))


def test_two_processes_train_together_on_the_single_process_batches(tmp_path: Path) -> None:
    """DDP over gloo under torchrun: the union of the ranks' batches is the batch of one process; rank 0 writes."""
    changes = {"epochs": 2, "evaluate_every": 1, "sampling.identities": 4}
    folder = tmp_path / "both"
    subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
         _script(tmp_path, **changes), folder],
        env={**_environment(), "OMP_NUM_THREADS": "1"}, check=True, capture_output=True, timeout=100,
    )  # fmt: skip
    rows: list[list[int]] = []
    augment = loop_module.augment

    def recording(batch, *arguments, **options):
        rows.append(batch.row.tolist())
        return augment(batch, *arguments, **options)

    loop_module.augment = recording
    try:
        config = load_config("dsa-reid-small", {**TINY, **changes})
        fit(config, random_store(), tmp_path / "one", device="cpu", on_event=lambda event: None)
    finally:
        loop_module.augment = augment
    ranks = [torch.load(folder / f"rows-{rank}.pt") for rank in (0, 1)]
    assert [first + second for first, second in zip(*ranks, strict=True)] == rows
    together, alone = (load_checkpoint(path / "last.pt") for path in (folder, tmp_path / "one"))
    assert together.step == alone.step == len(rows)
    assert together.scores
    told = [json.loads((folder / f"told-{rank}.json").read_text()) for rank in (0, 1)]
    assert [one["evaluations"] for one in told] == [2, 0]  # the first process alone
    assert [one["first"] for one in told] == [True, False]
    assert told[0]["scores"] == told[1]["scores"] == together.scores
    network, checkpoint = load_trained_network(folder / "last.pt")
    assert asdict(evaluate(network, random_store(), config=checkpoint.config)) == pytest.approx(together.scores)
    metrics = read_metrics(folder)
    assert len({(row["step"], row["name"]) for row in metrics}) == len(metrics)
    assert sorted(path.name for path in folder.glob("*.pt")) == ["best.pt", "last.pt", "rows-0.pt", "rows-1.pt"]
    # Rank 0's weights would differ from these, had the gradients of rank 1 not been shared.
    assert not torch.equal(together.model["main.trunk.conv1.weight"], alone.model["main.trunk.conv1.weight"])
