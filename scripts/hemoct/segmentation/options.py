"""The options of a segmentation network's training. Imports no torch."""

from dataclasses import dataclass

from hemoct.base import cli, experiments
from hemoct.base.errors import UserError
from hemoct.base.options import flag, part
from hemoct.prepare.options import stop_if_moving
from hemoct.training import options as training_options
from hemoct.training.options import Augmentation, Hardware, Initial, SharedTraining, Strength

TRUTH = "truth"
"""in place of a detector: true boxes"""
ARCHITECTURES = ("deeplabv3", "deeplabv3plus", "dpt", "fpn", "linknet", "manet", "pan", "pspnet", "segformer", "unet",
                 "unetplusplus", "upernet")  # fmt: skip
"""those of segmentation_models_pytorch"""
LOSSES = ("bce-dice", "bce-window-dice", "bce", "dice", "focal", "tversky", "lovasz")
STRENGTHS = {
    "none": None,
    "affine": Strength(degrees=15, scale=0.15, shift=0.05, brightness=0.1, contrast=0.15),
    "strong": Strength(degrees=30, scale=0.25, shift=0.1, brightness=0.15, contrast=0.25),
}
SIDES = {"slice": 256, "box": 128}  # of what the network sees, in pixels


@dataclass(frozen=True, kw_only=True)
class Network:
    """What the network is, and what it sees."""

    model: str = flag("unet", "architecture of segmentation_models_pytorch", choices=ARCHITECTURES)
    encoder: str = flag("resnet34", "resnet18, efficientnet-b0, mit_b0 ..., or tu-NAME for one of timm")
    image_size: int | None = flag(
        None, "side of what the network sees, in pixels; default: slice 256, box 128", type=cli.positive_int, named="{}px"
    )
    context: int = flag(0, "neighbouring slices on each side as further channels", type=int, choices=range(6), named="context{}")
    loss: str = flag("bce-dice", "loss function", choices=LOSSES, named="{}")
    normalise: str = flag("dataset", "grey values normalised by the data set, or by each window's own brain",
                          choices=("dataset", "window"), named="normalise-{}")  # fmt: skip
    no_mirrored_mean: bool = flag(False, "predict without averaging over the mirrored image", trains=False)


@dataclass(frozen=True, kw_only=True)
class Region:
    """Where the network looks."""

    region: str = flag("box", "what the network sees: whole slices, or windows around boxes", choices=("slice", "box"),
                       named={"slice": "whole"})  # fmt: skip
    boxes: str = flag("yolov8n", f"detector, an experiment of task 2; {TRUTH}: true boxes, an upper bound",
                      metavar="EXPERIMENT", named="{}")  # fmt: skip
    margin: float = flag(0.1, "added at both ends of a box, as a share of its longer side", type=cli.number_from_0,
                         named="margin{:g}")  # fmt: skip
    least_side: int | None = flag(
        None, "least side of a window, in pixels of the image; default: the image size", type=cli.positive_int, named="side{}"
    )
    negatives: float = flag(0.5, "windows without a lesion for each window with one; other ones each epoch",
                            type=cli.number_from_0, metavar="RATIO", named="negatives{:g}")  # fmt: skip
    upper_bound: bool = flag(False, "predict around true boxes too, into EXPERIMENT/truth-boxes", trains=False)

    def __post_init__(self) -> None:
        if self.upper_bound and not self.needs_detector:
            raise UserError("--upper-bound is for --region box with a detector's boxes: it measures what true boxes would give")

    @property
    def needs_detector(self) -> bool:
        return self.region == "box" and self.boxes != TRUTH


@dataclass(frozen=True, kw_only=True)
class Selection(training_options.Selection):
    """Which slices and masks are learned from."""

    validation: int = flag(
        1, "the fold that validates, counted on from the test fold, 1 to 4; networks that differ in it learn from other "
        "patients: members for 07_ensemble.py", type=int, choices=range(1, experiments.FOLDS), metavar="N", named="validation{}",
    )  # fmt: skip
    mask_value: int | None = flag(
        None, "the lesion in masks of several values (palette: its index)", type=cli.whole_number, metavar="V"
    )

    def __post_init__(self) -> None:
        stop_if_moving(self.prepare, "masks and boxes of task 3 would not follow")
        if self.split == "given" and self.validation != 1:
            raise UserError("--validation chooses among folds, and --split given has none; drop one of them")


@dataclass(frozen=True)
class Options:
    """All options of a training."""

    region: Region = part("where the network looks")
    initial: Initial = part(
        "network",
        weights={"help": "of the encoder: imagenet, none, a pre-training (scripts/07_pretrain.py), or a file with a state_dict"},
    )
    network: Network = part("network")
    training: SharedTraining = part("training", epochs=40, batch_size={"default": 16, "type": cli.above_one}, lr=1e-3)
    augmentation: Augmentation = part("augmentation", augment={"default": "affine", "choices": tuple(STRENGTHS)})
    selection: Selection = part("data")
    hardware: Hardware = part("device")

    @property
    def image_size(self) -> int:
        """Side of what the network sees, in pixels."""
        return self.network.image_size or SIDES[self.region.region]
