"""Where networks look: the trunk's activation for images under several runs (MagnifierNet v1 Figure 3, v2 Figure 2).

The trunk ends after ResNet's stage 3 (conv4_x), which is where the papers look; another backbone's
ends before its last stage. An activation is the Euclidean norm over the trunk map's channels at each position, scaled
so that each picture's smallest is 0 and its largest is 1: colours compare positions in one picture, not pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.store import Store
from densereid.pipeline.console import print_status
from densereid.pipeline.reports.contact_sheet import captioned, choose_rows, grid, stack
from densereid.pipeline.settings import resolve_device
from densereid.pipeline.store_choice import store_of_run
from densereid.train.config.train_config import TrainConfig
from densereid.train.data.augmentation import normalise_image
from densereid.train.data.dataset import read_images
from densereid.train.engine.checkpoint import load_trained_network
from densereid.train.families import as_reid
from densereid.train.networks.trunks.resnet import Trunk

_HEIGHT = 256
_OPACITY = 0.55
_COLOURS = np.array([(0, 0, 128), (0, 90, 255), (0, 220, 220), (250, 230, 40), (240, 60, 20), (130, 0, 0)], float)
"""From activation 0 to 1, RGB, at equal steps."""


def draw_activations(
    runs: Sequence[str | Path],
    *,
    images: int,
    rows: Sequence[int],
    seed: int,
    store_path: AnyPath | None,
    run_root: Path,
    device: str,
) -> Path:
    """Write one picture of ``runs`` side by side into ``run_root/inspect``; its path.

    Shows the ``rows`` of the first run's own store, or of another; where there are none, ``images`` that ``seed``
    chooses. Raises UserError for rows that the store does not have, and for runs that cannot be loaded.
    """
    chosen, why = resolve_device(device)
    networks = [load_trained_network(Path(run)) for run in runs]
    store = store_of_run(Path(runs[0]), networks[0][1].store, store_path)
    shown = _checked(store, rows) if rows else choose_rows(store, images, seed=seed)
    print_status(
        f"{plural(len(shown), 'image')} of {store.path} under {plural(len(runs), 'run')}; device {chosen} ({why})"
    )
    maps = [activations(network, store, shown, checkpoint.config, chosen) for network, checkpoint in networks]
    path = run_root / "inspect" / f"{store.path.name}-activations.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    activation_sheet(store, shown, {str(run): one for run, one in zip(runs, maps, strict=True)}).save(path)
    print_status(
        "activation: the norm over the channels after ResNet stage 3 (the trunk), scaled to 0..1 within each image"
    )
    return path


def activations(
    network: nn.Module, store: Store, rows: np.ndarray, config: TrainConfig, device: torch.device | str
) -> np.ndarray:
    """The trunk's activation of the store's ``rows``, float32 (N, h, w) in 0..1: each image's least and most.

    Of whichever network family: what its trunk gives while it embeds is read by a hook. An image whose activation is
    the same everywhere has 0.
    """
    found: list[Tensor] = []
    trunk = trunk_of(network)
    hook = trunk.register_forward_hook(lambda _module, _inputs, output: found.append(trunk.as_map(output)))
    try:
        with torch.inference_mode():
            network.eval().to(device)
            image = read_images(store, rows, height=config.height, width=config.width)
            as_reid(network).embed(normalise_image(image.to(device)))
    finally:
        hook.remove()
    norms = found[0].float().norm(dim=1)
    if wrong := int((~norms.isfinite()).flatten(1).any(1).sum()):
        raise UserError(
            f"{config.name}: the trunk's activations of {wrong} of {plural(len(norms), 'image')} are not finite "
            "numbers (NaN or infinity)",
            "Take another checkpoint of the run.",
        )
    least = norms.amin((1, 2), keepdim=True)
    spread = norms.amax((1, 2), keepdim=True) - least
    return ((norms - least) / spread.clamp_min(torch.finfo(torch.float32).tiny)).cpu().numpy()


def trunk_of(network: nn.Module) -> Trunk:
    """The network's one trunk, wherever its family keeps it."""
    trunks = [module for module in network.modules() if isinstance(module, Trunk)]
    assert len(trunks) == 1, f"{len(trunks)} trunks in {type(network).__name__}"
    return trunks[0]


def activation_sheet(store: Store, rows: np.ndarray, maps: dict[str, np.ndarray]) -> Image.Image:
    """One row an image, the image first, then its activation under each run; a legend above numbers the runs."""
    facts = {name: store.read(name, rows) for name in ("image", "path", "person_id", "camera_id")}
    lines = []
    for index, image in enumerate(facts["image"]):
        panels = [captioned(_panel(image), "image")]
        panels += [
            captioned(_panel(heat_overlay(image, each[index])), str(number))
            for number, each in enumerate(maps.values(), start=1)
        ]
        caption = (
            f"row {rows[index]}: {facts['path'][index]}, identity {facts['person_id'][index]}, "
            f"camera {facts['camera_id'][index]}"
        )
        lines.append(stack(_text([caption]), grid(panels, len(panels))))
    legend = [f"{number}: {run}" for number, run in enumerate(maps, start=1)]
    return stack(_text([*legend, "blue: the image's least active position, red: its most active"]), grid(lines, 1))


def heat_overlay(image: np.ndarray, activation: np.ndarray) -> np.ndarray:
    """The image, uint8 (height, width, 3) RGB, under the colours of an activation, float (h, w) in 0..1."""
    height, width = image.shape[:2]
    smooth = Image.fromarray(activation.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    level = np.asarray(smooth) * (len(_COLOURS) - 1)
    steps = np.arange(len(_COLOURS))
    colour = np.stack([np.interp(level, steps, channel) for channel in _COLOURS.T], -1)
    return np.rint((1 - _OPACITY) * image + _OPACITY * colour).astype(np.uint8)


def _panel(pixels: np.ndarray) -> Image.Image:
    width = round(pixels.shape[1] * _HEIGHT / pixels.shape[0])
    return Image.fromarray(pixels).resize((width, _HEIGHT), Image.Resampling.BILINEAR)


def _text(lines: Sequence[str]) -> Image.Image:
    """Lines of text as wide as the longest of them."""
    font = ImageFont.load_default(13)
    width = max(font.getlength(line) for line in lines)
    sheet = Image.new("RGB", (int(width) + 16, 18 * len(lines) + 4), (250, 250, 250))
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((8, 2 + 18 * number), line, fill=(30, 30, 30), font=font)
    return sheet


def _checked(store: Store, rows: Sequence[int]) -> np.ndarray:
    outside = [row for row in rows if not 0 <= row < store.geometry.num_samples]
    if outside:
        raise UserError(
            f"{store.path} has no row {outside[0]}; it has {plural(store.geometry.num_samples, 'image')}",
            f"choose rows from 0 to {store.geometry.num_samples - 1}",
        )
    return np.array(rows)
