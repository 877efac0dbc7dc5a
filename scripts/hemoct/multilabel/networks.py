"""Networks with one logit for each label of an image, and what rebuilds and feeds them."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from timm.models import register_model
from torch import nn

from hemoct.base.errors import UserError
from hemoct.base.label_meaning import ANY
from hemoct.multilabel.options import SIMPLE
from hemoct.multilabel.predictions import MultiLabelSpec
from hemoct.training import checkpoints, heads, networks
from hemoct.training.device import to_predict
from hemoct.training.options import LINEAR, SCRATCH, Initial


class SimpleCnn(nn.Sequential):
    """The small network of published scripts: two convolutions (16, 32 channels), each halved, and a linear layer; (b, 128).

    With its head there are two linear layers.
    """

    num_features, pretrained_cfg = 32, None  # of its maps; as timm calls them

    def __init__(self, planes: int, image_size: int) -> None:
        side = max(1, image_size // 4)  # below 4 px nothing is left when halved twice: building it tells
        maps = nn.Sequential(
            *(nn.Conv2d(planes, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        )
        flat = nn.Sequential(nn.Flatten(), nn.Linear(32 * side**2, 128), nn.ReLU())
        super().__init__(OrderedDict(maps=maps, flat=flat))

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.maps(images)


default_cfgs = {SIMPLE: {"fixed_input_size": True}}
"""what timm's registry reads of a module: this network has to be told its size"""


@register_model
def simplecnn(pretrained: bool = False, in_chans: int = 1, img_size: int = 224, **options: Any) -> SimpleCnn:
    """The small network, for timm to make like any other."""
    if pretrained:
        raise RuntimeError("there are none")
    return SimpleCnn(in_chans, img_size)


class Attentive(nn.Module):
    """Each label looks where it wants: logits at each place of the feature map, weighted by a softmax over the places.

    As the class-specific attention of Zhu and Wu 2021, without its residual mean. A small bleeding is not averaged away.
    """

    def __init__(self, body: nn.Module, features: int, classes: int) -> None:
        super().__init__()
        self.body = body
        self.where, self.head = nn.Linear(features, classes), nn.Linear(features, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        places = as_places(self.body.forward_features(images), self.head.in_features)
        return (self.where(places).softmax(dim=1) * self.head(places)).sum(dim=1)


class TwoHeads(nn.Module):
    """Logits of `any`, from a small head of its own, and of the types, side by side: (b, 1 + types)."""

    def __init__(self, features: int, types: int) -> None:
        super().__init__()
        hidden = max(8, features // 4)
        self.any = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.types = nn.Linear(features, types)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.any(features), self.types(features)], dim=1)


class Heads(nn.ModuleList):
    """The logits of several heads, side by side."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return torch.cat([head(features) for head in self], dim=1)


def as_places(maps: torch.Tensor, features: int) -> torch.Tensor:
    """Feature maps (b, features, h, w), (b, h, w, features) or tokens (b, n, features), as (b, places, features).

    The class token of a transformer is one of its places. Raises RuntimeError where no axis holds the features.
    """
    if maps.dim() == 4 and maps.shape[1] == features:
        maps = maps.permute(0, 2, 3, 1)
    if maps.shape[-1] != features:
        raise RuntimeError(f"maps {tuple(maps.shape)} without {features} features")
    return maps.flatten(1, -2)


def build(spec: MultiLabelSpec, initial: Initial = SCRATCH) -> nn.Module:
    """A network that turns images (b, spec.planes, size, size) into logits (b, labels). `initial`: see training.networks.

    With a head for each view their logits stand side by side.
    Raises UserError where a backbone is unknown, cannot work at the size, or its weights cannot be had.
    """
    body, features = networks.build_backbone(spec.backbone, spec.image_size, spec.planes, 0, initial)
    labels = len(spec.classes)
    if spec.attention or spec.head != LINEAR:  # it gives each label, hence `any` too, a head of its own
        return _with_places(body, spec)
    if ANY in spec.heads:
        head = TwoHeads(features, labels - 1) if not spec.views else Heads([TwoHeads(features, labels - 1) for _ in spec.views])
    else:
        head = nn.Linear(features, labels * spec.parts)
    return nn.Sequential(OrderedDict(body=body, head=head))


def _with_places(body: nn.Module, spec: MultiLabelSpec) -> nn.Module:
    """A body with a head that looks at the places of its maps."""
    if isinstance(body, SimpleCnn):
        body.flat = nn.Identity()  # the maps are looked at before they are made flat
    labels, flag = len(spec.classes) * spec.parts, "--attention" if spec.attention else f"--head {spec.head}"
    model = Attentive(body, body.num_features, labels) if spec.attention else heads.ClassMaps(body, labels)
    return heads.stop_if_without_maps(model, (spec.planes, spec.image_size), spec.backbone, flag)


def load(folder: Path, device: torch.device, of_views: bool = False) -> tuple[nn.Module, MultiLabelSpec]:
    """Rebuild the network of a fold folder from model.json and best.pt, in evaluation mode on the device.

    Stops at one that has a head for each view, unless that is what is wanted: `of_views`, see hemoct.multilabel.views.
    """
    spec = MultiLabelSpec.read(folder)
    if spec.views and not of_views:
        raise UserError(
            f"{folder} has a head for each view ({', '.join(spec.views)}); name an experiment of one view (02_train.py --group), "
            "or predict with task4_multilabel/05_predict.py"
        )
    return to_predict(checkpoints.load_trained(build(spec), folder), device, spec.image_size), spec
