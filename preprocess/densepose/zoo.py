"""DensePose's model zoo: its chart models by name, and where their files lie on this machine."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

LICENCE = "CC BY-SA 3.0 (https://creativecommons.org/licenses/by-sa/3.0/)"
"""Of every published DensePose model, as the model zoo's page says (doc/DENSEPOSE_IUV.md, section License)."""

_SERVER = "https://dl.fbaipublicfiles.com/densepose"
_CONFIG = "densepose_rcnn_"


@dataclass(frozen=True)
class PublishedWeights:
    """An entry of DensePose's model zoo: its config, and where it is published. It publishes no digests."""

    config: str
    url: str

    @property
    def cached(self) -> Path:
        """Where the file belongs in the cache, whether or not it is there."""
        return cache_folder() / self.config / self.url.rsplit("/", 1)[1]


# Source: DensePose's doc/DENSEPOSE_IUV.md, all chart models of humans: legacy, with the original head, with DeepLab's,
# with confidences of U and V (WC1, WC2) and of the mask (WC1M, WC2M).
_FILES = {
    "R_50_FPN_s1x_legacy": "164832157/model_final_d366fa.pkl",
    "R_101_FPN_s1x_legacy": "164832182/model_final_10af0e.pkl",
    "R_50_FPN_s1x": "165712039/model_final_162be9.pkl",
    "R_101_FPN_s1x": "165712084/model_final_c6ab63.pkl",
    "R_50_FPN_DL_s1x": "165712097/model_final_0ed407.pkl",
    "R_101_FPN_DL_s1x": "165712116/model_final_844d15.pkl",
    "R_50_FPN_WC1_s1x": "173862049/model_final_289019.pkl",
    "R_50_FPN_WC2_s1x": "173861455/model_final_3abe14.pkl",
    "R_50_FPN_DL_WC1_s1x": "173067973/model_final_b1e525.pkl",
    "R_50_FPN_DL_WC2_s1x": "173859335/model_final_60fed4.pkl",
    "R_101_FPN_WC1_s1x": "171402969/model_final_9e47f0.pkl",
    "R_101_FPN_WC2_s1x": "173860702/model_final_5ea023.pkl",
    "R_101_FPN_DL_WC1_s1x": "173858525/model_final_f359f3.pkl",
    "R_101_FPN_DL_WC2_s1x": "173294801/model_final_6e1ed1.pkl",
    "R_50_FPN_WC1M_s1x": "217144516/model_final_48a9d9.pkl",
    "R_50_FPN_WC2M_s1x": "216245640/model_final_d79ada.pkl",
    "R_50_FPN_DL_WC1M_s1x": "216245703/model_final_61971e.pkl",
    "R_50_FPN_DL_WC2M_s1x": "216245758/model_final_7bfb43.pkl",
    "R_101_FPN_WC1M_s1x": "216453687/model_final_0a7287.pkl",
    "R_101_FPN_WC2M_s1x": "216245682/model_final_e354d9.pkl",
    "R_101_FPN_DL_WC1M_s1x": "216245771/model_final_0ebeb3.pkl",
    "R_101_FPN_DL_WC2M_s1x": "216245790/model_final_de6e7a.pkl",
}

ZOO: dict[str, PublishedWeights] = {
    name: PublishedWeights(f"{_CONFIG}{name}", f"{_SERVER}/{_CONFIG}{name}/{file}") for name, file in _FILES.items()
}

NAMES_IN_WORDS = (
    "published are R_50_FPN and R_101_FPN, each with _s1x, _s1x_legacy, _DL_s1x, and with confidences _WC1_s1x, "
    "_WC2_s1x, _WC1M_s1x, _WC2M_s1x, _DL_WC1_s1x, _DL_WC2_s1x, _DL_WC1M_s1x and _DL_WC2M_s1x"
)
"""All names of :data:`ZOO`, for people."""


def published(name: str) -> PublishedWeights | None:
    """The entry of that name, with or without ``densepose_rcnn_``, or at that address; None where there is none."""
    by_address = {entry.url: entry for entry in ZOO.values()}
    return ZOO.get(name.removeprefix(_CONFIG)) or by_address.get(name)


def nearest_name(name: str) -> str | None:
    """The published name that is most like ``name``, whatever its case, its folders and its suffix; None if none is."""
    last = Path(name).name
    for entry_name, entry in ZOO.items():
        if last == entry.cached.name:
            return entry_name
    wanted = last.removesuffix(Path(last).suffix).removeprefix(_CONFIG).upper()
    names = {known.upper(): known for known in ZOO}
    near = difflib.get_close_matches(wanted, names, n=len(names))
    # Of those that are spelt alike, the one of the same words, in whatever order: WC1 is nearer to WC1_s1x than WC2.
    return names[min(near, key=lambda known: len({*known.split("_")} ^ {*wanted.split("_")}))] if near else None


def cache_folder() -> Path:
    """DENSEREID_CACHE, or ``~/.cache/densereid``."""
    given = os.environ.get("DENSEREID_CACHE")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "densereid"
