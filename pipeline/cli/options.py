"""The options of the commands, declared once; their defaults stand in ``defaults.yaml``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import wraps
from typing import Any, TypeVar

import click

from densereid.pipeline.cli.parameter_types import (
    FORMATS_OF_EXPORT,
    LOCATION,
    NAME_OR_PATH,
    SEED,
    SETTING,
    SHORT_EDGES,
    SIZE,
    WORKERS,
    LocalPath,
    numbers,
)
from densereid.pipeline.estimators import AUTO_RULE, ESTIMATORS, PRECISION_RULE
from densereid.pipeline.settings import LARGEST_EDGE, PRECISIONS, STORE_FORMATS, defaults, parse_size

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FOLDER = LocalPath(file_okay=False)


class _Option(click.Option):
    """An option whose default may be a function, called when the command is used or explained, and then shown."""

    def get_default(self, ctx: click.Context, call: bool = True) -> Any:  # noqa: ARG002 - click's signature
        return super().get_default(ctx, call=True)


def _option(name: str, text: str, *, usual: bool = False, **settings: Any) -> Callable[[_Command], _Command]:
    """``usual``: the default is the one of that name in ``defaults.yaml``."""
    key = name.replace("-", "_")
    if usual:
        settings["default"] = lambda: getattr(defaults(), key)
    return click.option(f"--{name}", key, cls=_Option, show_default=True, help=text, **settings)


def _shard_rows() -> int:
    from densereid.data_catalog.store.schema import Geometry

    return Geometry.shard_rows


dataset = _option("dataset", "Dataset: a name of `catalog list`, or folder (any folder of crops).", usual=True)
catalog = _option(
    "catalog",
    "Your own datasets, in a file of the form of data_catalog/datasets/catalog.yaml.",
    type=LocalPath(dir_okay=False, exists=True),
)
data_root = _option(
    "data-root", "Folder that contains the datasets; for folder, the images themselves.", usual=True, type=_FOLDER
)
store_root = _option("store-root", "Folder of the stores, or a URL like s3://BUCKET/FOLDER.", usual=True, type=LOCATION)
run_root = _option("run-root", "Folder of training runs and pictures.", usual=True, type=_FOLDER)
store = _option("store", "Store format.", usual=True, type=click.Choice(STORE_FORMATS))
size = _option("size", "Canonical image size.", usual=True, type=SIZE)
model_size = _option("size", "Image size; the model's own unless given.", type=SIZE)
dsap_size = _option("dsap-size", "Rows and columns of a DSAP image.", usual=True, type=click.IntRange(8, 512))
collision = _option("collision", "Which pixel a DSAP texel takes.", usual=True, type=click.Choice(["last", "mean"]))
estimator = _option(
    "estimator", f"Where dense pose comes from; {AUTO_RULE}.", usual=True, type=click.Choice(ESTIMATORS)
)
iuv_root = _option(
    "iuv-root",
    "Folder of existing IUV maps, or a dump of DensePose's apply_net.py; the dataset's own unless given.",
    type=LocalPath(),
)
iuv_order = _option(
    "iuv-order",
    "Channel order of IUV files as Pillow reads them; vui is what OpenCV and DensePose write.",
    type=click.Choice(["auto", "vui", "iuv"]),
    default="auto",
)
weights = _option(
    "weights", "DensePose weights: a published name, or a .pkl or .pth file.", usual=True, type=NAME_OR_PATH
)
mode = _option(
    "mode",
    "The person's box for DensePose: the whole crop, or what its detector finds.",
    usual=True,
    type=click.Choice(["crop", "detect"]),
)
short_edge = _option(
    "short-edge",
    "Short edge of an image inside DensePose, in pixels.",
    usual=True,
    type=click.IntRange(1, LARGEST_EDGE),
)
short_edges = _option(
    "short-edges", "Short edges to compare with 800, with commas.", type=SHORT_EDGES, default="128,192,256,384,512"
)
precision = _option(
    "precision",
    f"Arithmetic of the dense pose network; {PRECISION_RULE}.",
    usual=True,
    type=click.Choice(["auto", *PRECISIONS]),
)
no_fallback = _option(
    "no-fallback",
    "With --mode detect: an image without a detection has no person in it, instead of being taken whole.",
    is_flag=True,
    default=False,
)
compiled = _option(
    "compiled",
    "With ESTIMATOR=densepose on a GPU: the network through torch.compile, which takes minutes at first.",
    is_flag=True,
    default=False,
)
pattern = _option("pattern", "For folder: regular expression with the groups person, camera, split.")
shard_rows = _option(
    "shard-rows",
    "Images in a shard, the unit of work and of resuming; a multiple of 32.",
    type=click.IntRange(32, 65536),
    default=_shard_rows,
)
device = _option("device", "auto, cpu, cuda or cuda:N.", usual=True)
workers = _option("workers", "Worker processes; 0 is this process, auto one for each GPU.", usual=True, type=WORKERS)
scheduler = _option("scheduler", "Address of a Dask scheduler that computes the shards, tcp://HOST:PORT.")
ignore_space = _option(
    "ignore-space", "Start even where the store will not fit on the disk.", is_flag=True, default=False
)
source = _option(
    "source",
    "The store to derive from; the one of DATASET, SIZE and STORE with the usual DSAP images unless given.",
    type=LOCATION,
)
seed = _option("seed", "Seed of everything random.", usual=True, type=SEED)
model = _option(
    "model",
    "Experiment: auto, dsa-reid, magnifiernet, another one (`describe` lists them), or a YAML file.",
    usual=True,
    type=NAME_OR_PATH,
)
epochs = _option("epochs", "Epochs instead of the experiment's own.", type=click.IntRange(1, 1_000_000))
feed = _option(
    "feed",
    "How batches reach a step: disk (workers read), memory (decoded in RAM), device (decoded on the GPU); "
    "auto = the fastest that fits.",
    type=click.Choice(["auto", "disk", "memory", "device"]),
    default="auto",
)
initial = _option("initial", "Fine-tuning: the run to start from; its classifiers are left.", type=LocalPath())
overrides = click.option("--set", "overrides", type=SETTING, multiple=True, help="Change a setting of the experiment.")
table = _option("table", "The paper's table or figure; an unknown name lists them.", default="dsa-3")
seeds = _option(
    "seeds", "Seeds of every row, with commas; more than one give mean and deviation.", type=numbers("SEEDS"),
    default="0",
)  # fmt: skip
compared_images = _option("images", "How many images to compare.", type=click.IntRange(1, 10_000), default=64)
images = _option("images", "How many images to show.", type=click.IntRange(1, 1000), default=12)
rows = _option(
    "rows", "These rows of the store, with commas, instead of a random choice.", type=numbers("ROWS"), default=None
)
store_path = _option("store-path", "This store, whatever its size or name.", type=LOCATION)
checkpoint = _option(
    "checkpoint",
    "Which of the run's checkpoints: last, or best, which was chosen by its mAP on the test set.",
    type=click.Choice(["last", "best"]),
    default="last",
)
export_formats = _option(
    "format",
    "Formats with commas: torch (this project's file), safetensors, onnx, torch-export; all but the first with a model "
    "card.",
    type=FORMATS_OF_EXPORT,
    default="torch",
)
run_folder = click.argument("run_folder", type=LocalPath())
dry_run = _option(
    "dry-run", "Only say what would be done and what it costs; nothing is written.", is_flag=True, default=False
)

_NAMING = (dataset, data_root, store_root, store, size, dsap_size, collision)
"""What names a store."""

_MAKING = (
    catalog, estimator, iuv_root, iuv_order, weights, mode, short_edge, precision, no_fallback, compiled, pattern,
    shard_rows, device, workers, scheduler, ignore_space,
)  # fmt: skip
"""How a store is made."""


def _with(command: _Command, options: Sequence[Callable[[_Command], _Command]]) -> _Command:
    for option in reversed(options):
        command = option(command)
    return command


def _given_a_request(command: Callable[..., None]) -> Callable[..., None]:
    """``command`` with the options of a store's request put together as its argument ``request``."""

    @wraps(command)
    def with_request(**given: Any) -> None:
        from densereid.pipeline.store_request import StoreRequest

        names = [field.name for field in fields(StoreRequest) if field.name in given]
        command(request=StoreRequest(**{name: given.pop(name) for name in names}), **given)

    return with_request


def naming_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that name a store, for ``command`` as ``request``, a StoreRequest."""
    return _with(_given_a_request(command), _NAMING)


def store_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that name a store and say how it is made, for ``command`` as ``request``, a StoreRequest."""
    return _with(_given_a_request(command), (*_NAMING, *_MAKING))


def derive_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that name a derived store and say who computes it, for ``command`` as ``request``."""
    return _with(_given_a_request(command), (*_NAMING, device, workers, scheduler))


def model_store_options(command: Callable[..., None]) -> Callable[..., None]:
    """:func:`store_options` for commands whose model has a size of its own.

    ``command`` has the size that is asked for, or None, as ``model_size``; the request's own means nothing yet.
    """

    @wraps(command)
    def with_size(*, size: tuple[int, int] | None, **given: Any) -> None:
        request = _given_a_request(command)
        request(size=size or parse_size(defaults().size), model_size=size, **given)

    named = tuple(model_size if option is size else option for option in _NAMING)
    return _with(with_size, (*named, *_MAKING))
