"""Pictures to train the embedded network on: people over backgrounds, cloth and cameras, against slow references."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from densereid.preprocess.embedded_training.pictures.cloth import GARMENTS, draw_alike, draw_plain
from densereid.preprocess.embedded_training.pictures.composition import HARSH, KIND, Library, Window, compose
from densereid.preprocess.embedded_training.pictures.photograph import photographed, photographed_by_day

SIZE = (64, 32)


def test_a_layer_is_a_person_with_all_that_is_worn(layer_library: Library) -> None:
    for layer in layer_library.people:
        assert layer.image.shape == layer.iuv.shape == (96, 60, 3)
        assert (layer.iuv[..., 0] > 0)[~layer.alpha].sum() == 0
        assert not layer.image[~layer.alpha].any()
        assert 0.5 < layer.alpha.any(axis=1).mean() <= 1.0 or layer.alpha.any(axis=0).mean() > 0.8
    assert {part for layer in layer_library.people for part in np.unique(layer.iuv[..., 0])} == set(range(25))


def test_the_same_generator_state_gives_the_same_picture(layer_library: Library) -> None:
    for seed in range(8):
        one, other = (compose(layer_library, np.random.default_rng(seed), SIZE) for _ in range(2))
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])
        assert one[0].shape == one[1].shape == (*SIZE, 3)
        assert one[1][..., 0].max() <= 24
        assert not one[1][one[1][..., 0] == 0].any()


def test_a_picture_is_the_layer_over_the_background_where_nothing_else_happens(
    layer_library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "densereid.preprocess.embedded_training.pictures.composition"
    monkeypatch.setattr(f"{module}.photographed", lambda picture, _: picture)
    monkeypatch.setattr(f"{module}.detector_box", lambda person, _, size, __: Window(0, 0, 60, 96, 0.0, (96, 60)))
    flat = Library(layer_library.people, np.full((1, 96, 60, 3), 77, np.uint8))
    seen = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        image, iuv = compose(flat, rng, (96, 60))
        person = layer_library.people[int(np.random.default_rng(seed).integers(6))]
        steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        smeared = np.stack([np.roll(person.alpha, step, (0, 1)) for step in steps])
        outside, inside = ~smeared.any(axis=0), smeared.all(axis=0)
        if (image == 77)[outside].all() and (iuv == person.iuv)[inside].all():  # nobody beside, nothing in front
            seen += 1
            assert np.abs(image.astype(int) - person.image)[inside].mean() < 12
            assert not iuv[outside].any()
    assert seen > 2


def test_conditions_change_what_they_name_and_nothing_else(layer_library: Library) -> None:
    for seed in range(12):
        harsh, plain = (
            compose(layer_library, np.random.default_rng(seed), SIZE, conditions)
            for conditions in (HARSH, replace(HARSH, plain_cloth=1.0, alike=1.0))
        )
        assert np.array_equal(harsh[1], plain[1])  # the same body in the same place
        assert not np.array_equal(harsh[0], plain[0])
    alone = replace(KIND, behind=0.0, obstacle=0.0)
    bodies = [compose(layer_library, np.random.default_rng(seed), SIZE, alone)[1][..., 0] > 0 for seed in range(40)]
    assert np.mean([body.any(axis=1).mean() for body in bodies]) > 0.75  # from head to feet


def test_somebody_who_carries_little_takes_the_place_of_one_who_carries_much(layer_library: Library) -> None:
    """And pictures of those who carry little stay as they are."""
    light, heavy = (replace(KIND, laden=share, seated=1.0, behind=0.0, obstacle=0.0) for share in (0.0, 1.0))
    plain = layer_library.people[0]
    body = plain.iuv[..., 0] > 0
    hidden = np.cumsum(body).reshape(body.shape) < body.sum() // 4  # by a rucksack
    bag = replace(plain, iuv=np.where(hidden[..., None], 0, plain.iuv))
    unladen = replace(plain, alpha=body)
    both = Library([bag, unladen], layer_library.backgrounds)
    for seed in range(20):
        is_bag = np.random.default_rng(seed).integers(2) == 0
        found, kept = (compose(both, np.random.default_rng(seed), SIZE, each)[1] for each in (light, heavy))
        assert np.array_equal(found, kept) != is_bag
    alone = Library([bag], layer_library.backgrounds)  # whom nobody can replace
    first, second = (compose(alone, np.random.default_rng(0), SIZE, each)[1] for each in (light, heavy))
    assert np.array_equal(first, second)


def test_somebody_who_stands_takes_the_place_of_one_who_sits(layer_library: Library) -> None:
    """And pictures of those who stand stay as they are."""
    standing, all_of_them = (replace(KIND, seated=share, behind=0.0, obstacle=0.0) for share in (0.0, 1.0))
    plain = layer_library.people[0]
    body = plain.iuv[..., 0] > 0
    upright = replace(plain, alpha=body)
    low = np.arange(len(body))[:, None] > len(body) // 2
    sitting = replace(plain, alpha=body | low, iuv=np.where((body & ~low)[..., None], plain.iuv, 0))
    both = Library([sitting, upright], layer_library.backgrounds)
    for seed in range(20):
        sits = np.random.default_rng(seed).integers(2) == 0
        found, kept = (compose(both, np.random.default_rng(seed), SIZE, each)[1] for each in (standing, all_of_them))
        assert np.array_equal(found, kept) != sits


def test_plain_cloth_keeps_its_mean_and_loses_contrast(layer_library: Library) -> None:
    for person in layer_library.people:
        plain = draw_plain(person, np.random.default_rng(3))
        worn = np.isin(person.iuv[..., 0], sum(GARMENTS, ()))
        assert np.array_equal(plain.image[~worn], person.image[~worn])
        for parts in GARMENTS:
            pixels = np.isin(person.iuv[..., 0], parts)
            before, after = person.image[pixels].astype(float), plain.image[pixels].astype(float)
            assert np.allclose(before.mean(axis=0), after.mean(axis=0), atol=0.5)
            assert (after.std(axis=0) <= 0.6 * before.std(axis=0) + 0.5).all()


def test_a_background_alike_is_near_the_colour_of_a_garment(layer_library: Library) -> None:
    background = np.random.default_rng(0).integers(100, 140, (64, 32, 3)).astype(np.uint8)
    person = layer_library.people[0]
    for seed in range(10):
        mean = draw_alike(background, person, np.random.default_rng(seed)).mean(axis=(0, 1))
        garments = [person.image[np.isin(person.iuv[..., 0], parts)].mean(axis=0) for parts in GARMENTS[:2]]
        assert min(np.abs(mean - garment).max() for garment in garments) < 40  # the noise deviates by 10


def test_a_window_takes_pixel_centres_to_pixel_centres() -> None:
    window = Window(10.0, 20.0, 30.0, 80.0, 0.3, (40, 15))
    a, b, c, d, e, f = window.affine()
    for row, column in ((0, 0), (39, 14), (7, 3)):
        x, y = (column + 0.5 - 7.5) * 2.0, (row + 0.5 - 20.0) * 2.0
        turned = np.cos(0.3) * x - np.sin(0.3) * y, np.sin(0.3) * x + np.cos(0.3) * y
        found = a * (column + 0.5) + b * (row + 0.5) + c, d * (column + 0.5) + e * (row + 0.5) + f
        assert np.allclose(found, (25.0 + turned[0], 60.0 + turned[1]))


def test_photographs_keep_size_and_type() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 32, 3)).astype(np.uint8)
    for seed in range(30):
        for camera in (photographed, photographed_by_day):
            taken = camera(picture, np.random.default_rng(seed))
            assert taken.shape == picture.shape
            assert taken.dtype == np.uint8
