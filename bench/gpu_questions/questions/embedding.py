"""What comes before ranking: embeddings of a store's images by the network that is kept."""

from __future__ import annotations

import time

import numpy as np
import torch

from bench.gpu_questions.answers import Answer
from bench.gpu_questions.context import Context
from bench.gpu_questions.questions.rendered import rendered_store
from bench.gpu_questions.questions.timing import forget, wait
from densereid.train.config.train_config import load_config
from densereid.train.evaluation.evaluate import extract_embeddings
from densereid.train.families import build_network


def embed(context: Context, answer: Answer) -> None:
    """A row for each family: images a second from the zarr store, and minutes for the datasets that are ranked."""
    minutes = [f"minutes for {dataset}" for dataset in context.scale.ranked]
    add = answer.table("Embeddings from a zarr store, fp32", ("model", "images/s", *minutes))
    for family in context.scale.families:
        rate = answer.attempt(f"embeddings of {family}", embedding_rate, context, context.scale.models[family])
        if rate is not None:
            answer.figure(f"embedding.{family}.rate", rate, "images/s")
            each = [f"{sum(sizes) / rate / 60:.2f}" for sizes in context.scale.ranked.values()]
            add(context.scale.models[family], f"{rate:.4g}", *each)


def embedding_rate(context: Context, model: str) -> float:
    """Images a second of all images of the store, after a batch that does not count."""
    config = load_config(model, {"model.pretrained": "never"})
    store = rendered_store(context, config.height, config.width)
    network = build_network(config, 2, seed=0).to(memory_format=torch.channels_last)
    rows = np.arange(store.geometry.num_samples)
    forget(context.device)
    extract_embeddings(network, store, rows[:128], config=config, device=context.device)
    wait(context.device)
    began = time.perf_counter()
    extract_embeddings(network, store, rows, config=config, device=context.device)  # ends on the host
    return len(rows) / (time.perf_counter() - began)
