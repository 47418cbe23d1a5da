"""What a config means, how many parameters its network has, and how much arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from densereid.train.config.experiment import with_bases
from densereid.train.config.train_config import (
    TrainConfig,
    config_diff,
    describe_settings,
    load_config,
    setting_values,
)
from densereid.train.engine.checkpoint import checkpoint_sizes
from densereid.train.families import as_reid, build_empty_network, inference_feature


@dataclass(frozen=True)
class SettingRow:
    """One setting of a config."""

    key: str
    value: object
    is_changed: bool
    """Whether it differs from the default."""
    help: str


def settings_table(config: TrainConfig) -> tuple[SettingRow, ...]:
    """Every setting with its value and its help, in the order of the config."""
    values, changed = setting_values(config), config_diff(config, TrainConfig())
    return tuple(SettingRow(key, values[key], key in changed, text) for key, _, text in describe_settings())


def settings_by_dataset(model: str) -> dict[str, dict[str, object]]:
    """What differs from the experiment's own settings on each dataset it was tuned for; empty for most experiments."""
    plain, differences = load_config(model), {}
    for dataset in sorted({dataset for experiment in with_bases(model) for dataset in experiment.datasets}):
        tuned = load_config(model, dataset=dataset)
        differences[dataset] = {key: setting_values(tuned)[key] for key in config_diff(plain, tuned)}
        del differences[dataset]["tuned_for"]
    return differences


def parameter_table(config: TrainConfig, num_identities: int) -> tuple[tuple[str, int], ...]:
    """Parameters of the network's modules, two levels deep, then of the whole and of what inference keeps.

    The network is built without memory or arithmetic, so the paper's takes no longer than the small one.
    """
    with torch.device("meta"):
        network = build_empty_network(config, num_identities)
    rows = []
    for name, module in network.named_children():
        rows.append((name, _count(module)))
        rows += [(f"  {name}.{child}", _count(part)) for child, part in module.named_children()]
    kept = _count(as_reid(network).inference_network(inference_feature(config)))
    counted = [(name, number) for name, number in rows if number]
    return (*counted, ("in training", _count(network)), ("in inference", kept))


def multiply_adds(config: TrainConfig) -> dict[str, int]:
    """Multiplications, each with its addition, of the convolutions and matrix products that embed one image: by the
    module names of :func:`parameter_table`, where a module is part of inference, and in the whole as ``in inference``.

    Counted without arithmetic, as torch counts them: what works on single values (norms, activations) is not in it.
    """
    with torch.device("meta"):
        network = as_reid(build_empty_network(config, 1)).inference_network(inference_feature(config))
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            network(torch.empty(1, 3, config.height, config.width))
    found: dict[str, int] = {}
    for path, operations in counter.get_flop_counts().items():
        _, *modules = path.split(".")
        name = {0: "in inference", 1: ".".join(modules), 2: f"  {'.'.join(modules)}"}.get(len(modules))
        if name is not None and path != _EVERYTHING:
            found[name] = sum(operations.values()) // 2
    return found


_EVERYTHING = "Global"
"""What torch's counter calls all that ran, beside the network that ran."""


def disk_sizes(config: TrainConfig, num_identities: int) -> tuple[int, int]:
    """About the bytes of ``last.pt`` and ``best.pt`` of a run."""
    with torch.device("meta"):
        return checkpoint_sizes(build_empty_network(config, num_identities))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
