"""Whether the networks learn: as many epochs as fit on rendered pedestrians, random weights, the schedule shortened."""

from __future__ import annotations

import time
from pathlib import Path

from bench.gpu_questions.answers import Answer, read_answer
from bench.gpu_questions.context import Context
from bench.gpu_questions.questions.rendered import rendered_store
from bench.gpu_questions.questions.timing import forget
from bench.gpu_questions.questions.training import WORDS
from bench.training.steps import measure, measured_config
from densereid.data_catalog.store.schema import Split
from densereid.train.config.train_config import TrainConfig, load_config, with_settings
from densereid.train.data.dataset import StoreDataset
from densereid.train.engine.loop import fit
from densereid.train.families import training_arrays

_RESERVE = 5.0
"""Seconds for building a network anew, decoding its images, and the evaluation at the end."""

_SAVING = 0.5
"""Seconds for the checkpoint after each epoch, where it was not measured."""

_LEAST_SECONDS = 15.0


def answer(context: Context, answer: Answer) -> None:
    """The networks share evenly what time is left."""
    add = answer.table(
        "Rendered pedestrians, never pretrained; test identities are others than those in training",
        ("model", "training images", "identities", "epochs", "of the paper's", "seconds", "Rank-1", "mAP"),
    )
    names = context.scale.learning
    for number, name in enumerate(names):
        share = context.seconds_left() / (len(names) - number)
        if share < _LEAST_SECONDS and context.is_gpu:
            answer.note(f"Not measured, for want of time: {name}.")
            continue
        row = answer.attempt(name, learn, context, answer, name, share)
        if row is not None:
            add(*row)


def learn(context: Context, answer: Answer, name: str, seconds: float) -> tuple[object, ...]:
    """Train and evaluate within about so many seconds; the cells of a row."""
    model, precision = context.scale.models[name], WORDS["bf16" if context.is_gpu else "fp32"]
    whole = load_config(model, {"model.pretrained": "never", "evaluate_every": 0, "precision": precision})
    store = rendered_store(context, whole.height, whole.width)
    dataset = StoreDataset(store, Split.TRAIN, needs=training_arrays(whole), height=whole.height, width=whole.width)
    forget(context.device)
    ends = time.time() + seconds
    with context.run_folder() as folder:
        trial = measured_config(model, precision, compiled=False, window=context.scale.window)
        rate = measure(trial, store, Path(folder) / "trial", device=context.device).rate
        known = read_answer(context.steps, "training")["figures"].get(f"training.{name}.checkpoint", [_SAVING])
        saving = float(known[0])
        left = ends - time.time() - _RESERVE - 2 * saving  # the best and the last one at the end
        fitting = int(left / (len(dataset) / rate + saving))
        config = shortened(whole, max(1, min(fitting, context.scale.learning_epochs)))
        found = fit(config, store, Path(folder) / "run", device=context.device, on_event=lambda _: None)
    assert found.scores is not None, "the rendered store has query and gallery"
    rank_1, mean_precision = found.scores.rank_1, found.scores.mean_average_precision
    answer.figure(f"learning.{name}.epochs", found.epochs)
    answer.figure(f"learning.{name}.rank_1", rank_1)
    answer.figure(f"learning.{name}.map", mean_precision)
    return (
        model, len(dataset), dataset.num_identities, found.epochs, whole.epochs, f"{found.seconds:.0f}",
        f"{rank_1:.1%}", f"{mean_precision:.1%}",
    )  # fmt: skip


def shortened(config: TrainConfig, epochs: int) -> TrainConfig:
    """The experiment in ``epochs``, with everything that its schedule counts in epochs shortened alike."""
    factor, schedule = epochs / config.epochs, config.schedule
    milestones = [round(factor * epoch, 4) for epoch in schedule.milestones]
    return with_settings(
        config,
        {
            "epochs": epochs,
            "schedule.warmup_epochs": factor * schedule.warmup_epochs,
            "schedule.decay_every": factor * schedule.decay_every,
            "schedule.decay_from": factor * schedule.decay_from,
            "schedule.milestones": milestones,
            "stages.first_epochs": max(1, round(factor * config.stages.first_epochs)),
        },
    )
