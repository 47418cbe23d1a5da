"""Which store a command takes: the one that its options name, or else the one of the dataset that is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from densereid.data_catalog.errors import UserError
from densereid.data_catalog.files.paths import AnyPath, UrlPath, parse_path
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.store import Store, exists, open_store
from densereid.pipeline.console import print_status
from densereid.pipeline.settings import defaults, parse_size, size_text
from densereid.pipeline.store_request import StoreRequest


def existing_request(request: StoreRequest, *, any_size: bool) -> StoreRequest:
    """The request itself where its store is there, whole or in part; else changed to name another one that is there.

    What differs from the defaults was asked for, and stays, but for the size with ``any_size``: training resizes.
    Finished stores go before others, then those of the nearest larger size. The request itself where there is none.
    """
    if exists(request.path()):
        return request
    found = [
        (store, each)
        for store in stores_of(request)
        if (each := _named_as(request, store)).path() == store.path and _fits(each, request, any_size=any_size)
    ]
    if not found:
        return request
    store, chosen = min(found, key=lambda pair: _preference(pair[0], pair[1], request))
    state = "which is finished first" if store.missing_shards() else f"{plural(store.geometry.num_samples, 'image')}"
    print_status(f"there is no {request.path().name}; the store that is there is taken: {store.path}, {state}")
    return chosen


def find_store(request: StoreRequest, store_path: AnyPath | None = None) -> Store:
    """The store at ``store_path``, or else the request's, or the one of its dataset that is there; complete.

    Raises UserError as ``open_store``, and with the dataset's stores where the one that is asked for is not there.
    """
    if store_path is not None:
        return open_store(store_path)
    path = existing_request(request, any_size=False).path()
    others = [] if exists(path) else [str(store.path) for store in stores_of(request)]
    if others:
        raise UserError(
            f"no store at {path}; of {request.dataset_name} there are: {', '.join(others)}",
            "name one with STORE_PATH, or with SIZE, STORE, DSAP_SIZE and COLLISION",
        )
    return open_store(path)


def store_of_run(run: Path, recorded: Mapping[str, str], store_path: AnyPath | None = None) -> Store:
    """The store at ``store_path``, or else that of a run's training, as its checkpoint has it ``recorded``; complete.

    Where the project was moved, it is looked for beside the run, and known by its digest. Raises UserError with the
    option that names it where it is not found, and where another one lies at its path today.
    """
    if store_path is not None:
        return open_store(store_path)
    from densereid.train.engine.checkpoint import store_fingerprint  # here: it imports torch

    path = parse_path(recorded["path"])
    if isinstance(path, UrlPath) or (path.is_absolute() and exists(path)):
        store = open_store(path)
        found = store_fingerprint(store)
        if found["digest"] != recorded["digest"]:
            raise UserError(
                f"{path} is not what {run} was trained on: other images, labels or sizes lie there now "
                f"({found['dataset']}, {found['digest'][:8]}; then {recorded['dataset']}, {recorded['digest'][:8]})",
                f"give the run's own store with STORE_PATH, or this one on purpose: STORE_PATH={path}",
            )
        return store
    tails = [Path(*path.parts[-2:]), Path(path.name), *([] if path.is_absolute() else [path])]
    folders = [Path.cwd(), *run.absolute().parents]
    looked = list(dict.fromkeys(folder / tail for tail in tails for folder in folders))
    for candidate in filter(exists, looked):
        store = open_store(candidate, incomplete=True)
        if not store.missing_shards() and store_fingerprint(store)["digest"] == recorded["digest"]:
            return store
    raise UserError(
        f"the store that {run} was trained on is not at {path}, nor beside the run",
        "give it with STORE_PATH=..., where it lies now, or another one to rank; `make status` lists those of a folder",
    )


def derivable_from(request: StoreRequest) -> Store | None:
    """A finished store with the request's images and dense pose, and other DSAP images: deriving loses nothing then."""
    same = (
        store
        for store in stores_of(request)
        if (store.geometry.height, store.geometry.width) == request.size
        and store.path != request.path()
        and not store.missing_shards()
    )
    return min(same, key=lambda store: (store.path != request.usual().path(), store.path.name), default=None)


def stores_of(request: StoreRequest) -> list[Store]:
    """The readable stores of the request's dataset in its folder, by name, by an estimator that it may have."""
    folders: list[AnyPath] = [path for path in request.store_root.glob("[!.]*") if exists(path)]
    stores = []
    for path in sorted(folders, key=lambda path: path.name):
        try:
            store = open_store(path, incomplete=True)
        except UserError:  # `status` says what is wrong with it; here another one may do
            continue
        if store.attributes.get("dataset") == request.dataset_name and _may_be_by(request, store):
            stores.append(store)
    return stores


def _may_be_by(request: StoreRequest, store: Store) -> bool:
    return request.estimator in ("auto", store.attributes.get("estimator", {}).get("name"))


def _named_as(request: StoreRequest, store: Store) -> StoreRequest:
    """The request, changed to what ``store`` is."""
    geometry, collision = store.geometry, store.attributes.get("collision", request.collision)
    size = (geometry.height, geometry.width)
    return replace(request, size=size, store=store.format, dsap_size=geometry.dsap_size, collision=collision)


def _fits(each: StoreRequest, request: StoreRequest, *, any_size: bool) -> bool:
    """Whether a store differs from what is asked for only in what was left to its default."""
    usual = defaults()
    free = {
        "size": any_size or request.size == parse_size(usual.size),
        "store": request.store == usual.store,
        "dsap_size": request.dsap_size == usual.dsap_size,
        "collision": request.collision == usual.collision,
    }
    return all(getattr(each, name) == getattr(request, name) for name, is_free in free.items() if not is_free)


def _preference(store: Store, each: StoreRequest, request: StoreRequest) -> tuple[bool, bool, bool, int, bool, str]:
    """The smaller, the better: finished, DSAP images as asked, images not enlarged or as little as can be, format."""
    other_parts = (each.dsap_size, each.collision) != (request.dsap_size, request.collision)
    enlarges = each.size[0] < request.size[0] or each.size[1] < request.size[1]
    pixels = each.size[0] * each.size[1]
    unfinished = bool(store.missing_shards())
    return (
        unfinished,
        other_parts,
        enlarges,
        -pixels if enlarges else pixels,
        each.store != request.store,
        size_text(each.size),
    )
