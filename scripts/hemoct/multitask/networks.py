"""One encoder with a head for each task. Trained, it parts into an ordinary classifier and segmentation network."""

from dataclasses import dataclass, fields

import torch
from torch import nn

from hemoct.base.errors import UserError
from hemoct.classification.predictions import ClassifierSpec
from hemoct.multitask.options import CLASSIFY, SEGMENT, SIZE
from hemoct.segmentation import networks as segmentation_networks
from hemoct.segmentation.predictions import SegmenterSpec
from hemoct.training import networks
from hemoct.training.options import SCRATCH, Initial
from hemoct.training.specs import Spec

MAPS = 5  # of an encoder that halves its image as often
FASTER = 10  # an optimizer that scales its steps moves all weights alike; these few have far to go in few steps
DECODER = ("decoder.", "segmentation_head.")
"""how the names of weights begin that a segmentation network has beside its encoder"""


@dataclass(frozen=True, kw_only=True)
class MultiTaskSpec(Spec):
    """model.json of a network of several tasks: what it is, and what it parts into."""

    TASK = "multitask"

    tasks: list[str]
    loss_weights: str | list[float]
    backbone: str
    model: str
    loss: str
    classes: list[str]
    exclusive: bool
    label: str | None
    mirror: str
    mask_value: int | None
    size_scale: float
    """what the size head gives is the root of the lesion's share of the square, divided by this"""

    @property
    def classifier(self) -> ClassifierSpec:
        return ClassifierSpec(
            **self._shared, backbone=self.backbone, classes=self.classes, exclusive=self.exclusive, label=self.label
        )

    @property
    def segmenter(self) -> SegmenterSpec:
        return SegmenterSpec(
            **self._shared, model=self.model, encoder=f"tu-{self.backbone}", context=0, source_size=self.image_size,
            region="slice", mirror=self.mirror, mask_value=self.mask_value,
        )  # fmt: skip

    @property
    def _shared(self) -> dict:
        return {one.name: getattr(self, one.name) for one in fields(Spec)}


class MultiTask(nn.Module):
    """A network of timm whose feature maps a decoder reads too: (b, 1, size, size) to the outputs of the tasks, by name.

    classify: logits (b, classes); segment: logits (b, 1, size, size); size: (b,), see MultiTaskSpec.size_scale.
    """

    def __init__(self, body: nn.Module, segmenter: nn.Module | None, tasks: list[str]) -> None:
        """`body` gives logits, or features where no task classifies. `segmenter`: a network with the same encoder, or None."""
        super().__init__()
        self.body, self.tasks = body, tasks
        if segmenter is not None:
            self.encoder_names = list(segmenter.encoder.state_dict())
            self.decoder, self.segmentation_head = segmenter.decoder, segmenter.segmentation_head
        if SIZE in tasks:
            self.size = nn.Linear(body.head_hidden_size, 1)
        self.uncertainty = nn.Parameter(torch.zeros(len(tasks)))

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        outputs = {}
        if self.tasks == [SEGMENT]:  # what only the classifier needs is left out
            maps = self.body.forward_intermediates(images, intermediates_only=True)
        else:
            features, maps = self.body.forward_intermediates(images)
        if SEGMENT in self.tasks:
            outputs[SEGMENT] = self.segmentation_head(self.decoder([images, *maps]))
        if CLASSIFY in self.tasks:
            outputs[CLASSIFY] = self.body.forward_head(features)
        if SIZE in self.tasks:
            outputs[SIZE] = self.size(self.body.forward_head(features, pre_logits=True))[:, 0]
        return outputs

    @property
    def log_variances(self) -> torch.Tensor:
        """Of the tasks, for a loss that is weighted by uncertainty: (tasks,). They have FASTER times the learning rate."""
        return FASTER * self.uncertainty

    def segmenter_state(self) -> dict[str, torch.Tensor]:
        """The state_dict of the segmentation network in it."""
        body = self.body.state_dict()
        encoder = {f"encoder.{name}": body[name.removeprefix("model.")] for name in self.encoder_names}
        return encoder | {name: value for name, value in self.state_dict().items() if name.startswith(DECODER)}


def build(spec: MultiTaskSpec, initial: Initial = SCRATCH) -> MultiTask:
    """A network of several tasks. Stops at a backbone that the library of decoders takes apart in another way."""
    classes = len(spec.classes) if CLASSIFY in spec.tasks else 0
    body, _ = networks.build_backbone(spec.backbone, spec.image_size, 1, classes, initial)
    segmenter = _segmenter(spec, body) if SEGMENT in spec.tasks else None
    if not hasattr(body, "forward_intermediates") or not hasattr(body, "head_hidden_size"):
        raise _unfit(spec)
    return MultiTask(body, segmenter, spec.tasks)


def _segmenter(spec: MultiTaskSpec, body: nn.Module) -> nn.Module:
    try:
        segmenter = segmentation_networks.build(spec.segmenter)
    except UserError as error:
        raise (error if "--image-size" in str(error) else _unfit(spec)) from None
    own = {name: value.shape for name, value in body.state_dict().items()}
    encoder = {name.removeprefix("model."): value.shape for name, value in segmenter.encoder.state_dict().items()}
    if any(own.get(name) != shape for name, shape in encoder.items()) or len(segmenter.encoder.out_channels) != MAPS + 1:
        raise _unfit(spec)
    return segmenter


def _unfit(spec: MultiTaskSpec) -> UserError:
    return UserError(
        f"--backbone {spec.backbone} cannot be shared by a classifier and the decoder of masks; take a ResNet, EfficientNet, "
        "MobileNet or RegNet of timm"
    )
