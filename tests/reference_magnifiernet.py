"""MagnifierNet's equations, slowly: loops over images, parts, places and pairs, in float64; and a small network."""

from __future__ import annotations

import numpy as np
import torch

from densereid.train.config.train_config import TrainConfig, load_config
from densereid.train.data.batch import Inputs
from densereid.train.families import build_network
from densereid.train.networks.magnifiernet import MagnifierReid


def slow_planes(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """(8, height, width): the share of each part among the pixels of each cell; the mask's size is a multiple."""
    tall, wide = mask.shape[0] // height, mask.shape[1] // width
    part_maps = np.zeros((8, height, width))
    for row in range(height):
        for column in range(width):
            cell = mask[row * tall : (row + 1) * tall, column * wide : (column + 1) * wide]
            for part in range(8):
                part_maps[part, row, column] = sum(label == part for label in cell.ravel()) / cell.size
    return part_maps


def slow_bilinear_planes(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """(8, height, width): each part's binary plane between the four pixels around the centre of each cell."""
    part_maps = np.zeros((8, height, width))
    for row in range(height):
        for column in range(width):
            y, x = (row + 0.5) * mask.shape[0] / height - 0.5, (column + 0.5) * mask.shape[1] / width - 0.5
            for i in (int(y), int(y) + 1):
                for j in (int(x), int(x) + 1):
                    part_maps[mask[i, j], row, column] += (1 - abs(y - i)) * (1 - abs(x - j))
    return part_maps


def slow_aligned(features: np.ndarray, part_maps: np.ndarray) -> np.ndarray:
    """Equation 1: x_k = F under mask k, (8, C, h, w) of one image's map (C, h, w) and planes (8, h, w)."""
    aligned = np.zeros((len(part_maps), *features.shape))
    for part in range(len(part_maps)):
        for channel in range(len(features)):
            for row in range(features.shape[1]):
                for column in range(features.shape[2]):
                    place = (row, column)
                    aligned[(part, channel, *place)] = features[(channel, *place)] * part_maps[(part, *place)]
    return aligned


def slow_max_pool(map_: np.ndarray) -> np.ndarray:
    """GMP: the largest value of each channel of (C, h, w)."""
    return np.array([max(channel.ravel()) for channel in map_])


def slow_kept(features: np.ndarray, part_maps: np.ndarray, kept_regions: list[int]) -> np.ndarray:
    """v2's equation 2 and v1's equation 3: GMP of the sum of the aligned maps of the regions that are not erased."""
    aligned = slow_aligned(features, part_maps)
    total = np.zeros_like(features)
    for part in kept_regions:
        total = total + aligned[part]
    return slow_max_pool(total)


def slow_diversity(parts: np.ndarray, epsilon: float = 1e-6) -> float:
    """v2's equation 3, v1's equation 4, over strict pairs: parts (N, M, C)."""
    samples, number, _ = parts.shape
    total, pairs = 0.0, 0
    for sample in range(samples):
        for j in range(number):
            for i in range(j + 1, number):
                first, second = parts[sample, i], parts[sample, j]
                length = np.sqrt((first**2).sum()) * np.sqrt((second**2).sum())
                total += float(first @ second) / max(length, epsilon)
                pairs += 1
    return max(0.0, total / pairs)


def slow_mask_loss(logits: np.ndarray, target: np.ndarray) -> float:
    """Per-pixel cross entropy, averaged within each label, then over the labels that occur."""
    costs: dict[int, list[float]] = {}
    for sample in range(len(target)):
        for row in range(target.shape[1]):
            for column in range(target.shape[2]):
                scores = logits[sample, :, row, column]
                label = int(target[sample, row, column])
                probability = np.exp(scores[label]) / np.exp(scores).sum()
                costs.setdefault(label, []).append(-np.log(probability))
    return float(np.mean([np.mean(values) for values in costs.values()]))


def slow_gru(parts: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """The last state of one GRU layer over parts (M, C) in their order (Cho et al.; torch's gates r, z, n)."""
    state = np.zeros(parts.shape[1])
    for part in parts:
        given = np.split(weights["weight_ih_l0"] @ part + weights["bias_ih_l0"], 3)
        hidden = np.split(weights["weight_hh_l0"] @ state + weights["bias_hh_l0"], 3)
        reset, update = _sigmoid(given[0] + hidden[0]), _sigmoid(given[1] + hidden[1])
        new = np.tanh(given[2] + reset * hidden[2])
        state = (1 - update) * new + update * state
    return state


def slow_lstm(parts: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    """The last output of one LSTM layer over parts (M, C) in their order (torch's gates i, f, g, o)."""
    state, memory = np.zeros(parts.shape[1]), np.zeros(parts.shape[1])
    for part in parts:
        total = weights["weight_ih_l0"] @ part + weights["bias_ih_l0"]
        enter, forget, new, leave = np.split(total + weights["weight_hh_l0"] @ state + weights["bias_hh_l0"], 4)
        memory = _sigmoid(forget) * memory + _sigmoid(enter) * np.tanh(new)
        state = _sigmoid(leave) * np.tanh(memory)
    return state


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def small_config(name: str = "magnifiernet-small", **changes: object) -> TrainConfig:
    return load_config(name, {"height": 64, "width": 32, **changes})


def small_network(name: str = "magnifiernet-small", **changes: object) -> MagnifierReid:
    network = build_network(small_config(name, **changes), 5, seed=0)
    assert isinstance(network, MagnifierReid)
    return network


def small_inputs(kept_regions: torch.Tensor | None = None) -> Inputs:
    random = torch.Generator().manual_seed(0)
    image = torch.randn(4, 3, 64, 32, generator=random)
    mask = torch.randint(0, 8, (4, 8, 4), generator=random).repeat_interleave(8, 1).repeat_interleave(8, 2)
    return Inputs(image, torch.tensor([0, 0, 1, 1]), torch.zeros(4), mask=mask.to(torch.uint8), regions=kept_regions)


def labels(*kept_regions: int) -> torch.Tensor:
    return torch.tensor([label in kept_regions for label in range(8)])
