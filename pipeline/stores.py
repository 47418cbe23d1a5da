"""The stages of the pipeline as functions: render, preprocess, train, evaluate, inspect; each says what it chose."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from densereid.data_catalog.datasets.lookup import Dataset, count_differences, find_dataset
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.store.schema import Geometry, Split
from densereid.data_catalog.store.store import Store, exists, open_store
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import COMPLETE_NAME, plan_images, write_dataset
from densereid.pipeline.console import ProgressReport, print_status, this_command
from densereid.pipeline.dask_cluster import shard_executor
from densereid.pipeline.settings import ESTIMATORS, defaults, gpus_to_share, parse_size, resolve_device, store_path
from densereid.preprocess.densepose.batching import Precision
from densereid.preprocess.densepose.detectron2_network import missing
from densereid.preprocess.estimators.base import Estimator
from densereid.preprocess.estimators.densepose import open_densepose
from densereid.preprocess.estimators.detectron2 import GUIDE, Mode, open_detectron2
from densereid.preprocess.estimators.iuv import open_iuv
from densereid.preprocess.semantics.derive import Collision
from densereid.preprocess.writing.derived_store import DerivedPlan
from densereid.preprocess.writing.fill import OnProgress, fill_store, write_failures
from densereid.preprocess.writing.forecast import check_space, disk_full, is_disk_full, measure
from densereid.preprocess.writing.plan import Plan, PreprocessConfig, prepare
from densereid.preprocess.writing.provenance import record_run


@dataclass(frozen=True)
class StoreRequest:
    """Which store is wanted and how it is made; the field names are those of the command's options."""

    dataset: str
    data_root: Path
    store_root: AnyPath
    store: str
    size: str
    dsap_size: int
    collision: Collision
    estimator: str = defaults()["estimator"]
    iuv_root: Path | None = None
    iuv_order: str = "auto"
    pattern: str | None = None
    shard_rows: int = Geometry.shard_rows
    device: str = defaults()["device"]
    workers: int = defaults()["workers"]
    catalog: Path | None = None
    scheduler: str | None = None
    weights: str = defaults()["weights"]
    mode: Mode = defaults()["mode"]
    short_edge: int = defaults()["short_edge"]
    precision: Precision = defaults()["precision"]
    no_fallback: bool = False
    compiled: bool = False
    ignore_space: bool = False

    def path(self) -> AnyPath:
        """Where the store lives, or will."""
        name = f"folder-{self.data_root.resolve().name}" if self.dataset == "folder" else self.dataset
        size = parse_size(self.size)
        return store_path(self.store_root, name, size, self.store, dsap_size=self.dsap_size, collision=self.collision)

    def usual_path(self) -> AnyPath:
        """Where the same store with the usual DSAP images lives, or would."""
        return replace(self, **{name: defaults()[name] for name in ("dsap_size", "collision")}).path()

    def variables(self) -> str:
        """The Make variables that name this store: DATASET, and those that are not the defaults."""
        named: dict[str, object] = {
            "DATA_ROOT": self.data_root,
            "STORE_ROOT": self.store_root,
            "STORE": self.store,
            "SIZE": self.size,
        }
        named |= {"DSAP_SIZE": self.dsap_size, "COLLISION": self.collision}
        unusual = [f"{name}={value}" for name, value in named.items() if str(value) != str(defaults()[name.lower()])]
        return " ".join((f"DATASET={self.dataset}", *unusual))


def synthesize(root: Path, config: SyntheticConfig, *, workers: int) -> None:
    """Render the synthetic pedestrians under ``root``, with progress."""
    total = len(plan_images(config))
    print_status(f"rendering {total} synthetic pedestrians into {root}")
    with ProgressReport("rendering", total) as report:
        write_dataset(root, config, workers=workers, on_progress=lambda done, _: report.advance(done - report.done))


