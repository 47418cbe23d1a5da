"""People of the project's own renderer, more varied than those of its datasets: colours, patterns, poses, builds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from densereid.data_catalog.synthetic.appearance import Appearance, draw_appearance
from densereid.data_catalog.synthetic.body import Bone, Build, Solid, bag_solids, body_solids, ellipsoid, limb
from densereid.data_catalog.synthetic.charts import TEXTURE_SIZE, Surface
from densereid.data_catalog.synthetic.raycast import Camera, Skin, outline_boxes, see, view_rotation
from densereid.data_catalog.synthetic.skeleton import HIP_HEIGHT, Frame, Pose, SidePose, bone_frames, walking_pose
from densereid.preprocess.embedded_training.layers import PersonLayer
from densereid.preprocess.embedded_training.pictures.cloth import GARMENTS
from densereid.preprocess.embedded_training.seats import Block, Landmarks, draw_colours, draw_seat


def solid_layers(rng: np.random.Generator, count: int, height: int, width: int) -> Iterator[PersonLayer]:
    """``count`` people of ellipsoids and limbs, each filling 0.92 of the height, or of the width where that is less."""
    for _ in range(count):
        yield _layer(rng, height, width)


def _layer(rng: np.random.Generator, height: int, width: int) -> PersonLayer:
    appearance, pose = _appearance(rng), any_pose(rng)
    solids = body_solids(appearance.build, pose) + bag_solids(appearance.build, pose, appearance.bag_colour)
    yaw, pitch = rng.uniform(0.0, 2.0 * np.pi), np.radians(rng.uniform(0.0, 15.0) + 20.0 * (rng.random() < 0.15))
    rotation = view_rotation(yaw, float(pitch))
    boxes = outline_boxes(solids, Camera(rotation, (1.0, 1.0), (0.0, 0.0)))
    (x0, y0), (x1, y1) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    solids += _seat_solids(appearance.build, pose, rng)
    scale = 0.92 * min(height / (y1 - y0), width / (x1 - x0))
    origin = (width / 2 - scale * (x0 + x1) / 2, height / 2 - scale * (y0 + y1) / 2)
    skin = see(solids, Camera(rotation, (scale, scale), origin), height, width)
    layer = PersonLayer(
        np.zeros((height, width, 3), np.uint8), np.zeros((height, width), bool), np.zeros((height, width, 3), np.uint8)
    )
    layer.image[skin.rows, skin.columns] = _lit(_colours(appearance, skin), skin, rng)
    layer.alpha[skin.rows, skin.columns] = True
    layer.iuv[skin.rows, skin.columns] = skin.iuv
    return layer


def _seat_solids(build: Build, pose: Pose, rng: np.random.Generator) -> list[Solid]:
    """What the person sits on; empty for who stands."""
    frames = bone_frames(pose, shoulder_width=build.shoulder_width, hip_width=build.hip_width)
    sides = ("left", "right")
    hands = np.stack([frames[f"{side} hand"].point(0.0, 0.07, 0.0) for side in sides])
    feet = np.stack([frames[f"{side} foot"].origin for side in sides])
    blocks = draw_seat(pose, Landmarks(np.array([0.0, HIP_HEIGHT, 0.0]), hands, feet), rng)
    colours = {finish: tuple(colour.astype(int).tolist()) for finish, colour in draw_colours(rng).items()}
    return [solid for block in blocks for solid in _block_solids(block, colours[block.finish])]


def _block_solids(block: Block, colour: tuple[int, int, int]) -> list[Solid]:
    """An ellipsoid, or an elliptic cylinder along the longest axis with flat ends."""
    order = [axis for axis in range(3) if axis != np.argmax(block.half)]
    order.insert(1, int(np.argmax(block.half)))
    across, along, deep = (block.half[axis] for axis in order)
    bone = Bone(Frame(block.centre, block.axes[order]), Surface.OBJECT, False, (0.0, 1.0), colour)
    if block.roundness > 0.75:
        return [ellipsoid(bone, (0.0, 0.0, 0.0), (across, along, deep))]
    across, deep = 1.15 * across, 1.15 * deep
    ends = [ellipsoid(bone, (0.0, end, 0.0), (across, 0.1 * along, deep)) for end in (-along, along)]
    return [limb(bone, (-along, along), (across,) * 3, depth=deep / across), *ends]


def _appearance(rng: np.random.Generator) -> Appearance:
    """One of the renderer's, with other colours in half of the cases, a print, and a build outside its range."""
    appearance = draw_appearance(rng)
    texture = appearance.texture.astype(float)
    if rng.random() < 0.5:
        texture = _recoloured(texture, rng)
    if rng.random() < 0.5:
        texture = texture + rng.uniform(5.0, 45.0) * _noise(rng)
    girth = appearance.build.girth * rng.uniform(0.8, 1.2)
    build = replace(appearance.build, girth=girth, trousers_width=rng.uniform(0.0, 1.3))
    red, green, blue = (int(value) for value in rng.integers(10, 245, 3))
    return replace(
        appearance,
        build=build,
        bag_colour=(red, green, blue),
        texture=np.clip(np.rint(texture), 0, 255).astype(np.uint8),
    )


