"""Bodies of every age, sex and weight from Anny's shape model, standing at rest; the one module that imports anny."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.synthetic.charts import Surface

_TO_PROJECT = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""Anny's axes (left, backward, up) times this are the project's (left, up, forward)."""

_BONES: tuple[tuple[str, Surface, str], ...] = (
    (r"root|pelvis.*", Surface.TORSO, "pelvis"),
    (r"spine0[45]", Surface.TORSO, "waist"),
    (r"spine0[123]", Surface.TORSO, "chest"),
    (r"(clavicle|shoulder01).*", Surface.TORSO, "clavicle"),
    (r"neck0[12]", Surface.HEAD, "neck"),
    (r"neck03|head|eye.*", Surface.HEAD, "head"),
    (r"upperleg.*", Surface.UPPER_LEG, "upper leg"),
    (r"lowerleg.*", Surface.LOWER_LEG, "lower leg"),
    (r"(foot|toe).*", Surface.FOOT, "foot"),
    (r"upperarm.*", Surface.UPPER_ARM, "upper arm"),
    (r"lowerarm.*", Surface.LOWER_ARM, "lower arm"),
    (r"finger[2-5].*", Surface.HAND, "fingers"),
    (r"(wrist|finger1|metacarpal).*", Surface.HAND, "hand"),
)
"""Anny's bones by name: the surface of their skin, and the group of bones that turn as one."""

_SIDED = ("clavicle", "upper leg", "lower leg", "foot", "upper arm", "lower arm", "fingers", "hand")

BONE_GROUPS: tuple[str, ...] = (
    *("pelvis", "waist", "chest", "neck", "head"),
    *(f"{side} {name}" for side in ("left", "right") for name in _SIDED),
)
"""The bones that turn as one; a person's own left and right."""

JOINTS = {
    **{"pelvis": "root", "waist": "spine05", "chest": "spine03", "neck": "neck01", "head": "neck03"},
    **{"clavicle": "clavicle", "upper leg": "upperleg01", "lower leg": "lowerleg01", "foot": "foot"},
    **{"upper arm": "upperarm01", "lower arm": "lowerarm01", "hand": "wrist", "fingers": "finger3-1"},
    **{"toe": "toe2-1", "finger tip": "finger3-3", "eye": "eye"},
}
"""Where each group turns: the head of this bone of Anny."""


@dataclass(frozen=True)
class Anatomy:
    """What all of Anny's bodies share."""

    faces: np.ndarray
    """(F, 3) int64."""
    region_weights: np.ndarray
    """(V, 2 x len(Surface)) float32: how much the bones of region 2 x Surface + left move each vertex."""
    surface: np.ndarray
    """(V,) int64: the Surface of each vertex, by the region that moves it most."""
    left: np.ndarray
    """(V,) bool: on a limb of the person's left."""
    weights: np.ndarray
    """(V, len(BONE_GROUPS)) float64: how much each group of bones moves each vertex; rows sum to 1."""


@dataclass(frozen=True)
class RestBody:
    """One body in Anny's rest pose, in body heights: x is the person's left, y up from the ground, z forward."""

    vertices: np.ndarray
    """(V, 3) float64."""
    joints: dict[str, np.ndarray]
    """Joint positions (3,) by the names of BONE_GROUPS, and ``left toe``, ``left finger tip``, ``left eye`` ..."""
    child: float
    """0 for grown people, 1 for the smallest child."""


@lru_cache(maxsize=1)
def _model() -> Any:
    try:
        import anny
    except ImportError as error:
        raise UserError(
            f"bodies for training the embedded network need the package anny, which cannot be imported: {error}",
            "install the optional group: pip install 'densereid[embedded-training]'",
        ) from error
    return anny.Anny()


def bone_group(bone: str) -> tuple[Surface, bool, str]:
    """The surface, side (is it left?) and group of BONE_GROUPS of one of Anny's bones, as ``upperleg01.L``."""
    for pattern, surface, group in _BONES:
        if re.fullmatch(pattern, bone.removesuffix(".L").removesuffix(".R")):
            left = bone.endswith(".L")
            sided = group in _SIDED
            limb = surface not in (Surface.TORSO, Surface.HEAD)
            return surface, left and limb, f"{'left' if left else 'right'} {group}" if sided else group
    raise ValueError(f"bone {bone!r} is not in the table")


@lru_cache(maxsize=1)
def anny_anatomy() -> Anatomy:
    """Faces, regions and skin weights of Anny's mesh. Raises UserError where anny is not installed."""
    model = _model()
    bones = [bone_group(label) for label in model.bone_labels]
    indices, given = model.vertex_bone_indices.numpy(), model.vertex_bone_weights.numpy()
    each = np.zeros((len(given), len(bones)))
    np.add.at(each, (np.arange(len(given))[:, None], indices), given)
    by_region = np.zeros((len(given), 2 * len(Surface)), np.float32)
    for column, (surface, left, _) in enumerate(bones):
        by_region[:, 2 * surface + left] += each[:, column]
    region = by_region.argmax(axis=1)
    weights = np.stack([each[:, [bone[2] == group for bone in bones]].sum(axis=1) for group in BONE_GROUPS], axis=1)
    faces = model.get_triangular_faces().numpy()
    return Anatomy(faces, by_region, region // 2, region % 2 > 0, weights / weights.sum(axis=1, keepdims=True))


def draw_rest_body(rng: np.random.Generator) -> RestBody:
    """A random body: grown people mostly, some children, both sexes, thin to heavy. Raises UserError without anny."""
    age = rng.uniform(0.2, 0.6) if rng.random() < 0.15 else rng.uniform(0.6, 1.0)
    shape = {
        "age": age,
        "gender": rng.uniform(0.0, 0.25) if rng.random() < 0.5 else rng.uniform(0.75, 1.0),
        **{name: rng.beta(1.6, 1.6) for name in ("muscle", "weight", "height", "proportions")},
        **{name: rng.uniform() for name in ("african", "asian", "caucasian", "cupsize", "firmness")},
    }
    model = _model()
    rest = model.get_rest_model(model.get_phenotype_blendshape_coefficients(**shape))
    vertices, heads = (rest[name][0].numpy() @ _TO_PROJECT for name in ("rest_vertices", "rest_bone_heads"))
    return _in_body_heights(vertices, dict(zip(model.bone_labels, heads, strict=True)), max(0.0, (0.6 - age) / 0.4))


def _in_body_heights(vertices: np.ndarray, heads: dict[str, np.ndarray], child: float) -> RestBody:
    low, high = vertices[:, 1].min(), vertices[:, 1].max()
    ground = np.array([0.0, low, 0.0])
    scaled = {bone: (head - ground) / (high - low) for bone, head in heads.items()}
    joints: dict[str, np.ndarray] = {}
    for name, bone in JOINTS.items():
        if bone in scaled:
            joints[name] = scaled[bone]
        else:
            joints |= {f"left {name}": scaled[f"{bone}.L"], f"right {name}": scaled[f"{bone}.R"]}
    return RestBody((vertices - ground) / (high - low), joints, child)
