"""Slow, obvious twins of train's vectorised routines, and a small store in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from densereid.data_catalog.parts import MIRROR_PART, MIRROR_TURNS_U, MIRROR_TURNS_V
from densereid.data_catalog.store.schema import Geometry, Split, Status

MEAN = np.array([0.485, 0.456, 0.406])
DEVIATION = np.array([0.229, 0.224, 0.225])


TINY: dict[str, object] = {
    "height": 32,
    "width": 32,
    "epochs": 3,
    "evaluate_every": 2,
    "log_every": 1,
    "model.dsap_size": 8,
    "model.classifier_hidden": 16,
    "sampling.identities": 3,
    "sampling.images": 2,
    "augmentation.pad": 2,
}
"""A config for tests: changes of dsa-reid-small."""


@dataclass
class MemoryStore:
    """What training needs of a store, over plain arrays."""

    arrays: dict[str, np.ndarray]
    geometry: Geometry
    path: Path = Path("memory.zarr")
    attributes: dict[str, Any] = field(default_factory=lambda: {"dataset": "memory"})
    reads: list[str] = field(default_factory=list)

    def read(self, name: str, rows: slice | np.ndarray) -> np.ndarray:
        self.reads.append(name)
        return self.arrays[name][rows].copy()

    def missing_shards(self) -> list[int]:
        return []


def random_store(
    *,
    train_identities: int = 6,
    test_identities: int = 3,
    images: int = 4,
    height: int = 32,
    width: int = 32,
    dsap_size: int = 8,
    seed: int = 0,
) -> MemoryStore:
    """Images of one colour per identity, with noise; the DSAP has that colour where it is valid."""
    random = np.random.default_rng(seed)
    split = [Split.TRAIN] * train_identities * images
    split += [role for _ in range(test_identities) for role in [Split.QUERY] + [Split.GALLERY] * (images - 1)]
    num_samples = len(split)
    person_id = np.repeat(np.arange(train_identities + test_identities) + 5, images).astype(np.int32)
    colour = random.integers(0, 256, (train_identities + test_identities, 3))[person_id - 5]
    noise = random.integers(-20, 21, (num_samples, height, width, 3))
    image = np.clip(colour[:, None, None] + noise, 0, 255).astype(np.uint8)
    valid = random.random((num_samples, 24, dsap_size, dsap_size)) < 0.4
    dsap_noise = random.integers(-20, 21, (*valid.shape, 3))
    filled = np.where(valid[..., None], colour[:, None, None, None] + dsap_noise, (124, 116, 104))
    dsap = np.clip(filled, 0, 255).astype(np.uint8)
    iuv = random.integers(0, 256, (num_samples, height, width, 3)).astype(np.uint8)
    iuv[..., 0] = np.repeat(np.arange(height) * 25 // height, width).reshape(height, width)
    arrays = {
        "image": image,
        "iuv": iuv,
        "mask": random.integers(0, 8, (num_samples, height, width)).astype(np.uint8),
        "dsap": dsap,
        "dsap_valid": np.packbits(valid, axis=-1),
        "status": np.full(num_samples, Status.OK, np.uint8),
        "person_id": person_id,
        "camera_id": (np.arange(num_samples) % images + 1).astype(np.int32),
        "split": np.array(split, np.uint8),
    }
    return MemoryStore(arrays, Geometry(num_samples, height, width, dsap_size))


def slow_augment(
    sample: dict[str, np.ndarray], draw: dict[str, Any], *, pad: int, colour: str = "mean"
) -> dict[str, np.ndarray]:
    """One sample: flip, pad, crop, normalise, erase, step by step; arrays channel-first as in a Batch."""
    image, mask = sample["image"], sample["mask"]
    height, width = mask.shape
    if draw["flip"]:
        image, mask = image[:, :, ::-1], mask[:, ::-1]
    normal = (image / 255.0 - MEAN[:, None, None]) / DEVIATION[:, None, None]
    wide = np.zeros((3, height + 2 * pad, width + 2 * pad))
    wide += (-MEAN / DEVIATION)[:, None, None] if colour == "black" else 0
    wide[:, pad : pad + height, pad : pad + width] = normal
    wide_mask = np.zeros((height + 2 * pad, width + 2 * pad), np.uint8)
    wide_mask[pad : pad + height, pad : pad + width] = mask
    top, left = draw["top"], draw["left"]
    crop = wide[:, top : top + height, left : left + width].copy()
    erase_top, erase_left, tall, across = draw["erase"]
    for y in range(erase_top, erase_top + tall):
        for x in range(erase_left, erase_left + across):
            crop[:, y, x] = 0
    dsap, valid = (
        slow_flip_parts(sample["dsap"], sample["valid"]) if draw["flip"] else (sample["dsap"], sample["valid"])
    )
    normal_dsap = (dsap / 255.0 - MEAN[:, None, None]) / DEVIATION[:, None, None]
    return {
        "image": crop,
        "mask": wide_mask[top : top + height, left : left + width],
        "dsap": normal_dsap * valid[:, None],
    }


def slow_flip_parts(dsap: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Texel by texel: the point (part, u, v) goes to its mirrored part, at 1 - u or 1 - v where the chart turns."""
    size = dsap.shape[-1]
    flipped, flipped_valid = np.zeros_like(dsap), np.zeros_like(valid)
    for part in range(1, 25):
        partner = int(MIRROR_PART[part])
        for u in range(size):
            for v in range(size):
                to_u = size - 1 - u if part in MIRROR_TURNS_U else u
                to_v = size - 1 - v if part in MIRROR_TURNS_V else v
                flipped[partner - 1, :, to_u, to_v] = dsap[part - 1, :, u, v]
                flipped_valid[partner - 1, to_u, to_v] = valid[part - 1, u, v]
    return flipped, flipped_valid


