"""The attributes of the synthetic pedestrians, read off their appearance, in a file of Market-1501's form."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densereid.data_catalog.files.matlab.variables import write_matlab
from densereid.data_catalog.synthetic.appearance import BOTTOM_COLOURS, TOP_COLOURS, Appearance, Bottom
from densereid.data_catalog.synthetic.body import Bag, Hair
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.sample import identity_appearance

FILE_NAME = "synthetic_attribute.mat"

_TOP_NAMES = ("white", "black", "gray", "navy", "blue", "red", "green", "yellow", "pink", "purple")
_BOTTOM_NAMES = ("black", "navy", "blue", "khaki", "gray", "beige")
_STOUT = 1.02
"""Girth above which a person counts as stout; half of them are."""
_LIGHT = 128
"""Mean of R, G and B from which shoes count as light."""


def attributes_of(appearance: Appearance) -> dict[str, bool]:
    """What the attribute file says of a person, by field; true is its value 2, false its value 1."""
    build, clothes = appearance.build, appearance.clothes
    facts = {
        "stout": build.girth > _STOUT,
        "hair": clothes.hair_style in (Hair.LONG, Hair.BUN),
        "hat": clothes.hair_style is Hair.CAP,
        "backpack": build.bag is Bag.BACKPACK,
        "bag": build.bag is Bag.SHOULDER_BAG,
        "handbag": build.bag is Bag.HANDBAG,
        "up": clothes.sleeve <= 1.0,
        "clothes": clothes.bottom_kind is not Bottom.SKIRT,
        "down": clothes.bottom_length <= 1.2,
        "shoes": float(np.mean(clothes.shoes)) >= _LIGHT,
    }
    for name, colour in zip(_TOP_NAMES, TOP_COLOURS, strict=True):
        facts[f"up{name}"] = clothes.top == colour
    for name, colour in zip(_BOTTOM_NAMES, BOTTOM_COLOURS, strict=True):
        facts[f"down{name}"] = clothes.bottom == colour
    return facts


def write_attributes(root: Path, config: SyntheticConfig) -> Path:
    """Write ``synthetic_attribute.mat`` under ``root`` for the training and test identities; its path."""
    last = config.train_identities + config.test_identities
    splits = {"train": range(1, config.train_identities + 1), "test": range(config.train_identities + 1, last + 1)}
    path = root / FILE_NAME
    write_matlab(path, {Path(FILE_NAME).stem: {name: _split(config, persons) for name, persons in splits.items()}})
    return path


def _split(config: SyntheticConfig, persons: Sequence[int]) -> dict[str, Any]:
    facts = [attributes_of(identity_appearance(config.seed, person)) for person in persons]
    vectors: dict[str, Any] = {name: np.array([1 + fact[name] for fact in facts], np.uint8) for name in facts[0]}
    vectors["image_index"] = np.array([f"{person:04d}" for person in persons], object)
    return vectors