def make_store(request: StoreRequest) -> tuple[Store, int]:
    """Preprocess the dataset into its store, or finish what was begun; the store and its number of failures."""
    dataset = _present_dataset(request)
    device, why_device = resolve_device(request.device)
    estimator, why = choose_estimator(request, dataset, device)
    plan = Plan(dataset, request.path(), estimator, make_config(request, device))
    print_status(f"{dataset.name}: {counted(dataset)} in {dataset.root}")
    for difference in count_differences(dataset):
        print_status(f"  note: {difference}")
    print_status(f"estimator {estimator.name} ({why}); device {device} ({why_device}); store {plan.path}")
    shards = prepare(plan, format=request.store)
    _fill(plan, shards, request)
    store = open_store(plan.path)
    return store, _report_failures(store)


def derive_store(request: StoreRequest, source: AnyPath | None = None) -> Store:
    """The request's store, its masks and DSAP images computed from the images and IUV maps of a finished store.

    ``source`` is that store; the request's own with the usual DSAP images unless given.
    """
    original = open_store((source or request.usual_path()).absolute())
    device, why_device = resolve_device(request.device)
    plan = DerivedPlan(original, request.path(), request.dsap_size, request.collision, device)
    print_status(f"deriving {plan.path} from {original.path}; device {device} ({why_device})")
    _fill(plan, prepare(plan, format=request.store), request, title="deriving")
    store = open_store(plan.path)
    _report_failures(store)
    return store


def make_config(request: StoreRequest, device: str) -> PreprocessConfig:
    """The config of the request's store, computed on ``device``."""
    return PreprocessConfig(
        size=parse_size(request.size),
        dsap_size=request.dsap_size,
        collision=request.collision,
        shard_rows=request.shard_rows,
        device=device,
    )


def choose_estimator(request: StoreRequest, dataset: Dataset, device: str) -> tuple[Estimator, str]:
    """The estimator that is asked for and the reason for it. Raises UserError with the choices where none fits.

    ``auto`` takes IUV maps where the dataset has them, else Detectron2 where it is installed, else our own network.
    """
    name = request.estimator
    if name not in ESTIMATORS:
        raise UserError(f"unknown estimator '{name}'", f"known: {', '.join(ESTIMATORS)}")
    if name == "iuv":
        return open_iuv(dataset, request.iuv_order), "asked for"
    if name in ("densepose", "detectron2"):
        return _network(request, device, detectron2=name == "detectron2"), "asked for"
    if dataset.iuv_root is not None:
        return open_iuv(dataset, request.iuv_order), f"IUV maps exist in {dataset.iuv_root}"
    installed = missing() is None
    try:
        estimator = _network(request, device, detectron2=installed)
        return estimator, f"there are no IUV maps, and Detectron2 is {'' if installed else 'not '}installed"
    except UserError as error:
        raise _no_estimator(dataset, str(error)) from error


def _network(request: StoreRequest, device: str, *, detectron2: bool) -> Estimator:
    common: dict[str, Any] = {
        "device": device,
        "mode": request.mode,
        "short_edge": request.short_edge,
        "precision": request.precision,
        "notify": print_status,
    }
    if detectron2:
        return open_detectron2(request.weights, fallback=not request.no_fallback, **common)
    return open_densepose(request.weights, compiled=request.compiled, **common)


def _no_estimator(dataset: Dataset, why: str) -> UserError:
    return UserError(
        f"{dataset.root} has images but no IUV maps, and DensePose cannot be run: {why}",
        "the choices are:\n"
        "  ESTIMATOR=iuv with IUV_ROOT=FOLDER: DensePose IUV maps you already have, NAME.png or NAME_IUV.png\n"
        "  ESTIMATOR=densepose with WEIGHTS=NAME or FILE: DensePose of whole crops, nothing to install\n"
        "  ESTIMATOR=detectron2 with WEIGHTS=NAME or FILE: DensePose by Detectron2; environment.yml brings both for\n"
        f"    conda, its own guide is {GUIDE}\n"
        "  DATASET=synthetic: pedestrians rendered with exact IUV maps, nothing to download",
    )


def _present_dataset(request: StoreRequest) -> Dataset:
    if request.dataset == "synthetic" and not synthetic_exists(request):
        synthesize(request.data_root / "synthetic", SyntheticConfig(), workers=request.workers)
    return wanted_dataset(request)


