"""Losses of both papers: label-smoothed identity loss, batch-hard triplet loss, and DSA-reID's sum of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from densereid.train.config.train_config import LossConfig


@dataclass(frozen=True)
class Loss:
    """``total`` (scalar, with gradient) and its named, weighted terms (scalars, detached) that sum to it."""

    total: Tensor
    terms: dict[str, Tensor]


def weighted_sum(terms: dict[str, Tensor]) -> Loss:
    """The Loss of terms that carry their weights already."""
    return Loss(torch.stack(tuple(terms.values())).sum(), {name: term.detach() for name, term in terms.items()})


def identity_loss(logits: Tensor, identity: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross entropy against a target of 1 - e + e / C for the identity and e / C for the others, batch mean.

    logits (B, C) or (B, branches, C), whose branches are summed; identity int64 (B,) in 0..C-1.
    Label smoothing: Szegedy et al., CVPR 2016, section 7.
    """
    branches = logits.float() if logits.ndim == 3 else logits.float()[:, None]
    flat = branches.flatten(0, 1)
    target = identity.repeat_interleave(branches.shape[1])
    mean = F.cross_entropy(flat, target, label_smoothing=label_smoothing)
    return mean * branches.shape[1]


def pairwise_distances(features: Tensor) -> Tensor:
    """Euclidean distances (B, B) of features (B, D), with a gradient of 0 between equal vectors."""
    features = features.float()
    squares = features.square().sum(1)
    squared = squares[:, None] + squares[None] - 2 * features @ features.T
    # sqrt has an infinite slope at 0; a distance of 1e-6 stands for it.
    return squared.clamp_min(1e-12).sqrt()


def batch_hard_triplet_loss(features: Tensor, identity: Tensor, *, margin: float) -> Tensor:
    """Mean over anchors of max(0, margin + farthest positive - nearest negative).

    features (B, D), identity int64 (B,). Hermans et al., arXiv 1703.07737, equation 5 (batch hard,
    Euclidean, not squared). An anchor without a negative costs nothing.
    """
    distances = pairwise_distances(features)
    same = identity[:, None] == identity[None]
    positive = distances.masked_fill(~same, 0).amax(1)
    negative = distances.masked_fill(same, torch.inf).amin(1)
    return F.relu(margin + positive - negative).mean()


def dsa_loss(outputs: dict[str, Tensor], identity: Tensor, config: LossConfig) -> Loss:
    """DSA-reID section 3.2.4 with the weights of 4.2.

    Identity loss on f_G and each of the eight f_L,i (0.5 each), on z_G and z_L (1.0 each); batch-hard
    triplet loss on z_G and z_L (1.5 each). ``outputs`` as DSAReid.forward gives them; a network with
    one branch has that branch's terms. Not the paper's: ``repeat_on_main`` times the losses of z on f_G and on the
    whole of f_L as well; and ``identity_fused`` 0 without a guide, where z is f (``two-branches-plain``).
    """
    branches = [name for name in ("global", "local") if f"z_{name}" in outputs]
    repeated, factor = (branches if config.repeat_on_main > 0 else []), config.repeat_on_main

    def smoothed(name: str) -> Tensor:
        return identity_loss(outputs[f"logits_{name}"], identity, label_smoothing=config.label_smoothing)

    def hard(name: str) -> Tensor:
        return batch_hard_triplet_loss(outputs[name], identity, margin=config.margin)

    terms = {f"identity_f_{name}": config.identity_main * smoothed(f"f_{name}") for name in branches}
    terms |= {f"identity_z_{name}": config.identity_fused * smoothed(f"z_{name}") for name in branches}
    terms |= {f"triplet_z_{name}": config.triplet_fused * hard(f"z_{name}") for name in branches}
    terms |= {
        f"identity_whole_f_{name}": factor * config.identity_fused * smoothed(f"whole_f_{name}") for name in repeated
    }
    terms |= {f"triplet_f_{name}": factor * config.triplet_fused * hard(f"f_{name}") for name in repeated}
    return weighted_sum(terms)
