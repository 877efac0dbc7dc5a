"""The options that every training has in common. Imports nothing that computes: --help shall be quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hemoct.base import cli, experiments
from hemoct.base.errors import UserError
from hemoct.base.options import flag
from hemoct.prepare.options import NAMES, mirror_axis, names

WORDS = ("none", "imagenet", "coco")
"""what --weights may be beside a file"""
DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "fp32", "bf16")
OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("onecycle", "cosine", "plateau", "constant")


@dataclass(frozen=True, kw_only=True)
class Initial:
    """The weights that a training starts from."""

    weights: str = flag("imagenet", "imagenet, none (from scratch), or a file with a state_dict", named={"none": "scratch"})
    weights_dir: Path | None = flag(
        None, "folder with ImageNet weights, NAME.safetensors or NAME.pth, which is looked into first; default: $HEMOCT_WEIGHTS",
        type=Path, metavar="DIR",
    )  # fmt: skip

    def inputs(self) -> list[Path]:
        """The file that --weights names, as an input of a run; empty for a word. Stops where there is no such file."""
        if self.weights in WORDS:
            return []
        path = Path(self.weights)
        if not path.is_file():
            raise UserError(f"--weights {path}: no such file; give a word that --help lists, or a file with a state_dict")
        return [path]


SCRATCH = Initial(weights="none")


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a network is trained."""

    epochs: int = flag(20, "passes over the training slices", type=cli.positive_int, named="{}ep")
    batch_size: int = flag(32, "slices in a training step", type=cli.positive_int, named="batch{}")
    lr: float | None = flag(3e-4, "highest learning rate", type=cli.positive_float, named="lr{:g}")
    optimizer: str = flag("adamw", "optimizer", choices=OPTIMIZERS, named="{}")
    weight_decay: float = flag(0.01, "weight decay", type=cli.share, named="decay{:g}")
    schedule: str = flag("onecycle", "learning rate schedule", choices=SCHEDULES, named="{}")
    warmup: float = flag(0.1, "share of the steps in which the learning rate rises", type=cli.share, named="warmup{:g}")
    patience: int = flag(10, "stop after so many epochs without a better validation", type=cli.positive_int, named="patience{}")
    ema: float = flag(
        0.0, "decay of the exponential moving average (EMA) of the weights, by step; the average is kept; 0: no average",
        type=cli.share, metavar="DECAY", named="ema{:g}",
    )  # fmt: skip
    precision: str = flag(
        "auto", "auto: mixed precision on CUDA; bf16: also on a CPU that has it", choices=PRECISIONS, named="{}"
    )
    seed: int = flag(42, "", named="seed{}")  # --seed is a flag of every step
    resume: bool = flag(False, "go on after the last complete epoch")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which folds are used, with which patients, and how slices are parted into training, validation and test."""

    fold: str = flag("all", "the fold to train", choices=("all", *map(str, range(experiments.FOLDS))))
    limit_patients: int | None = flag(None, "a first look with N patients", type=cli.positive_int, metavar="N",
                                      named="{}patients")  # fmt: skip
    protocol: str = flag(
        "patient", "slice: the naive split by slices, to measure how much it flatters", choices=("patient", "slice"), named="{}"
    )
    split: str = flag("folds", "given: the split that came with the data, one run", choices=("folds", "given"), named="{}")
    prepare: list[str] = flag(
        [], "what is done with each image, in this order: " + "; ".join(f"{name}: {does}" for name, does in NAMES.items()),
        type=names, metavar="A,B", named="{}",
    )  # fmt: skip

    @property
    def folds(self) -> list[int]:
        """The numbers of the chosen folds."""
        if self.split == "given":
            return [0]
        return list(range(experiments.FOLDS)) if self.fold == "all" else [int(self.fold)]

    def folders(self, experiment: Path) -> list[Path]:
        """The folders of the chosen folds."""
        return [experiment / f"fold{number}" for number in self.folds]


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Where a step computes."""

    device: str = flag("auto", "auto: CUDA, then MPS, then CPU", choices=DEVICES)
    threads: int | None = flag(
        None, "CPU threads; two folds side by side with half of the threads each are faster", type=cli.positive_int
    )


@dataclass(frozen=True)
class Strength:
    """How far an augmentation goes."""

    mirror: bool = True
    """mirror half of the slices; wrong for labels about the side of the bleeding"""
    degrees: float = 0.0
    """rotation within +- degrees: heads are never quite straight in the scanner"""
    scale: float = 0.0
    """zoom within 1 +- scale; above 1 it crops"""
    shift: float = 0.0
    """translation within +- shift of the image side"""
    brightness: float = 0.1
    contrast: float = 0.1


STRENGTHS = {
    "none": None,
    "light": Strength(),
    "rotate": Strength(degrees=10),
    "affine": Strength(degrees=10, scale=0.15, shift=0.05),
    "strong": Strength(degrees=20, scale=0.25, shift=0.1, brightness=0.15, contrast=0.25),
}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training slices are changed, another way each epoch."""

    augment: str = flag("none", "augmentation of training slices", choices=tuple(STRENGTHS),
                        named={"affine": "augment", "": "augment-{}"})  # fmt: skip
    mirror: str = flag(
        "auto", "image axis along which the patient's left and right lie; auto: that of the data set",
        choices=("auto", "horizontal", "vertical"), named="{}",
    )  # fmt: skip

    def axis(self, orientation: str) -> str:
        """The axis of --mirror; `auto` is that along which left and right lie, by the orientation (where the nose points)."""
        return mirror_axis(orientation) if self.mirror == "auto" else self.mirror


def known_strength(name: str) -> Any:
    """The name of a strength, as it is; raises ValueError for any other word."""
    if name not in STRENGTHS:
        raise ValueError(name)
    return name
