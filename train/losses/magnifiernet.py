"""MagnifierNet's losses: semantic diversity, class-balanced masks, weighted parts, and their sum."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from densereid.train.config.train_config import TrainConfig
from densereid.train.losses.metric_learning import Loss, batch_hard_triplet_loss, identity_loss, weighted_sum
from densereid.train.networks.regions import one_hot_part_maps

_EPSILON = 1e-6
"""Below this product of norms a cosine is damped, as in the official code."""


def diversity_loss(parts: Tensor) -> Tensor:
    """Semantic diversity loss (v1, equation 4; v2, equation 3) of pooled part features (B, M, C).

    Mean cosine over the batch and over the M (M - 1) / 2 pairs i < j (the equation's sum starts at
    i = j, which would add a constant; its factor counts strict pairs), at least 0.
    """
    parts = parts.float()
    norms = torch.linalg.vector_norm(parts, dim=2)
    cosines = parts @ parts.mT / (norms[:, :, None] * norms[:, None]).clamp_min(_EPSILON)
    strict = torch.ones_like(cosines[0], dtype=torch.bool).triu(1)
    pairs = parts.shape[1] * (parts.shape[1] - 1) / 2
    # A product: indexing by the mask would make the host wait for the number of pairs.
    return (cosines * strict).sum((1, 2)).mean().div(pairs).clamp_min(0)


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of mask logits (B, 8, h, w) against labels int64 (B, h, w), each label counting the same.

    The mean over each label's positions, then over the labels that the batch has (EANet's and the
    official code's balance: background and torso would outweigh head and feet).
    """
    costs = F.cross_entropy(logits.float(), target, reduction="none")
    members = one_hot_part_maps(target)
    counts = members.sum((0, 2, 3))
    means = (costs[:, None] * members).sum((0, 2, 3)) / counts.clamp_min(1)
    return means.sum() / (counts > 0).sum()


def part_loss(logits: Tensor, identity: Tensor, weights: Tensor, *, label_smoothing: float) -> Tensor:
    """Sum over the parts of weight (8,) times smoothed identity loss of logits (B, 8, num_identities)."""
    flat, target = logits.float().flatten(0, 1), identity.repeat_interleave(logits.shape[1])
    costs = F.cross_entropy(flat, target, reduction="none", label_smoothing=label_smoothing)
    return costs.view(logits.shape[:2]).mean(0) @ weights


def magnifier_loss(
    outputs: dict[str, Tensor], identity: Tensor, config: TrainConfig, *, second_stage: bool = False
) -> Loss:
    """L_cls + L_tri + gamma L_SD + lambda L_mask (v2, equation 4; v1, equation 5), L_SD in the second stage only.

    Smoothed identity loss on each branch after its BNNeck and on each part; batch-hard triplet loss
    on each branch before it. ``outputs`` as MagnifierReid.forward gives them.
    """
    weights, terms = config.loss, {}
    for branch in config.magnifier.branches:
        smoothed = identity_loss(outputs[f"logits_{branch}"], identity, label_smoothing=weights.label_smoothing)
        terms[f"identity_{branch}"] = weights.identity * smoothed
        weight = weights.triplet_regularisation if branch == "regularisation" else weights.triplet
        hard = batch_hard_triplet_loss(outputs[f"before_{branch}"], identity, margin=weights.margin)
        terms[f"triplet_{branch}"] = weight * hard
    if "logits_parts" in outputs:
        each = weights.part * outputs["part_weights"]
        terms["identity_parts"] = part_loss(
            outputs["logits_parts"], identity, each, label_smoothing=weights.label_smoothing
        )
    if "mask_logits" in outputs:
        terms["mask"] = weights.mask * mask_loss(outputs["mask_logits"], outputs["mask_target"])
    if "attribute_logits" in outputs:
        cost = attribute_loss(outputs["attribute_logits"], outputs["attribute_target"])
        terms["attribute"] = weights.attribute * cost
    if second_stage and "parts" in outputs:
        terms["diversity"] = weights.diversity * diversity_loss(outputs["parts"])
    return weighted_sum(terms)


def attribute_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross entropy, a scalar: the mean over the batch and its attributes; both (B, A), targets 0 or 1."""
    return F.binary_cross_entropy_with_logits(logits.float(), targets.float())
