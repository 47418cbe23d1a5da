"""What a synthetic dataset holds, and which difficulties are switched on."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from densereid.data_catalog.errors import UserError

GENERATOR_VERSION = 1
"""Raised by one whenever the same config would give other bytes."""


@dataclass(frozen=True)
class SyntheticConfig:
    """The whole plan of a synthetic dataset: the same config gives the same bytes, however many processes write it."""

    train_identities: int = 120
    test_identities: int = 40
    images_per_identity: int = 12
    cameras: int = 4
    """2..6, as in Market-1501."""
    distractors: int = 60
    """Gallery images of people without an identity (person id 0000), one each."""
    junk: int = 20
    """Gallery images that no protocol scores (person id -1): bad partial crops."""
    height: int = 128
    width: int = 64
    seed: int = 0
    shading: bool = True
    """Lambert shading by the camera's light."""
    camera_effects: bool = True
    """Each camera's gain, colour cast, gamma and blur, and the image's noise."""
    occlusion: bool = True
    """Poles, boxes, railings and other people in front; their pixels have I = 0."""
    bad_crops: bool = True
    """Boxes that are off-centre, too loose or too tight."""
    iuv_errors: int = 0
    """Errors of DensePose's kinds in the written IUV, percent of a modelled estimator's (errors.py); 0 is exact."""
    jpeg_quality: int | None = 90
    """1..95 writes .jpg files; None writes .png files, whose pixels are exact."""

    def __post_init__(self) -> None:
        _check_range(self, "train_identities", 1, 9000)
        _check_range(self, "test_identities", 1, 900)
        # Two cameras with two images each: a query, and a true match for it from the other camera.
        _check_range(self, "images_per_identity", 4, 1000)
        _check_range(self, "cameras", 2, 6)
        _check_range(self, "distractors", 0, 100_000)
        _check_range(self, "junk", 0, 100_000)
        _check_range(self, "height", 32, 1024)
        _check_range(self, "width", 16, 512)
        _check_range(self, "seed", 0, 2**32 - 1)
        _check_range(self, "iuv_errors", 0, 400)
        if self.jpeg_quality is not None:
            _check_range(self, "jpeg_quality", 1, 95)

    @property
    def suffix(self) -> str:
        """The image files' suffix."""
        return ".png" if self.jpeg_quality is None else ".jpg"

    def to_dict(self) -> dict[str, int | bool | None]:
        """Plain values, as synthetic.json holds them, with the generator's version.

        ``iuv_errors`` is left out where it is 0, so that a dataset written before there were errors is still the same.
        """
        values = {"generator_version": GENERATOR_VERSION, **asdict(self)}
        if self.iuv_errors == 0:
            del values["iuv_errors"]
        return values


def _check_range(config: SyntheticConfig, name: str, low: int, high: int) -> None:
    value = getattr(config, name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UserError(
            f"{name.upper()} is {value!r}; expected a whole number from {low} to {high}",
            f"set {name.upper()} within that range",
        )
