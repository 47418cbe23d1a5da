"""Networks of timm in stages (ConvNeXt, EfficientNet, RegNet, Swin, ...): all but the last stage, and the last."""

from __future__ import annotations

from torch import Tensor, nn

from densereid.train.networks.trunks.resnet import Trunk


class StagesTrunk(Trunk):
    """A network's modules up to the last feature map but one, in order; its map may come with the channels last."""

    def __init__(self, stages: dict[str, nn.Module], *, channels_last: bool) -> None:
        nn.Module.__init__(self)
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.channels_last = channels_last

    def as_map(self, shared: Tensor) -> Tensor:
        """As the parent's; a Swin's (B, h, w, channels) turned."""
        return shared.permute(0, 3, 1, 2) if self.channels_last else shared


class LastStage(nn.Module):
    """The modules behind a :class:`StagesTrunk`, up to the network's last feature map."""

    def __init__(self, stages: dict[str, nn.Module], *, channels_last: bool) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(stages)
        self.channels_last = channels_last

    def forward(self, shared: Tensor) -> Tensor:
        """The last feature map (B, channels, h, w) of what the trunk gave."""
        for stage in self.stages.values():
            shared = stage(shared)
        return shared.permute(0, 3, 1, 2) if self.channels_last else shared


def split_stages(network: nn.Module) -> tuple[Trunk, nn.Module] | None:
    """A network of timm after its last feature map but one; None where it does not list its maps, or its modules
    are not simply one after the other."""
    infos = getattr(network, "feature_info", None)
    if not infos or len(infos) < 2:
        return None
    first, last = (str(info["module"]) for info in list(infos)[-2:])
    modules = _modules(network, nested="." in first + last)
    names = list(modules)
    if first not in names or last not in names:
        return None
    split, end = names.index(first) + 1, names.index(last) + 1
    channels_last = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")
    parts = ({name.replace(".", "_"): modules[name] for name in part} for part in (names[:split], names[split:end]))
    shared, deep = parts
    return StagesTrunk(shared, channels_last=channels_last), LastStage(deep, channels_last=channels_last)


def _modules(network: nn.Module, *, nested: bool) -> dict[str, nn.Module]:
    """The network's modules in the order of their use, as timm's FeatureListNet takes them; ``nested``: the members
    of its sequences."""
    modules: dict[str, nn.Module] = {}
    for name, module in network.named_children():
        if nested and isinstance(module, nn.Sequential):
            modules |= {f"{name}.{inner}": member for inner, member in module.named_children()}
        else:
            modules[name] = module
    return modules