def _recoloured(texture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another colour for each of the groups of parts that a garment covers; its pattern stays, as light and dark."""
    result = texture.copy()
    for parts in GARMENTS:
        rows = [part - 1 for part in parts]
        grey = texture[rows].mean(axis=-1, keepdims=True)
        colour = rng.uniform(10.0, 245.0, 3)
        result[rows] = colour + (grey - grey.mean()) * rng.uniform(-1.0, 1.0, 3)
    return result


def _noise(rng: np.random.Generator) -> np.ndarray:
    """Prints (24, 32, 32, 3): smooth noise of a random coarseness, about -2..2."""
    cells = int(rng.choice([4, 8, 16, 32]))
    noise = rng.normal(0.0, 1.0, (24, cells, cells, 3 if rng.random() < 0.5 else 1))
    noise = noise.repeat(TEXTURE_SIZE // cells, axis=1).repeat(TEXTURE_SIZE // cells, axis=2)
    return np.broadcast_to(noise, (24, TEXTURE_SIZE, TEXTURE_SIZE, 3))


def _colours(appearance: Appearance, skin: Skin) -> np.ndarray:
    """The colours of what is seen, (N, 3) float; between texels they are interpolated."""
    colours = skin.colours.astype(float)
    body = skin.iuv[:, 0] > 0
    part = skin.iuv[body, 0].astype(np.intp) - 1
    texel = np.clip(skin.iuv[body, 1:] / 255.0 * TEXTURE_SIZE - 0.5, 0.0, TEXTURE_SIZE - 1.0)
    low = np.minimum(texel.astype(np.intp), TEXTURE_SIZE - 2)
    share = texel - low
    texture = appearance.texture.astype(float)
    total = np.zeros((len(part), 3))
    for row in (0, 1):
        for column in (0, 1):
            weight = np.abs(1 - row - share[:, 0]) * np.abs(1 - column - share[:, 1])
            total += weight[:, None] * texture[part, low[:, 0] + row, low[:, 1] + column]
    colours[body] = total
    return colours


def _lit(colours: np.ndarray, skin: Skin, rng: np.random.Generator) -> np.ndarray:
    light = np.array([rng.uniform(-1.0, 1.0), rng.uniform(0.0, 1.0), rng.uniform(-0.2, 1.0)])
    light /= np.linalg.norm(light)
    ambient = rng.uniform(0.3, 0.9)
    lambert = np.maximum(skin.normals @ light, 0.0)
    lit = colours * (ambient + (1.25 - ambient) * lambert)[:, None]
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)


def any_pose(rng: np.random.Generator) -> Pose:
    """A walk in two thirds of the cases; else each joint for itself, within what a body does in a street."""
    pose = walking_pose(rng)
    if rng.random() < 0.65:
        return pose
    seated = rng.random() < 0.35
    left, right = _side(rng, seated), _side(rng, seated)
    if seated and rng.random() < 0.5:  # holds a handlebar
        shoulder, elbow, wide = rng.uniform(0.7, 1.2), rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.35)
        left, right = (
            replace(side, shoulder=shoulder, elbow=elbow, shoulder_abduction=wide, shoulder_turn=0.0)
            for side in (left, right)
        )
    return replace(
        pose,
        left=left,
        right=right,
        lean_forward=rng.normal(0.1, 0.2),
        lean_side=rng.normal(0.0, 0.1),
        twist=rng.normal(0.0, 0.15),
        head_turn=rng.normal(0.0, 0.5),
        head_nod=rng.normal(0.1, 0.25),
    )


def _side(rng: np.random.Generator, seated: bool) -> SidePose:
    hip = rng.uniform(0.8, 1.6) if seated else rng.normal(0.05, 0.3)
    raised = rng.random() < 0.2
    return SidePose(
        hip=hip,
        hip_abduction=abs(rng.normal(0.15, 0.15) if seated else rng.normal(0.05, 0.12)),
        knee=rng.uniform(0.6, 1.7) if seated else abs(rng.normal(0.1, 0.35)),
        ankle=rng.normal(0.0, 0.15),
        shoulder=rng.uniform(0.8, 2.8) if raised else rng.normal(0.1, 0.4),
        shoulder_abduction=abs(rng.normal(0.15, 0.25)),
        shoulder_turn=rng.normal(-0.3, 0.5),
        elbow=float(np.clip(rng.normal(0.7, 0.7), 0.0, 2.3)),
    )
