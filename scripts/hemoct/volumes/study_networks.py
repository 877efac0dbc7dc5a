"""Networks that tell classes of studies apart: of a volume, or of slices whose features are pooled; built and rebuilt."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hemoct.training import checkpoints, device as devices, networks as training_networks
from hemoct.training.options import SCRATCH, Initial
from hemoct.training.specs import Spec
from hemoct.volumes import networks3d
from hemoct.volumes.features import Cells
from hemoct.volumes.networks import Gru
from hemoct.volumes.study_options import VOLUMES


@dataclass(frozen=True, kw_only=True)
class StudySpec(Spec):
    """model.json of a network of studies: all that rebuilds and feeds it."""

    TASK = 1

    classes: list[str]
    exclusive: bool
    label: str
    """folder in data/work/NAME/studies"""
    network: str
    """one of study_options.VOLUMES or POOLED"""
    depth: int
    sampling: str
    slice_mm: float | None
    hidden: int
    dropout: float
    transfer: str
    backbone: str | None
    """the network that sees slices; None: a 3D one sees the volume"""
    cells: int
    width: int
    """number of features of a slice; 0 of a 3D network"""
    made_by: str
    """the step"""
    made_of: list[dict[str, Any]]
    """the experiment whose model of the same fold makes the features, see networks.HeadSpec"""


class Volume(nn.Module):
    """A 3D network as the others are called: (b, depth, side, side) and (b, depth) to logits (b, classes)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, seen: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        return self.network(seen[:, None])


class Mean(nn.Module):
    """Every slice counts alike."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.width = hidden

    def forward(self, hidden: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return hidden, inside / inside.sum(dim=1, keepdim=True)


class Attention(nn.Module):
    """Gated attention (Ilse, Tomczak and Welling 2018): how much each slice counts follows from its features."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.width = hidden
        self.content, self.gate, self.weight = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 1)

    def forward(self, hidden: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weight = self.weight(self.content(hidden).tanh() * self.gate(hidden).sigmoid())[:, :, 0]
        return hidden, weight.float().masked_fill(~inside, -torch.inf).softmax(dim=1)


class GruAttention(nn.Module):
    """Each slice with what a gated recurrent unit makes of those before and behind it, pooled by gated attention."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.width = 3 * hidden
        self.along, self.pool = Gru(hidden, 0.0, 1), Attention(self.width)
        del self.along.out

    def forward(self, hidden: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.pool(self.along.states(hidden, inside), inside)


POOLS = {"mean": Mean, "attention": Attention, "gru": GruAttention}


class Pooled(nn.Module):
    """Slices to the logits of their study: (b, depth, width or side, side) and `inside` (b, depth) to (b, classes).

    The last layer is linear, so that the logits of a study are the mean of those of its slices, weighed by the attention:
    `of_slices` gives both.
    """

    def __init__(self, spec: StudySpec, body: nn.Module | None = None) -> None:
        """`body`: makes the features of a slice; None where they are what is seen."""
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.zeros(spec.width))
        self.register_buffer("std", torch.ones(spec.width))
        self.enter = nn.Sequential(nn.Dropout(spec.dropout), nn.Linear(spec.width, spec.hidden), nn.GELU())
        self.pool = POOLS[spec.network](spec.hidden)
        self.out = nn.Sequential(nn.Dropout(spec.dropout), nn.Linear(self.pool.width, len(spec.classes)))

    def forward(self, seen: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        hidden, weight = self._pooled(seen, inside)
        return self.out((hidden * weight[:, :, None]).sum(dim=1))

    def of_slices(self, seen: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of each slice by itself (b, depth, classes), and its attention (b, depth), whose sum in a study is 1."""
        hidden, weight = self._pooled(seen, inside)
        return self.out(hidden), weight

    def _pooled(self, seen: torch.Tensor, inside: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.body is not None:
            own = self.body(seen[inside][:, None])  # no padding is looked at: it would change the statistics of the layers
            seen = own.new_zeros(*inside.shape, own.shape[1]).index_put((inside,), own)
        with torch.autocast(seen.device.type, enabled=False):  # a recurrent unit knows float16 alone, and all of it is small
            return self.pool(self.enter((seen.float() - self.mean) / self.std), inside)


def build(spec: StudySpec, initial: Initial = SCRATCH) -> nn.Module:
    """The network that a spec describes, on the CPU, with the weights that it starts from."""
    if spec.network in VOLUMES:
        network = networks3d.build(spec.network, len(spec.classes), spec.dropout)
        networks3d.stop_if_too_small(network, spec.network, (spec.depth, spec.image_size, spec.image_size))
        networks3d.load(network, spec.network, initial)
        return Volume(network)
    if spec.transfer == "frozen":
        return Pooled(spec)
    return Pooled(spec, Cells(training_networks.build_backbone(spec.backbone, spec.image_size, 1, 0, initial)[0], spec.cells))


def place(network: nn.Module, device: torch.device, spec: StudySpec) -> nn.Module:
    """The network on the device; what sees slices in the memory format that is fastest there."""
    if getattr(network, "body", None) is not None:
        devices.place(network.body, device, spec.image_size)
    return network.to(device)


def load(folder: Path, device: torch.device) -> tuple[nn.Module, StudySpec]:
    """Rebuild the model of a fold's folder, in evaluation mode on the device."""
    spec = StudySpec.read(folder)
    return place(checkpoints.load_trained(build(spec), folder), device, spec).eval(), spec
