"""Parsers that are given mutated input: what each is called with, and what it starts from."""

from __future__ import annotations

import base64
import functools
import io
import json
import pickle
import random
import signal
import tempfile
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from densereid.data_catalog.datasets import folders, layouts, specs
from densereid.data_catalog.errors import UserError, masked, printable
from densereid.data_catalog.files.names import is_name
from densereid.data_catalog.files.paths import parse_path
from densereid.data_catalog.files.sealed_json import is_sealed, sealed
from densereid.data_catalog.store.manifest import MANIFEST, damaged_files
from densereid.data_catalog.store.schema import Geometry, Split, arrays_written
from densereid.data_catalog.store.shard_markers import read_marker
from densereid.data_catalog.store.store import INPUTS, PROVENANCE
from densereid.pipeline.cli.parameter_types import parse_edges, parse_numbers, parse_setting
from densereid.pipeline.settings import parse_size, parse_workers
from densereid.preprocess.densepose.restricted_reader import read_restricted
from densereid.preprocess.estimators import iuv
from densereid.preprocess.estimators.dump_file import iuv_of, read_dump
from densereid.preprocess.images import read_image
from densereid.preprocess.writing.inputs import read_inputs
from densereid.preprocess.writing.provenance import recorded_runs
from densereid.train.config.experiment import find_experiment, read_yaml
from densereid.train.config.train_config import load_config
from densereid.train.engine.tracking import METRICS_FILE, read_metrics
from densereid.train.networks.tensor_file import check_tensors, load_tensor_file, save_tensor_file

CASE_SECONDS = 10
"""After which one case hangs; a slow name has its own limit of 20 seconds of computing (PATTERN)."""

Check = Callable[[bytes, Path], object]


@dataclass(frozen=True)
class Target:
    """A parser: ``check`` calls it with mutated bytes and a file that holds them, where it reads one."""

    check: Check
    beginnings: tuple[bytes, ...]
    cases: int
    file: str = ""
    """The name of the file; empty where none is written."""


_NASTY = (
    b"", b"\0", b"\xff\xfe", b"-1", b"0", b"1e999", b"NaN", b"null", b"true", b"[]", b"{}", b"../..", b"/", b"~", b"%",
    b"\n", b"\r", b"\t", b" ", b"'", b'"', b",", b"=", b":", b"://", b"@", b"?", b"#", b"&", b"*", b"!!", b"<<", b"\\",
    "²".encode(), "٣".encode(), "\u202e".encode(), b"9" * 30, b"9" * 5000, b"a" * 300, b"[" * 3000, b"(" * 50,
)  # fmt: skip


def mutated(generator: random.Random, beginnings: tuple[bytes, ...]) -> bytes:
    """One of the beginnings with one to four changes; now and then bytes of no meaning."""
    content = bytearray(generator.choice(beginnings))
    for _ in range(generator.randint(1, 4)):
        at, to = sorted((generator.randint(0, len(content)), generator.randint(0, len(content))))
        to = min(to, at + 32)
        change = generator.randrange(6)
        if change == 0 and content:
            content[at % len(content)] ^= 1 << generator.randrange(8)
        elif change == 1:
            content[at:to] = b""
        elif change == 2:
            content[at:at] = content[at:to] * generator.randint(1, 3)
        elif change == 3:
            content[at:to] = generator.choice(_NASTY)
        elif change == 4:
            content[at:to] = generator.randbytes(generator.randint(0, 8))
        else:
            other = generator.choice(beginnings)
            content[at:] = other[at:] if generator.random() < 0.8 else other[: generator.randint(0, len(other))]
    return bytes(content)


def fuzz(name: str, cases: int, seed: int) -> dict[str, Any]:
    """Call a target that often: how many inputs were taken and refused, and what else came of some."""
    target, generator = TARGETS[name], random.Random(f"{name} {seed}")
    counts: dict[str, Any] = {"taken": 0, "refused": 0, "hung": [], "broke": []}
    signal.signal(signal.SIGALRM, _hung)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / (target.file or "none")
        path.parent.mkdir(parents=True, exist_ok=True)
        for _ in range(cases):
            content = mutated(generator, target.beginnings)
            if target.file:
                path.write_bytes(content)
            counts_of(target, content, path, counts)
    return counts


