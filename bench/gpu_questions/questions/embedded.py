"""The dense pose network in the box: its rate by batch, and JPEGs to a store with it."""

from __future__ import annotations

import numpy as np
import torch

from bench.dense_pose.own_script import preprocessed
from bench.gpu_questions.answers import Answer
from bench.gpu_questions.context import Context
from bench.gpu_questions.questions.densepose import SIZE, repeated
from bench.gpu_questions.questions.rendered import rendered_dataset
from bench.gpu_questions.questions.timing import forget, gigabytes, seconds_each
from densereid.preprocess.densepose.decode import decode_charts
from densereid.preprocess.embedded.both_sides import scores_of_both_sides
from densereid.preprocess.embedded.weights import load_embedded
from densereid.preprocess.estimators.embedded import EmbeddedEstimator, input_size, open_embedded


def answer(context: Context, answer: Answer) -> None:
    """The network with its decoding, then end to end."""
    estimator = open_embedded(context.device)
    answer.attempt("the network", _rates, context, answer, estimator)
    answer.attempt("end to end", _end_to_end, context, answer, estimator)


@torch.inference_mode()
def _rates(context: Context, answer: Answer, estimator: EmbeddedEstimator) -> None:
    """Crops and IUV maps stay on the device."""
    entered = input_size(128, 64)
    title = f"The embedded network from both sides, and its decoding, fp32, crops at {entered[0]}x{entered[1]}"
    add = answer.table(title, ("batch", "images/s", "ms a batch", "peak memory, GB"))
    network = load_embedded(estimator.weights.path, estimator.weights.sha256, context.device, "fp32")
    for batch in context.scale.batches:
        forget(context.device)
        pixels = np.random.default_rng(0).integers(0, 256, (batch, 3, *entered), np.uint8)
        images = torch.from_numpy(pixels).to(context.device)
        seconds = seconds_each(
            lambda images=images: decode_charts(scores_of_both_sides(network, images), SIZE),
            context.device,
            context.scale.least_seconds,
        )
        answer.figure(f"embedded.network.batch{batch}.rate", batch / seconds, "images/s")
        add(batch, f"{batch / seconds:.4g}", f"{1e3 * seconds:.2f}", gigabytes(context.device))


def _end_to_end(context: Context, answer: Answer, estimator: EmbeddedEstimator) -> None:
    add = answer.table(f"JPEGs of 128x64 to a zarr store at {SIZE[0]}x{SIZE[1]}", ("images", "images/s", "GPU busy"))
    dataset = repeated(rendered_dataset(context), context.scale.crops, context.work)
    found = preprocessed(estimator, dataset, context.work / "embedded.zarr")
    answer.figure("embedded.end_to_end.rate", found.rate, "images/s")
    add(found.images, f"{found.rate:.4g}", "not sampled" if found.busy is None else f"{found.busy:.0%}")
