"""Time, memory and arithmetic on a device whose work goes on while the host does something else."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from bench.gpu import forget_peak_memory
from densereid.train.engine.memory import peak_memory

_WARM_UP = 3
_ROUNDS = 3

BF16_PEAKS = {
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100 NVL": 835e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
}
"""Dense bf16 operations a second by what a GPU's name contains, the longer name first.

Source: NVIDIA's data sheets of these GPUs; where they state the rate with sparsity (H100, H200, L40S, L4), half of it.
"""


def bf16_peak(name: str) -> float | None:
    """What the data sheet of the GPU with that name says, None where none is known."""
    words = name.replace("-", " ").split()
    for known, peak in BF16_PEAKS.items():
        if all(word in words for word in known.split()):
            return peak
    return None


def wait(device: str) -> None:
    """Until the device has done what it was told."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def forget(device: str) -> None:
    """Free what nothing holds any more, and count the peak of memory from here."""
    gc.collect()
    forget_peak_memory(device)


def gigabytes(device: str) -> str:
    """The peak of memory since :func:`forget`; on a CPU the process's since it began."""
    return f"{peak_memory(torch.device(device)) / 1e9:.2f}"


def seconds_each(action: Callable[[], object], device: str, least: float) -> float:
    """Seconds of a call, the median of three rounds of calls that last ``least`` seconds together.

    Calls of a round follow one another without waiting for the device, as in use. Three that come before do not count.
    Where ``least`` is 0, for rehearsals, a single call is timed, after one.
    """
    for _ in range(_WARM_UP if least else 1):
        action()
    if not least:
        return _timed(action, device, 1)
    calls = max(1, round(least / _ROUNDS / _timed(action, device, 1)))
    return statistics.median(_timed(action, device, calls) for _ in range(_ROUNDS))


def _timed(action: Callable[[], object], device: str, calls: int) -> float:
    wait(device)
    began = time.perf_counter()
    for _ in range(calls):
        action()
    wait(device)
    return (time.perf_counter() - began) / calls


def operations(action: Callable[[], object]) -> float:
    """Floating point operations of a call: two for each multiplication and addition in products and convolutions."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _backward}) as counter:
        action()
    return float(counter.get_total_flops())


def _backward(
    grad: list[int], inputs: list[int], weight: list[int], _bias: object, _stride: object, _padding: object,
    _dilation: object, transposed: bool, _output_padding: object, _groups: int, mask: list[bool], **_: object,
) -> float:  # fmt: skip
    """Of a convolution's gradients: each takes as many operations as the convolution itself.

    torch's own formula counts a grouped convolution's gradient of the weights as if it had no groups (2.14).
    """
    return conv_flop_count(inputs, weight, grad, transposed=transposed) * sum(mask[:2])
