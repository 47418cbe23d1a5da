"""What is asked, in the order of worth, and how much of it: the one table of time limits, and the one of sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Precision = Literal["bf16", "fp32"]

MINUTES = 8.0
"""Of the whole run, unless said otherwise."""

_QUESTIONS = "bench.gpu_questions.questions"


@dataclass(frozen=True)
class Step:
    """A question, asked in a process of its own: ``entry`` is MODULE:FUNCTION, called with a Context and an Answer.

    ``seconds`` is its limit, or None for all that is left. A ``background`` step runs beside the next ones that do not
    ``need`` it.
    """

    name: str
    entry: str
    seconds: float | None
    background: bool = False
    needs: str | None = None


STEPS = (
    Step("data", f"{_QUESTIONS}.rendered:answer", 90, background=True),
    Step("machine", f"{_QUESTIONS}.machine:answer", 40),
    Step("tests", f"{_QUESTIONS}.gpu_tests:answer", 110),
    Step("densepose", f"{_QUESTIONS}.densepose:answer", 100, needs="data"),
    Step("training", f"{_QUESTIONS}.training:answer", 115, needs="data"),
    Step("guiding-stream", f"{_QUESTIONS}.guiding_stream:answer", 40),
    Step("embedded", f"{_QUESTIONS}.embedded:answer", 40, needs="data"),
    Step("ranking", f"{_QUESTIONS}.ranking:answer", 60, needs="data"),
    Step("densepose-compiled", f"{_QUESTIONS}.compiled:densepose", 75, needs="data"),
    Step("training-compiled", f"{_QUESTIONS}.compiled:training", 120, needs="data"),
    Step("tests-compiled", f"{_QUESTIONS}.compiled:tests", 120),
    Step("learning", f"{_QUESTIONS}.learning:answer", None, needs="data"),
)
"""Limits, not estimates: an earlier step gets what it needs, and what it leaves goes to the later ones."""


@dataclass(frozen=True)
class Scale:
    """How much is measured; ``full`` is the real thing, the others are rehearsals of the same code."""

    identities: int
    """Rendered persons for training, 12 images each."""
    test_identities: int
    test_files: int | None
    """How many of the test files with tests marked gpu; None for all."""
    width: int
    """Channels of DensePose's stem; 64 in the published models."""
    short_edge: int
    batches: tuple[int, ...]
    """Crops in a batch of DensePose."""
    graph_batches: tuple[int, ...]
    """The same, as a CUDA graph."""
    crops: int
    """Images from JPEG to store."""
    least_seconds: float
    """A timing goes on for at least so long."""
    precisions: tuple[Precision, ...]
    """DensePose's words; a training's are the same with fp32 for 32-true and bf16 for bf16-mixed."""
    models: Mapping[str, str]
    """The experiment that stands for each paper's network, and for the baseline."""
    families: tuple[str, ...]
    """Of these, whose training steps are measured, in the order of worth: MagnifierNet's have the goal."""
    feeds: tuple[str, ...]
    """How batches come to the training steps; see :mod:`densereid.train.data.loading`."""
    window: int
    """Training steps that are averaged; the first so many do not count."""
    profiled_steps: int
    guide: tuple[int, int, int]
    """DSAG-Stream: channels, samples in a batch, edge of a DSAP image."""
    ranked: Mapping[str, tuple[int, int]]
    """Query and gallery images by dataset; junk is among them, as in the datasets."""
    embedding: int
    learning: tuple[str, ...]
    """Which of the models learn, in the order of worth."""
    learning_epochs: int
    """Most epochs that a network learns; fewer where time ends."""
    matrix: int
    """Edge of the matrix product that says what the machine can do."""
    compiles: bool
    """Whether torch.compile is tried; it takes minutes on a CPU."""


SCALES = {
    "full": Scale(
        identities=192, test_identities=40, test_files=None,
        width=64, short_edge=256, batches=(16, 64, 128, 256), graph_batches=(16, 64), crops=8192, least_seconds=1.0,
        precisions=("bf16", "fp32"), families=("magnifiernet", "dsa-reid"), feeds=("auto", "disk"),
        models={"magnifiernet": "magnifiernet", "dsa-reid": "dsa-reid", "baseline": "baseline"},
        window=6, profiled_steps=5, guide=(1024, 64, 32),
        ranked={"market": (3368, 19_732), "msmt17": (11_659, 82_161)}, embedding=2048,
        learning=("dsa-reid", "baseline", "magnifiernet"), learning_epochs=60, matrix=8192, compiles=True,
    ),
    "small": Scale(
        identities=32, test_identities=8, test_files=None,
        width=64, short_edge=128, batches=(1, 2), graph_batches=(2,), crops=16, least_seconds=0.5,
        precisions=("bf16", "fp32"), families=("magnifiernet", "dsa-reid"), feeds=("auto", "disk"),
        models={"magnifiernet": "magnifiernet-small", "dsa-reid": "dsa-reid-small", "baseline": "baseline-small"},
        window=3, profiled_steps=3, guide=(256, 8, 32),
        ranked={"market": (337, 1973), "msmt17": (500, 3000)}, embedding=2048,
        learning=("dsa-reid", "baseline", "magnifiernet"), learning_epochs=12, matrix=1024, compiles=False,
    ),
    "tiny": Scale(
        identities=8, test_identities=3, test_files=1,
        width=16, short_edge=32, batches=(2,), graph_batches=(2,), crops=8, least_seconds=0.0,
        precisions=("fp32",), families=("dsa-reid",), feeds=("auto",),
        models={"magnifiernet": "magnifiernet-small", "dsa-reid": "dsa-reid-small", "baseline": "baseline-small"},
        window=1, profiled_steps=1, guide=(32, 2, 8),
        ranked={"market": (40, 200)}, embedding=32,
        learning=("magnifiernet",), learning_epochs=1, matrix=64, compiles=False,
    ),
}  # fmt: skip
"""By the word after --scale."""
