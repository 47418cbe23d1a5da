"""The report of a store as a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from densereid.data_catalog.files.paths import folder_bytes
from densereid.data_catalog.parts import MASK_LABELS
from densereid.data_catalog.plural import plural
from densereid.data_catalog.store.schema import Split, Status
from densereid.pipeline.reports.contact_sheet import choose_rows, dsap_sheet
from densereid.pipeline.reports.pages.pictures import camera_text, image_url, mask_legend, mask_url, person_text
from densereid.pipeline.reports.pages.shell import write_page
from densereid.pipeline.reports.pages.stores.figures import scores_figure, texels_figure
from densereid.pipeline.reports.pages.stores.findings import StoreFindings
from densereid.preprocess.writing.provenance import commit_in_words

_SECTIONS = {
    "store": "What it holds", "pictures": "Images", "coverage": "Body parts", "scores": "Scores of the estimator",
    "people": "Images without a person", "failures": "Failures", "provenance": "How it was made",
}  # fmt: skip
_LISTED = 50
_SMALL = 16


def write_store_page(path: Path, found: StoreFindings, *, images: int, seed: int) -> Path:
    """Write the report of a store to ``path``, whole or not at all; the path.

    ``images`` of it are shown, chosen by ``seed``. Raises OSError where the file cannot be written.
    """
    labels, store = found.labels, found.store
    status, score = labels["status"], labels["score"]
    nobody = np.flatnonzero(status == Status.NO_PERSON)
    scored = np.flatnonzero((status == Status.OK) & np.isfinite(score))
    unsure = scored[np.argsort(score[scored], kind="stable")[:_SMALL]]
    return write_page(
        path, "store.html",
        title=store.path.name, sections=list(_SECTIONS.items()), facts=_facts(found), found=found,
        splits=_splits(labels), counts={each.name: int((status == each).sum()) for each in Status},
        tiles=[_tile(found, row) for row in choose_rows(store, images, seed=seed)], legend=mask_legend(),
        coverage=_coverage(found), texels=texels_figure(found.texels[status == Status.OK]),
        scores=scores_figure(score[scored]), unsure=[_thumbnail(found, row) for row in unsure],
        nobody=[_thumbnail(found, row) for row in nobody[:_SMALL]],
        failures=[[each["path"], each["reason"]] for each in found.failures[:_LISTED]],
        runs=[_run(run) for run in found.runs],
    )  # fmt: skip


def _facts(found: StoreFindings) -> dict[str, str]:
    store, geometry = found.store, found.store.geometry
    estimator = dict(store.attributes.get("estimator", {}))
    return {
        "dataset": str(store.attributes.get("dataset", "unknown")),
        "images": f"{geometry.num_samples:,} of {geometry.height}x{geometry.width}",
        "DSAP images": f"24 of {geometry.dsap_size}x{geometry.dsap_size}, "
        f"collision {store.attributes.get('collision')}",
        "estimator": str(estimator.pop("name", "unknown")),
        **{f"its {name.replace('_', ' ')}": str(value) for name, value in estimator.items()},
        "format": f"{store.format}, version {store.version}; "
        f"{plural(geometry.num_shards, 'shard')} of {geometry.shard_rows}",
        "on disk": f"{folder_bytes(store.path) / 1e6:,.1f} MB",
        "path": str(store.path),
    }


def _splits(labels: Mapping[str, np.ndarray]) -> list[list[str]]:
    rows = []
    for split in Split:
        chosen = labels["split"] == split
        people, cameras, status = (labels[name][chosen] for name in ("person_id", "camera_id", "status"))
        counts = [
            chosen.sum(), len(np.unique(people[people > 0])), (people == 0).sum(), (people < 0).sum(),
            len(np.unique(cameras[cameras >= 0])), *((status == each).sum() for each in Status),
        ]  # fmt: skip
        rows.append([split.name.lower(), *(f"{int(count):,}" for count in counts)])
    return rows


def _coverage(found: StoreFindings) -> dict[str, Any]:
    """The share of the readable images that show each part: of all, and of each camera."""
    cameras = found.labels["camera_id"]
    columns = [int(camera) for camera in np.unique(cameras[found.readable])]
    chosen = [found.readable, *((cameras == camera) & found.readable for camera in columns)]
    shares = [[float(found.seen[rows, part].mean()) if rows.any() else 0.0 for rows in chosen] for part in range(7)]
    names = ["all", *("unknown" if camera < 0 else f"camera {camera}" for camera in columns)]
    return {
        "columns": [f"{name} ({int(rows.sum()):,})" for name, rows in zip(names, chosen, strict=True)],
        "rows": list(zip(MASK_LABELS[1:], shares, strict=True)),
    }


def _tile(found: StoreFindings, row: int) -> dict[str, str]:
    arrays = {name: found.store.read(name, np.array([row]))[0] for name in ("image", "mask", "dsap")}
    return {
        **_thumbnail(found, row),
        "mask": mask_url(arrays["mask"]),
        "dsap": image_url(dsap_sheet(arrays["dsap"]), height=4 * 33),
    }


def _thumbnail(found: StoreFindings, row: int) -> dict[str, str]:
    labels = found.labels
    score = float(labels["score"][row])
    person, camera = person_text(int(labels["person_id"][row])), camera_text(int(labels["camera_id"][row]))
    return {
        "image": image_url(found.store.read("image", np.array([row]))[0]),
        "path": str(labels["path"][row]),
        "facts": f"person {person}, camera {camera}, {Split(labels['split'][row]).name.lower()}"
        + (f", score {score:.2f}" if np.isfinite(score) else ""),
    }


def _run(run: Mapping[str, Any]) -> dict[str, str]:
    """A run's entry of provenance.json, in words."""
    texts = {
        "started": run.get("started"), "command": run.get("command"), "device": run.get("device"),
        "computed by": run.get("computed_by"), "shards written": run.get("shards"),
        "commit": commit_in_words(run.get("commit")),
        "versions": ", ".join(f"{name} {number}" for name, number in (run.get("versions") or {}).items()),
        "settings": json.dumps(run.get("config"), sort_keys=True) if run.get("config") else None,
    }  # fmt: skip
    return {name: str(text) for name, text in texts.items() if text not in (None, "")}
