"""Batches of P identities times K images, as batch-hard triplet mining needs them."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import numpy as np
import torch
from torch.utils.data import Sampler

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.plural import plural
from densereid.train.data.randomness import Purpose, generator


class PKSampler(Sampler[list[int]]):
    """Yields lists of P*K dataset indices, the K images of one identity together, P different identities.

    An epoch gives each identity one slot per K images it has (at least one), so frequent persons are
    seen more often, as in the samplers of torchreid and the strong baseline; unlike theirs its length
    is exact, equal in every epoch, and every identity appears. An identity with fewer than K images
    repeats some. The same (seed, epoch) gives the same batches. Of ``world_size`` processes each takes
    P / world_size identities of every batch; together they make the batch of a single process.
    """

    def __init__(
        self, labels: np.ndarray, *, identities: int, images: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self._images_of = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self._identities, self._images, self._seed, self._epoch = identities, images, seed, 0
        self._rank, self._world_size = rank, world_size
        if len(self._images_of) < 2:
            raise UserError(
                "the training split has one identity; a training needs two or more: every image is compared with one "
                "of another person",
                "Add images of other persons, or correct PATTERN, whose group person tells them apart.",
            )
        if len(self._images_of) < identities:
            raise UserError(
                f"a batch needs {plural(identities, 'identity')}, the training split has {len(self._images_of)}",
                f"Set it to at most that: --set sampling.identities={len(self._images_of)}.",
            )
        if identities % world_size:
            raise UserError(
                f"{plural(identities, 'identity')} cannot be shared evenly by {plural(world_size, 'process')}",
                f"Set sampling.identities to a multiple of {world_size}.",
            )
        self._groups = np.array([max(1, len(members) // images) for members in self._images_of])
        self._num_batches = ceil(self._groups.sum() / identities)

    def __len__(self) -> int:
        return self._num_batches

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches the next iteration yields."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        random = generator(self._seed, Purpose.BATCHES, self._epoch)
        identity_batches = self._identity_batches(random)
        groups = [
            self._image_groups(label, int(count), random)
            for label, count in enumerate(np.bincount(identity_batches.ravel(), minlength=len(self._images_of)))
        ]
        share = self._identities // self._world_size
        for batch in identity_batches:
            drawn = [groups[identity].pop() for identity in batch]
            mine = drawn[self._rank * share : (self._rank + 1) * share]
            yield [int(index) for group in mine for index in group]

    def _identity_batches(self, random: torch.Generator) -> np.ndarray:
        """(num_batches, P) identities, different within a row, each in as many rows as it has slots."""
        slots = self._slots(random)
        order = _permutation(len(slots), random)
        line = np.repeat(order, slots[order])
        # Dealing the line out like cards: an identity's slots are neighbours in it, at most
        # num_batches of them, so no batch gets two of the same.
        dealt = line.reshape(self._identities, self._num_batches).T
        return dealt[_permutation(self._num_batches, random)]

    def _slots(self, random: torch.Generator) -> np.ndarray:
        """Rows in which each identity appears; they sum to num_batches * P and none exceeds num_batches."""
        slots = np.minimum(self._groups, self._num_batches)
        missing = self._num_batches * self._identities - int(slots.sum())
        while missing:
            open_identities = np.flatnonzero(slots < self._num_batches)
            extra = open_identities[_permutation(len(open_identities), random)][:missing]
            slots[extra] += 1
            missing -= len(extra)
        return slots

    def _image_groups(self, label: int, count: int, random: torch.Generator) -> list[np.ndarray]:
        """``count`` groups of K images; no image twice in a group, nor again before its turn, while they last."""
        members, size = self._images_of[label], self._images
        groups: list[np.ndarray] = []
        while len(groups) < count:
            shuffled = members[_permutation(len(members), random)]
            if len(members) < size:
                groups.append(np.resize(shuffled, size))
            else:
                groups += list(shuffled[: len(members) // size * size].reshape(-1, size))
        return groups[:count]


def _permutation(length: int, random: torch.Generator) -> np.ndarray:
    return torch.randperm(length, generator=random).numpy()
