"""The arithmetic of a network: torch's types, and what a processor is good for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import torch

from densereid.data_catalog.errors import UserError

Precision = Literal["fp32", "fp16", "bf16"]

AskedPrecision = Literal["auto"] | Precision
"""What a user may ask for; :func:`resolve_precision` says what ``auto`` means."""


def resolve_precision(asked: AskedPrecision, estimator: str, device: str) -> Precision:
    """What ``auto`` means: bf16 for the embedded network on a CPU with instructions for it, else fp32.

    That network's weights were scored in bf16 (docs/embedded.md); on other weights it was not measured.
    """
    if asked != "auto":
        return asked
    on_cpu = torch.device(device).type == "cpu"
    return "bf16" if estimator == "embedded" and on_cpu and processor_has_bf16() else "fp32"


def type_of(precision: Precision) -> torch.dtype:
    """torch's type of a network's arithmetic."""
    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


def check_precision(device: str, precision: Precision) -> None:
    """Raise UserError for fp16 on a CPU, where it is slower than fp32."""
    if torch.device(device).type == "cpu" and precision == "fp16":
        raise UserError(
            "PRECISION=fp16 was asked for on a CPU, where it is several times slower than fp32 and overflows",
            "use PRECISION=bf16, which this processor has instructions for, or fp32"
            if processor_has_bf16()
            else "use PRECISION=fp32; this processor has no instructions for bf16 either",
        )


def tell_precision(device: str, precision: Precision, notify: Callable[[str], None]) -> None:
    """Say what else the processor could do, once a network is ready to use it."""
    if torch.device(device).type != "cpu":
        return
    has_bf16 = processor_has_bf16()
    if precision == "bf16" and not has_bf16:
        notify("this processor has no instructions for bf16: PRECISION=fp32 is likely to be faster")
    if precision == "fp32" and has_bf16:
        notify("this processor has instructions for bf16: PRECISION=bf16 is up to twice as fast (docs/estimators.md)")


def processor_has_bf16() -> bool:
    """Whether torch sees instructions for bf16 on this machine's CPU; False where this torch cannot tell."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(name.endswith("bf16") and bool(there) for name, there in capabilities.items())


def check_finite(tensors: Iterable[torch.Tensor], what: str) -> None:
    """Raise FloatingPointError of the word ``what`` where any of ``tensors``, so called, holds NaN or infinity."""
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise FloatingPointError(what)
