"""What the run stands on: hardware, driver, versions, commit, settings; and the machine's two ceilings, measured."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from bench import report
from bench.gpu_questions.answers import Answer, read_answer
from bench.gpu_questions.context import Context
from bench.gpu_questions.questions.timing import bf16_peak, seconds_each

_PACKAGES = ("torch", "torchvision", "timm", "lightning-fabric", "triton", "numpy", "numba", "zarr", "tensorstore")
_COPIED = 2**30
"""Bytes of the copy on a GPU: twenty times its cache."""


def answer(context: Context, answer: Answer) -> None:
    """Facts first, then the two figures."""
    answer.fact("processor", report.processor())
    answer.fact("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB")
    answer.fact("commit", context.commit or report.commit() or "unknown")
    answer.fact("versions", ", ".join([f"Python {platform.python_version()}", *_versions()]))
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    answer.fact("TF32 in fp32", f"matrix products {_on(matmul)}, convolutions {_on(cudnn)} (torch's own settings)")
    if context.is_gpu:
        _gpu_facts(context, answer)
    answer.attempt("the ceilings", _ceilings, context, answer)


def _versions() -> list[str]:
    found = []
    for name in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{name} {version(name)}")
    return found


def _on(flag: bool) -> str:
    return "on" if flag else "off"


def _gpu_facts(context: Context, answer: Answer) -> None:
    found = torch.cuda.get_device_properties(context.device)
    answer.fact("GPU", f"{found.name}, {found.total_memory / 2**30:.0f} GiB, {found.multi_processor_count} SMs")
    answer.fact("driver", _driver())
    answer.fact("CUDA", f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")
    peak = bf16_peak(found.name)
    if peak is None:
        answer.note(f"No data sheet's bf16 rate is known for {found.name}; shares are of the product measured here.")
    else:
        answer.figure("machine.bf16_peak", peak, "operations/s")
        answer.fact("bf16 peak", f"{peak / 1e12:.0f} TFLOP/s, dense, by NVIDIA's data sheet of this GPU")


def _driver() -> str:
    """The driver's version, from its tool or from the kernel."""
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
        with suppress(subprocess.SubprocessError, OSError):
            return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    kernel = Path("/proc/driver/nvidia/version")
    return kernel.read_text().splitlines()[0] if kernel.is_file() else "unknown: nvidia-smi is missing"


def _ceilings(context: Context, answer: Answer) -> None:
    """A large bf16 matrix product and a large copy, of random numbers: zeros would be multiplied faster."""
    add = answer.table("What the machine can do", ("what", "rate"))
    edge, device, least = context.scale.matrix, context.device, context.scale.least_seconds
    left, right = (torch.randn(edge, edge, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = 2 * edge**3 / seconds_each(lambda: left @ right, device, least)
    answer.figure("machine.bf16_product", product, "operations/s")
    add(f"bf16 matrix product, {edge}x{edge}", f"{product / 1e12:.3g} TFLOP/s")
    source = torch.randint(0, 256, (_COPIED if context.is_gpu else 2**22,), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = 2 * source.nbytes / seconds_each(lambda: target.copy_(source), device, least)
    answer.figure("machine.copy", copied, "bytes/s")
    add("copy in the device's memory, bytes read and written", f"{copied / 1e9:.0f} GB/s")


def bf16_rate(context: Context) -> tuple[float, str] | None:
    """The rate that counts as a whole, and where it comes from: the data sheet's, else the product measured."""
    figures = read_answer(context.steps, "machine")["figures"]
    for name, source in (("machine.bf16_peak", "data sheet"), ("machine.bf16_product", "product measured here")):
        if name in figures:
            return float(figures[name][0]), source
    return None


def share_of_peak(context: Context, rate: float) -> str:
    """``rate`` operations a second as a share of bf16's, empty where that is not known."""
    whole = bf16_rate(context)
    return "" if whole is None else f"{rate / whole[0]:.1%}"
