"""The options of a pre-training. Imports nothing that computes."""

from dataclasses import dataclass

from hemoct.base import cli
from hemoct.base.errors import UserError
from hemoct.base.options import flag, part
from hemoct.training.options import Augmentation, Hardware, Initial, Labels, Selection, Training

METHODS = ("autoencoder", "simclr", "vicreg", "supcon")
SUPERVISED = "supcon"
"""the method that reads labels"""


@dataclass(frozen=True, kw_only=True)
class Method:
    """What is learned from the images."""

    method: str = flag(
        "autoencoder", "autoencoder: restore images from noise and gaps; simclr, vicreg: two views of a slice are alike; "
        "supcon: so are all slices of a class (reads labels)", choices=METHODS,
    )  # fmt: skip
    backbone: str = flag("resnet18", "the encoder: any timm model that gives feature maps")
    image_size: int = flag(128, "side of the image in pixels", type=cli.positive_int, named="{}px")
    noise: float = flag(0.1, "autoencoder: standard deviation of the noise, of grey values in 0..1", type=cli.number_from_0,
                        named="noise{:g}")  # fmt: skip
    masked: float = flag(0.4, "autoencoder: share of the patches, an eighth of the side each, that are taken out",
                         type=cli.share, named="masked{:g}")  # fmt: skip
    temperature: float = flag(0.2, "simclr, supcon: how much the nearest others count", type=cli.positive_float,
                              named="temperature{:g}")  # fmt: skip
    label: str | None = flag(None, "supcon: which of several labels; default: any of them, or all exclusive classes", named="{}")


@dataclass(frozen=True)
class Options:
    """All options of a pre-training."""

    method: Method = part("method")
    initial: Initial = part("method", weights={"default": "none"})
    training: Training = part("training", without=("ema", "patience"), epochs=60, lr=1e-3,
                              batch_size={"default": 64, "type": cli.above_one})  # fmt: skip
    augmentation: Augmentation = part("augmentation", augment="strong")
    selection: Selection = part("data")
    labels: Labels = part("data", without=("least_steps",), labelled={
        "help": "supcon: share of the training patients whose labels are learned from; of one --seed those of a training"
    })  # fmt: skip
    hardware: Hardware = part("device")

    def __post_init__(self) -> None:
        if self.method.method != "autoencoder" and self.augmentation.augment == "none":
            raise UserError(f"--augment none: the two views of --method {self.method.method} would be one; take another")
        if self.method.method != SUPERVISED and self.labels.labelled != 1:
            raise UserError(f"--labelled goes with --method {SUPERVISED}: {self.method.method} reads no label")
