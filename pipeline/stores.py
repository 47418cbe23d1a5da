"""Datasets become stores: rendered where they are ours, preprocessed, derived, or found finished."""

from __future__ import annotations

import shlex
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from densereid.data_catalog.datasets.lookup import Dataset, count_differences, find_dataset, find_root
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.schema import Split
from densereid.data_catalog.store.store import Store, exists, open_store
from densereid.data_catalog.synthetic.config import SyntheticConfig
from densereid.data_catalog.synthetic.dataset import COMPLETE_NAME, plan_images, write_dataset
from densereid.pipeline.console import print_status
from densereid.pipeline.dask_cluster import shard_executor
from densereid.pipeline.estimators import arithmetic_of, choose_estimator
from densereid.pipeline.invocation import next_command, this_command
from densereid.pipeline.progress import ProgressReport
from densereid.pipeline.settings import defaults, gpus_to_share, parse_size, resolve_device, size_text
from densereid.pipeline.store_choice import derivable_from, existing_request
from densereid.pipeline.store_request import StoreRequest
from densereid.preprocess.writing.changes import Changes, StoredImages, check_same_dataset, find_changes
from densereid.preprocess.writing.derived_store import DerivedPlan
from densereid.preprocess.writing.fill import OnProgress, fill_store, list_failures, write_store
from densereid.preprocess.writing.forecast import check_memory, check_space, disk_full, is_disk_full, measure
from densereid.preprocess.writing.inputs import read_inputs
from densereid.preprocess.writing.plan import Plan, PreprocessConfig, StorePlan
from densereid.preprocess.writing.provenance import record_run


def synthesize(root: Path, config: SyntheticConfig, *, workers: int) -> None:
    """Render the synthetic pedestrians under ``root``, with progress."""
    total = len(plan_images(config))
    print_status(f"rendering {total} synthetic pedestrians into {root}")
    with ProgressReport("rendering", total) as report:
        write_dataset(root, config, workers=workers, on_progress=lambda done, _: report.advance(done - report.done))


def make_store(request: StoreRequest) -> tuple[Store, int]:
    """Preprocess the dataset into its store, or finish what was begun; the store and its number of failures."""
    dataset = _present_dataset(request)
    if dataset.pattern and not request.pattern:
        print_status(f"PATTERN={shlex.quote(dataset.pattern)} is used, with which {request.path()} was made")
    device, why_device = resolve_device(request.device)
    estimator, why = choose_estimator(request, dataset, device)
    plan = Plan(dataset, request.path(), estimator, make_config(request, device))
    print_status(f"{dataset.name}: {counted(dataset)} in {dataset.root}")
    for difference in count_differences(dataset):
        print_status(f"  note: {difference}")
    print_status(
        f"estimator {estimator.name} ({why}); device {device} ({why_device}){arithmetic_of(estimator)}; "
        f"store {plan.path}"
    )
    store = write_store(plan, format=request.store, fill=partial(_fill, request), notify=print_status)
    return store, _report_failures(store)


def derive_store(request: StoreRequest, source: AnyPath | None = None) -> Store:
    """The request's store, its masks and DSAP images computed from the images and IUV maps of a finished store.

    ``source`` is that store; the one of the request's dataset that is there unless given. Its dataset and size are
    kept. Raises UserError where another size was asked for: resized again, images and IUV maps would lose.
    """
    original = _source(request) if source is None else open_store(source.absolute())
    if source is None:
        compare_with_dataset(request, original)
    size = (original.geometry.height, original.geometry.width)
    if size != request.size and request.size != parse_size(defaults().size):
        raise UserError(
            f"{original.path} holds images of {size_text(size)}, and SIZE is {size_text(request.size)}",
            "derive keeps images and IUV maps as they are: leave out SIZE, or make a store of that size from the "
            "images with `make preprocess`; `make train` resizes while it reads",
        )
    path = replace(request, size=size).path(None if source is None else str(original.attributes["dataset"]))
    device, why_device = resolve_device(request.device)
    plan = DerivedPlan(original, path, request.dsap_size, request.collision, device)
    print_status(f"deriving {plan.path} from {original.path}; device {device} ({why_device})")
    store = write_store(plan, format=request.store, fill=partial(_fill, request, title="deriving"), notify=print_status)
    _report_failures(store)
    return store


def _source(request: StoreRequest) -> Store:
    """The finished store that the request's is derived from: of its size, or of another where that was not asked."""
    found = derivable_from(request)
    usual = existing_request(request.usual(), any_size=False) if found is None else request
    return found or open_store(usual.path().absolute())


