"""The options of a 3D segmentation network's training. Imports no torch."""

from dataclasses import dataclass

from hemoct.base import cli
from hemoct.base.errors import UserError
from hemoct.base.options import flag, part
from hemoct.segmentation.options import LOSSES, STRENGTHS, Selection
from hemoct.training.options import Augmentation, Hardware, Initial, Training

MODELS = ("segresnet", "unet", "dynunet")
"""networks of MONAI"""
MULTIPLE = 8
"""a network halves the sides of a patch so often that they have to be multiples of this"""


@dataclass(frozen=True, kw_only=True)
class Network:
    """What the network is, and what it sees."""

    model: str = flag("segresnet", "network of MONAI: segresnet (with --deep-supervision SegResNetDS), unet, dynunet",
                      choices=MODELS)  # fmt: skip
    image_size: int = flag(128, "side of the square slices of a volume, in pixels", type=cli.positive_int, named="{}px")
    patch: int = flag(64, "side of the patches that the network sees, in pixels", type=cli.positive_int, named="patch{}")
    depth: int = flag(16, "slices of a patch", type=cli.positive_int, named="{}deep")
    channels: int = flag(16, "features of the first level; each further one has twice as many", type=cli.positive_int,
                         named="{}channels")  # fmt: skip
    deep_supervision: bool = flag(False, "segresnet, dynunet: the loss counts coarser levels too", named="deep")
    loss: str = flag("bce-dice", "loss function", choices=LOSSES, named="{}")
    patches: int = flag(4, "patches of each training scan in an epoch, two thirds of them around a lesion", type=cli.positive_int,
                        named="{}patches")  # fmt: skip
    overlap: float = flag(0.5, "of the windows that slide over a scan to predict it", type=cli.share, trains=False)

    def __post_init__(self) -> None:
        if self.patch % MULTIPLE or self.depth % MULTIPLE:
            raise UserError(f"--patch {self.patch} --depth {self.depth}: both have to be multiples of {MULTIPLE}")
        if self.patch > self.image_size:
            raise UserError(f"--patch {self.patch} is larger than --image-size {self.image_size}; a patch lies within a slice")
        if self.deep_supervision and self.model == "unet":
            raise UserError("--deep-supervision goes with --model segresnet or dynunet")


@dataclass(frozen=True)
class Options:
    """All options of a training."""

    network: Network = part("network")
    initial: Initial = part("network", without=("weights_dir",), weights={
        "default": "none", "help": "none, or a file: a state_dict, models/model.pt of a bundle of MONAI"})  # fmt: skip
    training: Training = part("training", epochs=40, batch_size={"default": 4, "help": "patches in a training step"}, lr=1e-3)
    augmentation: Augmentation = part("augmentation", augment={"default": "affine", "choices": tuple(STRENGTHS)})
    selection: Selection = part("data")
    hardware: Hardware = part("device")
