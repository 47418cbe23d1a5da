"""The body tables agree with the sources they were taken from."""

from __future__ import annotations

from reference import LABEL_OF_PART

from densereid.data_catalog.parts import (
    BODY_PARTS,
    FRONT_BACK_MERGE,
    LEFT_RIGHT_MERGE,
    LOWER_LABELS,
    MASK_LABELS,
    MIRROR_PART,
    MIRROR_TURNS_U,
    MIRROR_TURNS_V,
    PART_TO_LABEL,
    UPPER_LABELS,
)

# Detectron2's DensePoseTransformData.POINT_LABEL_SYMMETRIES, as a published fact.
POINT_LABEL_SYMMETRIES = [0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15, 18, 17, 20, 19, 22, 21, 24, 23]


def test_mirror_is_detectron2s_symmetry() -> None:
    assert MIRROR_PART.tolist() == POINT_LABEL_SYMMETRIES


def test_mirror_swaps_left_and_right_by_name() -> None:
    for part, name in enumerate(BODY_PARTS, start=1):
        other = BODY_PARTS[MIRROR_PART[part] - 1]
        swapped = name.replace("left", "LEFT").replace("right", "left").replace("LEFT", "right")
        assert other == swapped


def test_a_part_turns_as_its_partner_does_and_in_one_direction_only() -> None:
    assert {int(MIRROR_PART[part]) for part in MIRROR_TURNS_U} == set(MIRROR_TURNS_U)
    assert {int(MIRROR_PART[part]) for part in MIRROR_TURNS_V} == set(MIRROR_TURNS_V)
    assert not set(MIRROR_TURNS_U) & set(MIRROR_TURNS_V)


def test_mask_labels_are_eanets_grouping() -> None:
    assert {part: int(label) for part, label in enumerate(PART_TO_LABEL)} == LABEL_OF_PART
    assert sorted(UPPER_LABELS + LOWER_LABELS) == list(range(1, len(MASK_LABELS)))


def test_merges_are_dsa_reid_table_1() -> None:
    assert len(LEFT_RIGHT_MERGE) == 13
    assert sorted(part for group in LEFT_RIGHT_MERGE for part in group) == list(range(1, 25))
    assert len(FRONT_BACK_MERGE) == 8
    assert sorted(index for _, group in FRONT_BACK_MERGE for index in group) == list(range(13))
    for name, group in FRONT_BACK_MERGE:
        parts = [BODY_PARTS[part - 1] for index in group for part in LEFT_RIGHT_MERGE[index]]
        stem = {"feet": "foot"}.get(name, name.removesuffix("s"))
        assert all(stem in part for part in parts), (name, parts)
