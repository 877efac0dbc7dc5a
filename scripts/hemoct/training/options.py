"""The options that every training has in common. Imports nothing that computes: --help shall be quick."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from hemoct.base import cli, experiments, files
from hemoct.base.errors import UserError
from hemoct.base.options import flag
from hemoct.base.workspace import Workspace
from hemoct.prepare.options import NAMES, mirror_axis, names

WORDS = ("none", "imagenet", "coco")
"""what --weights may be beside a file"""
DEVICES = ("auto", "cuda", "mps", "cpu")
PRECISIONS = ("auto", "fp32", "bf16")
OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("onecycle", "cosine", "plateau", "constant")
LINEAR, CONV = HEAD_KINDS = ("linear", "conv")
HEAD = "linear: a fully connected layer on the pooled features; conv: convolutions to a map for each class, then pooled"
"""what --head says"""


@dataclass(frozen=True, kw_only=True)
class Initial:
    """The weights that a training starts from."""

    weights: str = flag(
        "imagenet",
        "imagenet, none (from scratch), a pre-training (scripts/07_pretrain.py), or a file with a state_dict",
        named={"none": "scratch"},
    )
    weights_dir: Path | None = flag(
        None, "folder with ImageNet weights, NAME.safetensors or NAME.pth, which is looked into first; default: $HEMOCT_WEIGHTS",
        type=Path, metavar="DIR",
    )  # fmt: skip

    def of_fold(self, work: Workspace, folder: Path) -> Self:
        """The weights for a fold's folder: of a pre-training that --weights names, those of the same fold; else the same.

        Stops where there is no such file or pre-training, or where that of the fold is missing or not finished.
        """
        if self.weights in WORDS or Path(self.weights).is_file():
            return self
        found = work.pretrained / self.weights
        if Path(self.weights).name != self.weights or not found.is_dir():
            there = ", ".join(sorted(path.name for path in work.pretrained.glob("[!.]*") if path.is_dir())) or "none"
            raise UserError(
                f"--weights {self.weights}: no such file, and no such pre-training of {work.dataset} (there are: {there}); give "
                f"a word that --help lists, a file with a state_dict, or run: python {experiments.PRETRAIN}"
            )
        of_fold = found / folder.name
        record = of_fold / f"{Path(experiments.PRETRAIN).stem}.run.json"
        if not record.is_file() or not (of_fold / "best.pt").is_file() or files.read_json(record)["status"] != "ok":
            raise UserError(
                f"--weights {self.weights}: {work.show(of_fold)} holds no finished pre-training; run {experiments.PRETRAIN} for "
                "that fold first (--fold K), with the flags of the others"
            )
        return replace(self, weights=str(of_fold / "best.pt"))

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
    accumulate: int = 1
    """parts of a batch that are computed one after the other; a flag where batches can be parted, see SharedTraining"""


@dataclass(frozen=True, kw_only=True)
class SharedTraining(Training):
    """A training whose batches may be parted: by --accumulate, and among the processes that torchrun starts."""

    accumulate: int = flag(
        1, "compute a batch in N parts, one after the other, where memory does not hold it at once; batch normalisation then "
        "averages over a part", type=cli.positive_int, metavar="N", named="accumulate{}",
    )  # fmt: skip


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
class Labels:
    """How many of the labels are learned from."""

    labelled: float = flag(
        1.0, "share of the training patients of a fold whose labels are learned from, drawn by --seed; those of a smaller share "
        "are among those of a larger one; validation and test stay whole", type=cli.share_above_0, metavar="SHARE",
        named="labelled{:g}",
    )  # fmt: skip
    least_steps: int = flag(
        1, "an epoch repeats the training slices until it has so many steps: few slices make few", type=cli.positive_int,
        metavar="N", named="steps{}",
    )  # fmt: skip


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
