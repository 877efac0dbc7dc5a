"""The options of a classifier's training. Imports no torch."""

from dataclasses import dataclass

from hemoct.base import cli
from hemoct.base.options import flag, part
from hemoct.training.options import (
    CONV,
    HEAD,
    HEAD_KINDS,
    LINEAR,
    Augmentation,
    Hardware,
    Initial,
    Labels,
    Selection,
    SharedTraining,
)


@dataclass(frozen=True, kw_only=True)
class Network:
    """What is trained, and on which label."""

    backbone: str = flag(
        "resnet18", "any timm model: resnet50, tf_efficientnet_lite0, vgg16_bn, densenet121, swin_tiny_patch4_window7_224 ..."
    )
    join: list[str] = flag([], "further backbones, trained together with the first: their features are joined", type=cli.names,
                           metavar="A,B", named="{}")  # fmt: skip
    units: list[int] = flag([], "widths of layers behind joined features, such as 6 or 128,64; default: none", type=cli.widths,
                            metavar="N,N", named="units{}")  # fmt: skip
    head: str = flag(LINEAR, HEAD, choices=HEAD_KINDS, named={CONV: "conv-head"})
    transfer: str = flag(
        "finetune", "what is trained: finetune all layers, partial: the upper half of the stages and the head, frozen: the head",
        choices=("finetune", "partial", "frozen"), named="{}",
    )  # fmt: skip
    image_size: int = flag(224, "side of the image in pixels", type=cli.positive_int, named="{}px")
    label: str | None = flag(None, "which of several labels; default: any of them, or all exclusive classes", named="{}")
    balance: str = flag("none", "weights: weigh the classes in the loss; sampler: draw the classes evenly",
                        choices=("none", "weights", "sampler"), named="balance-{}")  # fmt: skip


@dataclass(frozen=True)
class Options:
    """All options of a training."""

    initial: Initial = part("network")
    network: Network = part("network")
    training: SharedTraining = part("training", without=("ema",), batch_size={"type": cli.above_one})
    augmentation: Augmentation = part("augmentation")
    selection: Selection = part("data")
    labels: Labels = part("data")
    hardware: Hardware = part("device")