def make_config(request: StoreRequest, device: str) -> PreprocessConfig:
    """The config of the request's store, computed on ``device``."""
    return PreprocessConfig(
        size=request.size,
        dsap_size=request.dsap_size,
        collision=request.collision,
        shard_rows=request.shard_rows,
        device=device,
    )


def _present_dataset(request: StoreRequest) -> Dataset:
    if request.dataset == "synthetic" and not synthetic_exists(request):
        synthesize(request.data_root / "synthetic", SyntheticConfig(), workers=request.workers)
    return dataset_to_preprocess(request)


def synthetic_exists(request: StoreRequest) -> bool:
    """Whether the synthetic pedestrians are there, all of them."""
    return (request.data_root / "synthetic" / COMPLETE_NAME).is_file()


def wanted_dataset(request: StoreRequest, store: AnyPath | None = None) -> Dataset:
    """The request's dataset as it is on disk, with what its store was made with where the request does not say.

    ``store`` is where that lies, if not at the request's path. Raises UserError where the dataset is not there.
    """
    asked = as_recorded(request, store)
    return find_dataset(
        asked.dataset, asked.data_root, pattern=asked.pattern, iuv_root=asked.iuv_root, catalog=asked.catalog
    )


def as_recorded(request: StoreRequest, store: AnyPath | None = None) -> StoreRequest:
    """The request with the PATTERN and IUV_ROOT of its store, made from the same folder, where it does not say."""
    recorded = read_inputs(store or request.path())
    root = _root_of(request)
    if root is None or recorded["root"] != str(root.resolve()):
        return request
    pattern = request.pattern or recorded["pattern"] or None
    maps = Path(recorded["iuv_root"]) if recorded["iuv_root"] and request.estimator in ("auto", "iuv") else None
    return replace(request, pattern=pattern, iuv_root=request.iuv_root or (maps if maps and maps.exists() else None))


def _root_of(request: StoreRequest) -> Path | None:
    return find_root(request.dataset, request.data_root, request.catalog)


def dataset_to_preprocess(request: StoreRequest) -> Dataset:
    """The request's dataset as it is on disk. Raises UserError also where the IUV maps of its store are gone."""
    dataset, path = wanted_dataset(request), request.path()
    if request.estimator != "auto" or dataset.iuv_root is not None or not exists(path):
        return dataset
    store = open_store(path, incomplete=True)
    if store.attributes.get("estimator", {}).get("name") != "iuv":
        return dataset
    _check_is_of(store, dataset)
    maps = read_inputs(path)["iuv_root"]
    raise UserError(
        f"{path} was made with IUV maps from {maps or 'a folder'}, and none are there now for {dataset.root}",
        "give IUV_ROOT=FOLDER, where the maps lie now; for another ESTIMATOR choose another folder with STORE_ROOT, or "
        "move the store away",
    )


def training_identities(request: StoreRequest, store: Store | None) -> int:
    """The identities of the training images of ``store``, or of what the request's would be made from."""
    known = store or derivable_from(request)
    if known is None and request.dataset == "synthetic" and not synthetic_exists(request):
        return SyntheticConfig().train_identities
    rows = (
        wanted_dataset(request).rows() if known is None else {name: known.read(name) for name in ("person_id", "split")}
    )
    person_id = rows["person_id"][rows["split"] == Split.TRAIN]
    return len(np.unique(person_id[person_id > 0]))


def counted(dataset: Dataset) -> str:
    """Its number of images, also by split, in words."""
    parts = []
    for split in Split:
        number = sum(record.split == split for record in dataset.records)
        if number:
            parts.append(f"{number} {split.name.lower()}")
    return f"{plural(len(dataset.records), 'image')} ({', '.join(parts)})"


def _fill(request: StoreRequest, plan: StorePlan, shards: list[int], *, title: str = "preprocessing") -> None:
    if not shards:
        print_status(f"{plan.path} is complete; nothing to do")
        return
    geometry = plan.geometry
    rows = [geometry.shard_slice(shard) for shard in shards]
    images = sum(covered.stop - covered.start for covered in rows)
    if len(shards) < geometry.num_shards:
        written = f"{geometry.num_shards - len(shards)} of {plural(geometry.num_shards, 'shard')}"
        print_status(f"continuing: {written} are already written")
    gpus = gpus_to_share(request.device)
    if request.scheduler is None:
        check_memory(plan)
    with shard_executor(workers=request.workers, scheduler=request.scheduler, gpus=gpus) as (executor, where):
        print_status(f"{plural(len(shards), 'shard')}, computed by {where}")
        if isinstance(plan, Plan) and not request.ignore_space:
            check_space(plan, images, lambda: executor.submit(measure, plan).result() if executor else measure(plan))
        record_run(plan, command=this_command(), workers=where, shards=len(shards))
        with ProgressReport(title, images) as report:
            _compute(plan, shards, executor, lambda progress: report.advance(progress.images, progress.failed))