def counts_of(target: Target, content: bytes, path: Path, counts: dict[str, Any]) -> None:
    """One case."""
    signal.setitimer(signal.ITIMER_REAL, CASE_SECONDS)
    try:
        target.check(content, path)
        counts["taken"] += 1
    except UserError:
        counts["refused"] += 1
    except _HungError:
        counts["hung"].append(repr(content[:300]))
    except BaseException:
        counts["broke"].append(f"{content[:300]!r}\n{traceback.format_exc()[-1500:]}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class _HungError(BaseException):
    pass


def _hung(*_: object) -> None:
    raise _HungError


def _text(parse: Callable[[str], object]) -> Check:
    """With text as a command line gives it: bytes that are no UTF-8 are surrogates."""
    return lambda content, _path: parse(content.decode("utf-8", "surrogateescape"))


def _path(parse: Callable[[Path], object]) -> Check:
    return lambda _content, path: parse(path)


def _image_name(text: str) -> None:
    for spec in specs.known_datasets().values():
        if spec.file_name.fullmatch(text):
            person, camera = spec.parse_name(text)
            assert type(person) is int and type(camera) is int  # noqa: PT018


@functools.cache
def _listed() -> tuple[specs.DatasetSpec, specs.ListFile]:
    spec = next(spec for spec in specs.known_datasets().values() if spec.split_lists)
    return spec, next(iter(spec.split_lists.values()))[0]


def _list(path: Path) -> None:
    spec, source = _listed()
    list(layouts._read_list(spec, path.parent, Split.TRAIN, specs.ListFile(path.name, source.images, 1)))


def _secret(content: bytes, _path: Path) -> None:
    """A URL with secrets in any of its places, between other text: none is left."""
    generator = random.Random(content)
    secret = "".join(generator.choices("abcXYZ0189+/-_", k=24))
    lone = secret.replace("/", "_")  # an address ends at its first slash, but for what follows a colon
    url = generator.choice(
        (f"s3://KEY:{secret}@host/bucket", f"https://{lone}@host/x", f"gs://b/x?token={secret}",
         f"https://h/a?x=1&X-Amz-Signature={secret}#f", f"az://u:{secret}@h:80/a b")
    )  # fmt: skip
    around = content.decode("utf-8", "replace").replace("://", " ")
    for told in (masked, printable):
        said = told(f"{around} {url}")
        assert secret not in said, url
        assert lone not in said, url


def _setting(text: str) -> None:
    key, value = parse_setting(text)
    load_config("dsa-reid-small", {key: value})


def _entries(path: Path) -> None:
    for name, entry in specs._load(path).items():
        specs._parse(path, name, entry)


def _marker(content: bytes, path: Path) -> None:
    """As it is, and with a checksum of its own, as a writer that knows no better gives it."""
    _sealed_anew(content, path)
    for version in (1, 2):
        try:
            read_marker(path, _GEOMETRY, version)
        except UserError:
            if version == 2:
                raise


def _sealed_anew(content: bytes, path: Path) -> None:
    try:
        parsed = json.loads(content)
        if isinstance(parsed, dict) and len(content) % 2:
            path.write_text(json.dumps(sealed(parsed)))
    except (ValueError, RecursionError):
        pass


def _json_file(read: Callable[[Path], object]) -> Check:
    def check(content: bytes, path: Path) -> None:
        _sealed_anew(content, path)
        read(path.parent)

    return check


def _geometry(text: str) -> None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(values, dict) and set(values) <= set(Geometry.__dataclass_fields__) and len(values) >= 4:
        geometry = Geometry(**values)
        assert geometry.num_shards >= 1


def _tensors(path: Path) -> None:
    values = load_tensor_file(path, what="checkpoint", remedy="")
    if isinstance(values, Mapping):
        check_tensors(path, values, what="checkpoint", remedy="")


def _restricted(content: bytes, path: Path) -> None:
    read_restricted(io.BytesIO(content), path, what="a checkpoint")


def _dump(path: Path) -> None:
    for entry in read_dump(path):
        for result in entry.results:
            try:
                iuv_of(result)
            except ValueError as error:
                raise UserError(str(error)) from error


def _iuv_map(path: Path) -> None:
    assert iuv._read_png(path).dtype == np.uint8


def _pattern(text: str) -> None:
    folders._match_all([f"{number:04d}_c{number % 6}.jpg" for number in range(20)], text)


def _plain_yaml(path: Path) -> None:
    values = read_yaml(path)
    assert all(type(value).__module__ in ("builtins", "datetime") for value in values.values())


_GEOMETRY = Geometry(40, 4, 2, dsap_size=8, shard_rows=32)


def _image_bytes(kind: str) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 25, (12, 6, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def _tensor_bytes() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        save_tensor_file(Path(folder) / "x", {"w": torch.ones(2, 3), "n": {"a": 1.5}, "t": "x"}, what="x", remedy="x")
        return (Path(folder) / "x").read_bytes()


def _dump_bytes() -> tuple[bytes, ...]:
    buffer = io.BytesIO()
    png = base64.b64encode(_image_bytes("PNG")).decode()
    entry = {"file_name": "a/1.jpg", "scores": torch.ones(1), "pred_boxes_XYXY": torch.ones(1, 4)}
    torch.save([{**entry, "pred_densepose": [((3, 12, 6), png)]}], buffer)
    plain = [{**entry, "scores": None, "pred_boxes_XYXY": None, "pred_densepose": []}]
    return buffer.getvalue(), pickle.dumps(plain, protocol=2)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


_MARKER = {
    "shard": 0, "rows": [0, 32], "crc32": {spec.name: 7 for spec in arrays_written("shard")}, "no_person": 1,
    "failures": [{"path": "a.jpg", "reason": "b"}], "taken_whole": 0,
}  # fmt: skip
_NAMES = (
    *(spec.example.rpartition("/")[2].encode() for spec in specs.known_datasets().values()),
    b"0002_c1s1_000451_03.jpg", b"-1_c1s1_000451_03.jpg", b"0000_c6s4_1.jpg.jpg",
)  # fmt: skip
_ARRAYS = {"weight": np.ones((2, 2), np.float32), "n": [1, 2.5, "x", None, (1,), b"x"], "big": 2**70}
_CATALOG = yaml.safe_dump(dict(list(yaml.safe_load(specs._OWN.read_text()).items())[:1])).encode()
_SETTINGS = (
    b"schedule.peak=4e-4",
    b"epochs=3",
    b"width=32",
    b"model.backbone=resnet50",
    b"magnifier.parts=1,2",
    b"compile=true",
)
_URLS = (
    b"s3://key:secret@host/bucket",
    b"https://user@host/a?token=x&b=1",
    b"file:///a/b",
    b"stores/x.zarr",
    b"gs://b/x#f",
)

TARGETS: dict[str, Target] = {
    "image names": Target(_text(_image_name), _NAMES, 150_000),
    "names": Target(_text(is_name), (b"market-256x128", b"..", b"a b"), 100_000),
    "list files": Target(
        _path(_list), (b"0001/0001_000_01_0303morning_0008_1.jpg 0\n0001/x.jpg 1\n",), 20_000, "list.txt"
    ),
    "boxes": Target(_path(iuv._read_boxes), (b"path,x0,y0\na/b.jpg,1,2\nc.jpg,3,4\n",), 30_000, "boxes.csv"),
    "patterns": Target(_text(_pattern), (rb"(?P<person>\d+)_c(?P<camera>\d+)", rb"(?P<split>[a-z]+)|.*"), 15_000),
    "sizes": Target(_text(parse_size), (b"256x128", b"64X32"), 100_000),
    "workers": Target(_text(parse_workers), (b"4", b"auto"), 80_000),
    "numbers": Target(_text(lambda text: parse_numbers("SEEDS", text)), (b"0,1,2",), 80_000),
    "edges": Target(_text(parse_edges), (b"128,192,256",), 80_000),
    "settings": Target(_text(_setting), _SETTINGS, 12_000),
    "setting words": Target(_text(parse_setting), _SETTINGS, 80_000),
    "places": Target(_text(parse_path), _URLS, 60_000),
    "masked text": Target(_text(masked), _URLS, 60_000),
    "printed text": Target(_text(printable), _URLS, 60_000),
    "secrets in URLs": Target(_secret, _URLS, 30_000),
    "YAML": Target(
        _path(_plain_yaml),
        (b"a: 1\nb: [1, 2]\nc: {d: x}\n", b"a: &x [1]\nb: *x\nc: !!python/name:os.system\n"),
        12_000,
        "x.yaml",
    ),
    "catalogs": Target(_path(_entries), (_CATALOG,), 3_000, "catalog.yaml"),
    "experiments": Target(_path(find_experiment), (b"base: dsa-reid-small\ntitle: x\nepochs: 3\n",), 4_000, "x.yaml"),
    "markers": Target(_marker, (_json(_MARKER), _json(sealed(_MARKER))), 30_000, "00000.json"),
    "manifests": Target(
        _json_file(damaged_files), (_json(sealed({"files": {"zarr.json": 1, "a/zarr.json": 2}})),), 10_000, MANIFEST
    ),
    "inputs": Target(
        _json_file(read_inputs), (_json(sealed({"root": "a", "iuv_root": "b", "stamps": ["1:2"]})),), 10_000, INPUTS
    ),
    "provenance": Target(_json_file(recorded_runs), (_json(sealed({"runs": [{"a": 1}]})), b"[]"), 10_000, PROVENANCE),
    "seals": Target(_text(lambda text: is_sealed({"a": text, "b": [text]})), (b"x",), 40_000),
    "geometries": Target(_text(_geometry), (_json(_GEOMETRY.to_dict()),), 40_000),
    "metrics": Target(
        _json_file(read_metrics), (b"step,epoch,name,value\n1,0.5,loss,2.5\n2,1,loss,2\n",), 15_000, METRICS_FILE
    ),
    "tensor files": Target(_path(_tensors), (_tensor_bytes(),), 5_000, "last.pt"),
    "pickles": Target(_restricted, (pickle.dumps(_ARRAYS, 2), pickle.dumps(_ARRAYS, 4), pickle.dumps([1], 0)), 10_000),
    "dumps": Target(_path(_dump), _dump_bytes(), 5_000, "dump.pkl"),
    "IUV maps": Target(_path(_iuv_map), (_image_bytes("PNG"),), 12_000, "a.png"),
    "images": Target(
        _path(read_image), tuple(map(_image_bytes, ("JPEG", "PNG", "BMP", "WEBP", "TIFF"))), 12_000, "a.jpg"
    ),
}