def slow_crop_parts(image: np.ndarray, parts: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Part by part and texel by texel: the mean of the four pixels around each cell's centre, by their distance."""
    crops, valid = np.zeros((24, 3, size, size)), np.zeros((24, size, size), bool)
    for part in range(1, 25):
        rows, columns = np.nonzero(parts == part)
        if not len(rows):
            continue
        valid[part - 1] = True
        box = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(float)
        for row in range(size):
            for column in range(size):
                y = np.clip((row + 0.5) / size * box.shape[0] - 0.5, 0, box.shape[0] - 1)
                x = np.clip((column + 0.5) / size * box.shape[1] - 0.5, 0, box.shape[1] - 1)
                value = np.zeros(3)
                for i in {int(y), min(int(y) + 1, box.shape[0] - 1)}:
                    for j in {int(x), min(int(x) + 1, box.shape[1] - 1)}:
                        weight_y = 1 - (y - int(y)) if i == int(y) else y - int(y)
                        weight_x = 1 - (x - int(x)) if j == int(x) else x - int(x)
                        value += weight_y * weight_x * box[i, j]
                crops[part - 1, :, row, column] = np.round(value)
    return crops, valid


def slow_pool(dsap: np.ndarray, valid: np.ndarray, size: int) -> np.ndarray:
    """Mean of the valid texels of each cell of one sample's normalised DSAP (24, 3, S, S); 0 where none is."""
    cell = dsap.shape[-1] // size
    pooled = np.zeros((24, 3, size, size))
    for part in range(24):
        for u in range(size):
            for v in range(size):
                texels = [
                    dsap[part, :, y, x]
                    for y in range(u * cell, (u + 1) * cell)
                    for x in range(v * cell, (v + 1) * cell)
                    if valid[part, y, x]
                ]
                if texels:
                    pooled[part, :, u, v] = np.mean(texels, axis=0)
    return pooled


def slow_triplet_loss(features: np.ndarray, identity: np.ndarray, margin: float) -> float:
    """Three loops: for each anchor the worst of all (positive, negative) pairs."""
    losses = []
    for anchor in range(len(features)):
        worst = 0.0
        for positive in range(len(features)):
            for negative in range(len(features)):
                if identity[positive] == identity[anchor] != identity[negative]:
                    near = np.linalg.norm(features[anchor] - features[negative])
                    far = np.linalg.norm(features[anchor] - features[positive])
                    worst = max(worst, margin + far - near)
        losses.append(worst)
    return float(np.mean(losses))


def slow_identity_loss(logits: np.ndarray, identity: np.ndarray, smoothing: float) -> float:
    """Cross entropy of one classifier (B, C), sample by sample."""
    total = 0.0
    for row, label in zip(logits, identity, strict=True):
        log_probability = row - np.log(np.exp(row - row.max()).sum()) - row.max()
        target = np.full(len(row), smoothing / len(row))
        target[label] += 1 - smoothing
        total -= float((target * log_probability).sum())
    return total / len(logits)


def slow_ranks(distances: np.ndarray, chosen: np.ndarray, left_out: np.ndarray) -> list[int]:
    """Ranks from 1 of the chosen cells, row after row, in their rows without the cells that are left out."""
    ranks = []
    for row, away, wanted in zip(distances.tolist(), left_out, chosen, strict=True):
        order = sorted((column for column in range(len(row)) if not away[column]), key=lambda column: row[column])
        ranks += [1 + order.index(column) for column in wanted.nonzero()[0]]
    return ranks


def slow_scores(
    distances: np.ndarray,
    query_person: np.ndarray,
    query_camera: np.ndarray,
    gallery_person: np.ndarray,
    gallery_camera: np.ndarray,
) -> dict[str, float]:
    """One query at a time: rank the gallery, drop what the protocol drops, walk down the list."""
    results: list[tuple[float, ...]] = []
    for query in range(len(distances)):
        ranked = sorted(range(len(gallery_person)), key=lambda index: (distances[query, index], index))
        hits = []
        for index in ranked:
            same = gallery_person[index] == query_person[query]
            same_view = gallery_camera[index] == query_camera[query] != -1
            if gallery_person[index] == -1 or (same and same_view):
                continue
            hits.append(bool(same and query_person[query] > 0))
        if not any(hits):
            continue
        precisions, trapezoids, found = [], [], 0
        for rank, hit in enumerate(hits, start=1):
            if hit:
                before = found / (rank - 1) if rank > 1 else 1.0
                found += 1
                precisions.append(found / rank)
                trapezoids.append((before + found / rank) / 2)
                last = rank
        results.append(
            (*(float(any(hits[:k])) for k in (1, 5, 10)), np.mean(precisions), np.mean(trapezoids), found / last)
        )
    names = (
        "rank_1",
        "rank_5",
        "rank_10",
        "mean_average_precision",
        "trapezoid_average_precision",
        "mean_inverse_negative_penalty",
    )
    means = {name: float(np.mean([row[i] for row in results])) for i, name in enumerate(names)}
    return {**means, "num_valid_queries": len(results)}
