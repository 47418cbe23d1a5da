"""Where randomness comes from: every draw is made by a generator whose seed says what it is for."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import torch


class Purpose(IntEnum):
    """What a generator is for; different purposes never share their numbers."""

    BATCHES = 1
    AUGMENTATION = 2
    LOADER = 3
    REGIONS = 4


def derive_seed(seed: int, *purpose: int) -> int:
    """A 63-bit seed that depends on ``seed`` and on each number of ``purpose`` (epoch, step, rank), none colliding."""
    state = np.random.SeedSequence([seed, len(purpose), *purpose]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def generator(seed: int, *purpose: int) -> torch.Generator:
    """A CPU generator seeded by :func:`derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


def seed_everything(seed: int) -> None:
    """Seed torch on every device: initial weights and dropout are torch's global draws, all others have generators."""
    torch.manual_seed(derive_seed(seed))


def random_states() -> dict[str, Any]:
    """The states of torch's global generators, as tensors that a checkpoint can hold."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"torch": torch.get_rng_state(), "cuda": cuda}


def restore_random_states(states: dict[str, Any]) -> None:
    """Put back what :func:`random_states` returned; CUDA states only where as many devices exist."""
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
