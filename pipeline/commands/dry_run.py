"""``preprocess --dry-run``: what a run would do and cost, measured on a small sample of it; nothing is written."""

from __future__ import annotations

from datetime import timedelta

from rich import filesize

from densereid.data_catalog.datasets.lookup import Dataset
from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import free_bytes
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.store import exists, open_store
from densereid.pipeline.estimators import arithmetic_of, choose_estimator, resolve_estimator
from densereid.pipeline.invocation import next_command
from densereid.pipeline.settings import resolve_device
from densereid.pipeline.store_request import StoreRequest
from densereid.pipeline.stores import counted, dataset_to_preprocess, make_config, synthetic_exists
from densereid.preprocess.densepose.weights import first_use
from densereid.preprocess.estimators.base import Estimator
from densereid.preprocess.writing.forecast import (
    SHARDS_IN_MEMORY,
    MeasuredSample,
    NullEstimator,
    check_memory,
    measure,
    raw_bytes,
)
from densereid.preprocess.writing.image_update import find_image_update
from densereid.preprocess.writing.plan import Plan
from densereid.preprocess.writing.update import Update


def dry_run_report(request: StoreRequest) -> dict[str, str]:
    """What a run would do, as a sentence for each of images, store, to do, estimator, on disk, memory and time.

    Raises UserError for what would stop the run before it starts, except an estimator that is not there.
    """
    if request.dataset == "synthetic" and not synthetic_exists(request):
        raise UserError(
            "the synthetic pedestrians are not rendered yet, and a dry run writes nothing",
            f"`{next_command('synthesize')}` renders them; a run does it by itself",
        )
    dataset = dataset_to_preprocess(request)
    device, _ = resolve_device(request.device)
    estimator, why = _estimator_or_null(request, dataset, device)
    plan = Plan(dataset, request.path(), estimator, make_config(request, device))
    if request.scheduler is None:
        check_memory(plan)
    shards, update = _shards_to_write(plan)
    rows = [plan.geometry.shard_slice(shard) for shard in shards]
    images = sum(covered.stop - covered.start for covered in rows)
    written = plan.geometry.num_shards - len(shards)
    facts = {
        "images": f"{counted(dataset)} in {dataset.root}",
        "store": f"{plan.path}: {written} of {plural(plan.geometry.num_shards, 'shard')} written",
        "to do": f"{plural(len(shards), 'shard')}, {plural(images, 'image')}"
        + (f" ({update.reason})" if update else ""),
        "estimator": f"{_name_of(estimator, request, dataset)} ({why}); device {device}{arithmetic_of(estimator)}",
    }
    return facts | (_cost(plan, images, request) if shards else {})


def _estimator_or_null(request: StoreRequest, dataset: Dataset, device: str) -> tuple[Estimator, str]:
    """The estimator of the run, or one that finds no person and the reason why the real one cannot be measured now."""
    if resolve_estimator(request, dataset)[0] in ("iuv", "embedded"):
        return choose_estimator(request, dataset, device)
    try:
        would_write = first_use(request.weights)
        if would_write is None:
            return choose_estimator(request, dataset, device)
        return NullEstimator(), f"cannot be measured in a dry run: {would_write}"
    except UserError as error:
        return NullEstimator(), f"cannot be run: {error.problem}"


def _name_of(estimator: Estimator, request: StoreRequest, dataset: Dataset) -> str:
    is_stand_in = isinstance(estimator, NullEstimator)
    return resolve_estimator(request, dataset)[0] if is_stand_in else estimator.name


def _shards_to_write(plan: Plan) -> tuple[list[int], Update | None]:
    """The shards that a run would write, and the update that it would make of the store that is there."""
    if not exists(plan.path):
        return list(range(plan.geometry.num_shards)), None
    update = None if isinstance(plan.estimator, NullEstimator) else find_image_update(plan)
    if update is not None:
        return [shard for shard in range(plan.geometry.num_shards) if shard not in update.kept], update
    return open_store(plan.path, incomplete=True).missing_shards(), None


def _cost(plan: Plan, images: int, request: StoreRequest) -> dict[str, str]:
    sample = measure(plan)
    known = not isinstance(plan.estimator, NullEstimator)
    return {
        "on disk": _disk(plan, images, sample, known=known),
        **_memory_and_time(plan, images, request, sample, known),
    }


def _disk(plan: Plan, images: int, sample: MeasuredSample, *, known: bool) -> str:
    each = sample.num_bytes // sample.images
    free = free_bytes(plan.path)
    there = "at a URL, where free space is not known" if free is None else f"{filesize.decimal(free)} are free"
    how = f"measured on {plural(sample.images, 'image')} spread over the dataset, compressed in memory"
    if known:
        return f"about {filesize.decimal(images * each)} more, {filesize.decimal(each)} an image ({how}); {there}"
    most = filesize.decimal(raw_bytes(plan, images))
    return f"between {filesize.decimal(images * each)} (the images alone, {how}) and {most} (uncompressed); {there}"


def _memory_and_time(
    plan: Plan, images: int, request: StoreRequest, sample: MeasuredSample, known: bool
) -> dict[str, str]:
    shard = raw_bytes(plan, min(plan.geometry.num_samples, plan.geometry.shard_rows))
    peak = sample.resident_bytes + SHARDS_IN_MEMORY * shard
    memory = (
        f"about {filesize.decimal(peak)} a process ({filesize.decimal(sample.resident_bytes)} after the sample, and "
        f"{SHARDS_IN_MEMORY} shards of {filesize.decimal(shard)})"
    )
    if not known:
        return {"memory": f"{memory}, and the estimator's own", "time": "unknown: the estimator was not measured"}
    duration = timedelta(seconds=round(images * sample.seconds / sample.images))
    time = f"about {duration} by one process ({sample.images / sample.seconds:,.1f} images/s on the sample)"
    if request.workers or request.scheduler:
        time += "; more workers on devices of their own divide it"
    return {"memory": memory, "time": time}
