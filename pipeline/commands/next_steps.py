"""What can be done next with a store, as commands that work when they are pasted."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.schema import Split, Status
from densereid.data_catalog.store.store import Store
from densereid.pipeline.console import print_next_commands, print_status
from densereid.pipeline.invocation import next_command, this_command
from densereid.pipeline.settings import choose_model, defaults, resolve_device
from densereid.preprocess.writing.plan import DERIVED_FROM
from densereid.train.config.train_config import TrainConfig, load_config


@dataclass(frozen=True)
class Contents:
    """What of a store's images a network could learn from."""

    images: int
    with_person: int
    """Images that were read and that show somebody."""
    failed: int
    """Images that could not be read."""
    identities: int
    """Persons with a usable training image."""


def contents_of(store: Store) -> Contents:
    """Count them."""
    status, person, split = (store.read(name) for name in ("status", "person_id", "split"))
    usable = (status != Status.FAILED) & (person > 0) & (split == Split.TRAIN)
    with_person, failed = (int((status == each).sum()) for each in (Status.OK, Status.FAILED))
    return Contents(len(status), with_person, failed, len(np.unique(person[usable])))


def print_next(store: Store, /, *, without: Collection[str] = (), **named: object) -> None:
    """Print the commands that come after a store was made, and why training is not among them where it is not.

    ``named`` and ``without`` are those of :func:`densereid.pipeline.invocation.next_command`.
    """
    found = contents_of(store)
    look = next_command("inspect", without=without, **named)
    again = [] if not found.failed or DERIVED_FROM in store.attributes else [this_command()]
    if again:
        print_status(f"mend what {store.path / 'failures.csv'} names, then run the same command again: it reads these")
    if 2 * found.with_person < found.images:
        print_status(f"only {found.with_person} of {plural(found.images, 'image')} show a person and could be read")
        print_next_commands(look)
    elif found.identities < 2:
        known = "no identity is" if found.identities == 0 else "one identity alone is"
        print_status(f"{known} known among the training images (PATTERN's group person): a training needs two or more")
        print_next_commands(look)
    else:
        print_next_commands(look, _train(store, found, without, named))
    print_next_commands(*again)


def _train(store: Store, found: Contents, without: Collection[str], named: dict[str, object]) -> str:
    """The command that trains what it trains unasked, with the settings that a store of few persons needs."""
    config = load_config(choose_model(defaults().model, resolve_device("auto")[0])[0])
    settings = []
    if found.identities < config.sampling.identities:
        settings.append(f"sampling.identities={found.identities}")
    if store.geometry.dsap_size % config.model.dsap_size:
        settings.append(f"model.dsap_size={store.geometry.dsap_size}")
    left = without if _can_be_trained_at(config, store) else [*without, "size"]
    return next_command("train", without=left, **named, **({"set": settings} if settings else {}))


def _can_be_trained_at(config: TrainConfig, store: Store) -> bool:
    """Whether a network takes images of the store's size; otherwise they are resized to the network's own."""
    sizes = {"height": store.geometry.height, "width": store.geometry.width}
    try:
        load_config(config.name, sizes)
    except UserError:
        return False
    return True