def synthetic_exists(request: StoreRequest) -> bool:
    """Whether the synthetic pedestrians are there, all of them."""
    return (request.data_root / "synthetic" / COMPLETE_NAME).is_file()


def wanted_dataset(request: StoreRequest) -> Dataset:
    """The request's dataset as it is on disk. Raises UserError where it is not."""
    return find_dataset(
        request.dataset,
        request.data_root,
        pattern=request.pattern,
        iuv_root=request.iuv_root,
        catalog=request.catalog,
    )


def counted(dataset: Dataset) -> str:
    """Its number of images, also by split, in words."""
    parts = []
    for split in Split:
        number = sum(record.split == split for record in dataset.records)
        if number:
            parts.append(f"{number} {split.name.lower()}")
    return f"{len(dataset.records)} images ({', '.join(parts)})"


def _fill(plan: Plan | DerivedPlan, shards: list[int], request: StoreRequest, *, title: str = "preprocessing") -> None:
    if not shards:
        print_status(f"{plan.path} is complete; nothing to do")
        return
    geometry = plan.geometry
    rows = [geometry.shard_slice(shard) for shard in shards]
    images = sum(covered.stop - covered.start for covered in rows)
    if len(shards) < geometry.num_shards:
        print_status(
            f"continuing: {geometry.num_shards - len(shards)} of {geometry.num_shards} shards are already written"
        )
    gpus = gpus_to_share(request.device)
    with shard_executor(workers=request.workers, scheduler=request.scheduler, gpus=gpus) as (executor, where):
        print_status(f"{len(shards)} shards, computed by {where}")
        if isinstance(plan, Plan) and not request.ignore_space:
            check_space(plan, images, lambda: executor.submit(measure, plan).result() if executor else measure(plan))
        record_run(plan, command=this_command(), workers=where, shards=len(shards))
        with ProgressReport(title, images) as report:
            _compute(plan, shards, executor, lambda progress: report.advance(progress.images, progress.failed))


def _compute(plan: Plan | DerivedPlan, shards: list[int], executor: Executor | None, on_progress: OnProgress) -> None:
    try:
        fill_store(plan, shards, executor=executor, on_progress=on_progress)
    except OSError as error:
        if not is_disk_full(error):
            raise
        written = plan.geometry.num_shards - len(open_store(plan.path, incomplete=True).missing_shards())
        raise disk_full(plan, written, error) from error


def _report_failures(store: Store) -> int:
    failures = write_failures(store)
    markers = store.markers().values()
    no_person, fallbacks = (sum(marker.get(note, 0) for marker in markers) for note in ("no_person", "taken_whole"))
    if no_person:
        print_status(
            f"no person was found in {no_person} of {store.geometry.num_samples} images; their masks are background"
        )
    if fallbacks:
        print_status(
            f"the detector found nobody in {fallbacks} images, which were taken whole (--no-fallback leaves them out)"
        )
    if failures:
        print_status(f"{len(failures)} images failed; the first: {failures[0]['reason']}")
        print_status(f"all of them, with reasons: {store.path / 'failures.csv'}")
    return len(failures)


def ensure_store(request: StoreRequest) -> Store:
    """The request's store as it is, finished or made first where it is not there.

    With other DSAP images than the usual ones, it is derived from the store that has those, where that is finished.
    """
    path = request.path()
    if exists(path):
        store = open_store(path, incomplete=True)
        if not store.missing_shards():
            print_status(f"store {path}: {store.geometry.num_samples} images")
            return store
    print_status(f"store {path} is not there or not finished; making it first")
    return derive_store(request) if _can_derive(request) else make_store(request)[0]


def _can_derive(request: StoreRequest) -> bool:
    usual = request.usual_path()
    if usual == request.path() or not exists(usual):
        return False
    store = open_store(usual, incomplete=True)
    return not store.missing_shards() and request.estimator in ("auto", store.attributes["estimator"]["name"])
