"""The options of the commands, declared once. Each also reads the Make variable of the same name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import parse_path
from densereid.data_catalog.store.store import FORMATS
from densereid.pipeline.reports.paper_tables import TABLES
from densereid.pipeline.settings import ESTIMATORS, defaults, parse_workers
from densereid.train.config.train_config import known_configs

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FOLDER = click.Path(path_type=Path, file_okay=False)


PATH_OR_URL = click.types.FuncParamType(parse_path)
PATH_OR_URL.name = "path or URL"
"""A local folder, or a URL such as s3://BUCKET/FOLDER."""


def _option(name: str, text: str, **settings: Any) -> Callable[[_Command], _Command]:
    key = name.replace("-", "_")
    settings.setdefault("default", defaults().get(key))
    return click.option(f"--{name}", key, envvar=key.upper(), show_default=True, help=text, **settings)


dataset = _option("dataset", "Dataset: a name of `catalog list`, or folder (any folder of crops).")
catalog = _option(
    "catalog",
    "Your own datasets, in a file of the form of data_catalog/datasets/catalog.yaml.",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    default=None,
)
data_root = _option("data-root", "Folder that contains the datasets; for folder, the images themselves.", type=_FOLDER)
store_root = _option("store-root", "Folder of the stores, or a URL like s3://BUCKET/FOLDER.", type=PATH_OR_URL)
run_root = _option("run-root", "Folder of training runs and pictures.", type=_FOLDER)
store = _option("store", "Store format.", type=click.Choice(list(FORMATS)))
size = _option("size", "Canonical image size, HEIGHTxWIDTH.")
model_size = _option("size", "Image size, HEIGHTxWIDTH; the model's own unless given.", default=None)
dsap_size = _option("dsap-size", "Rows and columns of a DSAP image.", type=int)
collision = _option("collision", "Which pixel a DSAP texel takes.", type=click.Choice(["last", "mean"]))
estimator = _option("estimator", "Where dense pose comes from.", type=click.Choice(ESTIMATORS))
iuv_root = _option(
    "iuv-root", "Folder of existing IUV maps; the dataset's own unless given.", type=_FOLDER, default=None
)
iuv_order = _option(
    "iuv-order",
    "Channel order of IUV files as Pillow reads them; vui is what OpenCV and DensePose write.",
    type=click.Choice(["auto", "vui", "iuv"]),
    default="auto",
)
weights = _option("weights", "DensePose weights: a published name, or a .pkl or .pth file.")
mode = _option(
    "mode",
    "The person's box for DensePose: the whole crop, or what its detector finds.",
    type=click.Choice(["crop", "detect"]),
)
short_edge = _option("short-edge", "Short edge of an image inside DensePose, in pixels.", type=click.IntRange(min=1))
short_edges = _option("short-edges", "Short edges to compare with 800, with commas.", default="128,192,256,384,512")
precision = _option("precision", "Arithmetic of DensePose.", type=click.Choice(["fp32", "bf16", "fp16"]))
no_fallback = _option(
    "no-fallback",
    "With --mode detect: an image without a detection has nobody in it, instead of being taken whole.",
    is_flag=True,
    default=False,
)
compiled = _option(
    "compiled",
    "With ESTIMATOR=densepose on a GPU: the network through torch.compile, which takes minutes at first.",
    is_flag=True,
    default=False,
)
pattern = _option("pattern", "For folder: regular expression with the groups person, camera, split.", default=None)
shard_rows = _option("shard-rows", "Images in a shard, the unit of work and of resuming.", type=int, default=1024)
device = _option("device", "auto, cpu, cuda or cuda:N.")
workers = _option(
    "workers", "Worker processes; 0 is this process, auto one for each GPU.", type=parse_workers, metavar="NUMBER"
)
ignore_space = _option(
    "ignore-space", "Start even where the store will not fit on the disk.", is_flag=True, default=False
)
source = _option(
    "source",
    "The store to derive from; the one of DATASET, SIZE and STORE with the usual DSAP images unless given.",
    type=PATH_OR_URL,
    default=None,
)
scheduler = _option("scheduler", "Address of a Dask scheduler that computes the shards, tcp://HOST:PORT.", default=None)
seed = _option("seed", "Seed of everything random.", type=int)
model = _option("model", f"Experiment: auto, {', '.join(known_configs())}, or a YAML file.")
epochs = _option("epochs", "Epochs instead of the experiment's own.", type=int, default=None)
feed = _option(
    "feed",
    "How batches reach a step: disk (workers read), memory (decoded in RAM), device (decoded on the GPU); "
    "auto = the fastest that fits.",
    type=click.Choice(["auto", "disk", "memory", "device"]),
    default="auto",
)
initial = _option(
    "initial", "Fine-tuning: the run to start from; its classifiers are left.", type=click.Path(path_type=Path),
    default=None,
)  # fmt: skip
table = _option("table", "The paper's table or figure.", type=click.Choice(list(TABLES)), default="dsa-3")
seeds = _option("seeds", "Seeds of every row, with commas; more than one give mean and deviation.", default="0")
compared_images = _option("images", "How many images to compare.", type=click.IntRange(min=1), default=64)
rows = _option("images", "How many images to show.", type=click.IntRange(min=1), default=12)


def store_options(command: _Command, *, size_option: Callable[[_Command], _Command] = size) -> _Command:
    """Every option that decides which store is meant and how it is made."""
    stack = (
        dataset, catalog, data_root, store_root, store, size_option, dsap_size, collision, estimator, iuv_root,
        iuv_order, weights, mode, short_edge, precision, no_fallback, compiled, pattern, shard_rows, device, workers,
        scheduler, ignore_space,
    )  # fmt: skip
    return _with(command, stack)


def sizes_options(command: _Command) -> _Command:
    """The options of comparing DensePose's input sizes."""
    stack = (
        dataset, catalog, data_root, pattern, size, weights, short_edges, compared_images, precision, device, run_root,
    )  # fmt: skip
    return _with(command, stack)


def _with(command: _Command, stack: Sequence[Callable[[_Command], _Command]]) -> _Command:
    for option in reversed(stack):
        command = option(command)
    return command


def derive_options(command: _Command) -> _Command:
    """Every option that decides which store is derived, and how."""
    stack = (
        dataset, data_root, store_root, store, size, dsap_size, collision, source, device, workers, scheduler,
    )  # fmt: skip
    for option in reversed(stack):
        command = option(command)
    return command


def model_store_options(command: _Command) -> _Command:
    """:func:`store_options` for commands whose model decides the image size."""
    return store_options(command, size_option=model_size)


def whole_numbers(name: str, text: str) -> tuple[int, ...]:
    """The numbers of a list with commas; UserError with the variable's ``name`` otherwise."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UserError(f"{name} is '{text}'", "expected numbers with commas, for example 0,1,2") from error