def _compute(plan: StorePlan, shards: list[int], executor: Executor | None, on_progress: OnProgress) -> None:
    try:
        fill_store(plan, shards, executor=executor, on_progress=on_progress)
    except OSError as error:
        if not is_disk_full(error):
            raise
        written = plan.geometry.num_shards - len(open_store(plan.path, incomplete=True).missing_shards())
        raise disk_full(plan, written, error) from error


def _report_failures(store: Store) -> int:
    failures = list_failures(store)
    markers = store.markers().values()
    no_person, fallbacks = (sum(marker.get(note, 0) for marker in markers) for note in ("no_person", "taken_whole"))
    if no_person:
        total = plural(store.geometry.num_samples, "image")
        print_status(f"no person was found in {no_person} of {total}; their masks are background")
    if fallbacks:
        print_status(
            f"the detector found no person in {plural(fallbacks, 'image')}, used whole (--no-fallback leaves them out)"
        )
    if failures:
        print_status(f"{plural(len(failures), 'image')} failed; the first: {failures[0]['reason']}")
        print_status(f"all of them, with reasons: {store.path / 'failures.csv'}")
    return len(failures)


def ensure_store(request: StoreRequest) -> Store:
    """The request's store as it is, or the dataset's that is there, or else made first.

    Its images may be of another size: whoever reads it resizes them. With DSAP images that were asked for and that no
    store has, it is derived from one that is finished.
    """
    request = training_request(request)
    store = finished_store(request.path())
    if store is not None:
        size = size_text((store.geometry.height, store.geometry.width))
        print_status(f"store {store.path}: {plural(store.geometry.num_samples, 'image')} of {size}")
        compare_with_dataset(request, store)
        return store
    source = derivable_from(request)
    if source is None and request.dataset != "synthetic" and _root_of(request) is None:
        wanted_dataset(request)  # says where it was looked for
    print_status(f"store {request.path()} is not there or not finished; making it first")
    if source is not None:
        compare_with_dataset(request, source)
        return derive_store(request, source.path)
    return make_store(request)[0]


def training_request(request: StoreRequest) -> StoreRequest:
    """The request, or what names the store that training takes or derives instead, of whatever size."""
    chosen = existing_request(request, any_size=True)
    if exists(chosen.path()) or derivable_from(chosen) is not None:
        return chosen
    other = existing_request(request.usual(), any_size=True)
    return replace(request, size=other.size) if exists(other.path()) else request


def compare_with_dataset(request: StoreRequest, store: Store) -> None:
    """Say what has changed in the request's dataset since ``store`` was made, or that it cannot be compared.

    Raises UserError where the store was made from another dataset.
    """
    made_from = read_inputs(store.path)["root"]
    whose = f", of the images in {made_from}," if made_from else ""
    try:
        if _root_of(request) is None:
            raise UserError(f"the images of {request.dataset} are not at hand ({request.data_root})")
        dataset = wanted_dataset(request, store.path)
    except UserError as error:
        print_status(f"  note: {error.problem}; the store{whose} is taken as it is")
        return
    changes = _check_is_of(store, dataset)
    if changes.is_any():
        update = next_command("preprocess", size=size_text((store.geometry.height, store.geometry.width)))
        print_status(f"  note: since it was made, of the images in {dataset.root} are {changes}; `{update}` updates it")


def _check_is_of(store: Store, dataset: Dataset) -> Changes:
    """What has changed since. Raises UserError where the store was made from another dataset."""
    stored = StoredImages(store)
    changes = find_changes(stored, dataset.root, [record.path for record in dataset.records])
    check_same_dataset(stored, dataset, changes)
    return changes


def finished_store(path: AnyPath) -> Store | None:
    """The store at ``path``, where there is one whose shards are all written."""
    if not exists(path):
        return None
    store = open_store(path, incomplete=True)
    return None if store.missing_shards() else store
