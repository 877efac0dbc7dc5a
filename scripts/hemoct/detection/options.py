"""The options of a detector's training, and of the regions of a gate. Imports no torch."""

from dataclasses import dataclass

from hemoct.base import cli
from hemoct.base.errors import UserError
from hemoct.base.options import flag, part
from hemoct.prepare.options import stop_if_moving
from hemoct.training.options import Augmentation, Hardware, Initial, Selection, Training

FAMILIES = ("fasterrcnn_", "retinanet_", "fcos_", "ssd")
"""how the names of torchvision's detectors begin"""
TORCHVISION = ("fasterrcnn_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_fpn", "retinanet_resnet50_fpn")
AUGMENTATIONS = ("none", "ct", "ct-mosaic", "ultralytics")


@dataclass(frozen=True, kw_only=True)
class Network:
    """What is trained."""

    model: str = flag(
        "yolov8n", "any detector of Ultralytics (yolov8n, yolo11n ...), or torchvision's fasterrcnn_resnet50_fpn, "
        "fasterrcnn_mobilenet_v3_large_fpn, retinanet_resnet50_fpn",
    )  # fmt: skip
    backbone: str | None = flag(
        None, "network of timm in the place of the ResNet or MobileNet of a torchvision detector: tf_efficientnet_lite0 ...",
        named="{}",
    )  # fmt: skip
    image_size: int = flag(512, "side of the image in pixels; YOLO: a multiple of 32", type=cli.positive_int, named="{}px")


def all_or_ratio(text: str) -> str | float:
    """A type for argparse: `all`, or a number from 0 up."""
    return text if text == "all" else cli.number_from_0(text)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Which training slices are learned from."""

    negatives: str | float = flag(
        "all", "training slices without a box: all, or RATIO for each slice with one", type=all_or_ratio, metavar="all|RATIO",
        named="negatives{}",
    )  # fmt: skip

    @property
    def ratio(self) -> float | None:
        """Slices without a box for each slice with one; None: all."""
        return None if self.negatives == "all" else self.negatives


@dataclass(frozen=True)
class Options:
    """All options of a training."""

    initial: Initial = part("network", weights={
        "default": "coco", "help": "coco, imagenet (of the --backbone), none (from scratch), or a file",
    })  # fmt: skip
    network: Network = part("network")
    training: Training = part("training", without=("ema",), epochs=88, batch_size=4, lr={
        "default": None, "help": "highest learning rate; default: that of the model",
    })  # fmt: skip
    sampling: Sampling = part("data")
    augmentation: Augmentation = part("augmentation", augment={"default": "ct", "choices": AUGMENTATIONS})
    selection: Selection = part("data")
    hardware: Hardware = part("device")

    def stop_if_unfit(self) -> None:
        """Stop at a combination of flags that no detector serves, or not this one."""
        model, backbone, initial = self.network.model, self.network.backbone, self.initial.weights
        others = " or ".join(TORCHVISION)
        if backbone and not model.startswith(FAMILIES):
            raise UserError(f"--backbone {backbone} goes with a detector of torchvision; choose --model {others}")
        if (initial == "imagenet") != bool(backbone) and initial in ("imagenet", "coco"):
            fits = "imagenet, none or a file" if backbone else "coco, none or a file; or name a --backbone of timm"
            raise UserError(f"--weights {initial} are not those of {model}{f' on {backbone}' if backbone else ''}; take {fits}")
        if names := self.selection.prepare:
            stop_if_moving(names, "boxes of task 2 would not follow")
            if not model.startswith(FAMILIES):
                raise UserError(f"--prepare {','.join(names)}: {model} reads the files as they are; choose --model {others}")


@dataclass(frozen=True, kw_only=True)
class Region:
    """What a gate cuts out around the best box of a slice."""

    margin: float = flag(0.25, "added on each side of a box, as a share of its longer side", type=cli.number_from_0)
    least_side: int = flag(64, "smallest side of a region, in pixels of the image", type=cli.positive_int)
