"""The options of a training of several tasks in one network. Imports no torch."""

import argparse
from dataclasses import dataclass

from hemoct.base import cli
from hemoct.base.errors import UserError
from hemoct.base.options import flag, part
from hemoct.segmentation.options import LOSSES, STRENGTHS, Selection
from hemoct.training.options import Augmentation, Hardware, Initial, Training

CLASSIFY, SEGMENT, SIZE = TASKS = ("classify", "segment", "size")
PARTS = {CLASSIFY: 1, SEGMENT: 3}
"""the task whose steps evaluate what the network says; its size head is evaluated here"""
SCORES = {CLASSIFY: "val_auroc", SEGMENT: "val_dice", SIZE: "val_rank_correlation"}
"""what validation measures of each task"""
ARCHITECTURES = ("unet", "unetplusplus", "fpn", "linknet", "manet")
"""those of segmentation_models_pytorch that take an encoder as it is"""
UNCERTAINTY = "uncertainty"


def tasks(text: str) -> list[str]:
    """A type for argparse: some of TASKS, `classify,segment`."""
    words = cli.names(text)
    if unknown := [word for word in words if word not in TASKS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(TASKS)}")
    return words


def loss_weights(text: str) -> str | list[float]:
    """A type for argparse: `uncertainty`, or numbers above 0 separated by commas."""
    return text if text == UNCERTAINTY else [cli.positive_float(word) for word in text.split(",")]


@dataclass(frozen=True, kw_only=True)
class Network:
    """What one network learns, and what it is made of."""

    tasks: list[str] = flag(
        [CLASSIFY, SEGMENT], "classify: the label of a slice; segment: its mask; size: the area of its mask, by its own head; "
        "one alone is the single-task network to compare with", type=tasks, metavar="A,B",
    )  # fmt: skip
    loss_weights: str | list[float] = flag(
        [], "a number for the loss of each task in their order (1,0.5), or uncertainty: learned along (Kendall et al. 2018); "
        "default: 1 each", type=loss_weights, metavar="LIST|uncertainty", named="weights-{}",
    )  # fmt: skip
    backbone: str = flag("tf_efficientnet_lite0", "the encoder of all tasks: a ResNet, EfficientNet, MobileNet or RegNet of timm")
    model: str = flag("unet", "architecture of segmentation_models_pytorch for the mask", choices=ARCHITECTURES, named="{}")
    image_size: int = flag(256, "side of the slice in pixels, a multiple of 32", type=cli.positive_int, named="{}px")
    label: str | None = flag(None, "which of several labels; default: any of them, or all exclusive classes", named="{}")
    loss: str = flag("bce-dice", "loss function of the mask", choices=LOSSES, named="{}")

    def __post_init__(self) -> None:
        if self.loss_weights and len(self.tasks) < 2:
            raise UserError(f"--loss-weights weighs several tasks, and --tasks names {self.tasks[0]} alone; leave it out")
        if isinstance(self.loss_weights, list) and len(self.loss_weights) not in (0, len(self.tasks)):
            raise UserError(
                f"--loss-weights has {len(self.loss_weights)} number(s) where {', '.join(self.tasks)} need one each; correct it"
            )


@dataclass(frozen=True)
class Options:
    """All options of a training."""

    network: Network = part("network")
    initial: Initial = part("network")
    training: Training = part("training", batch_size={"default": 16, "type": cli.above_one}, lr=1e-3)
    augmentation: Augmentation = part("augmentation", augment={"default": "affine", "choices": tuple(STRENGTHS)})
    selection: Selection = part("data", without=("validation",))
    hardware: Hardware = part("device")
