"""The options of task 4: of a training, of thresholds, of a cascade. Imports no torch."""

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass

from hemoct.base import cli
from hemoct.base.errors import UserError
from hemoct.base.label_meaning import ANY
from hemoct.base.options import flag, part
from hemoct.training import options as training_options
from hemoct.training.options import (
    CONV,
    HEAD,
    HEAD_KINDS,
    LINEAR,
    STRENGTHS,
    Hardware,
    Initial,
    Labels,
    Selection,
    SharedTraining,
    known_strength,
)

SIMPLE = "simplecnn"
TYPES = "types"
HEADS = {"types": [TYPES], "any,types": [ANY, TYPES]}
VAL, TRAIN = "val", "train:"
MAX_F1, MEDIAN, QUANTILE = "max-f1", "median", "q[1-9][0-9]?"
LOSSES = ("bce", "weighted-bce", "focal", "asymmetric")


def auto_or_numbers(text: str) -> str | list[float]:
    """A type for argparse: `auto`, or numbers above 0 separated by commas."""
    return text if text == "auto" else [cli.positive_float(word) for word in text.split(",")]


def by_label(kind: Callable[[str], object], words: str) -> Callable[[str], dict[str, object]]:
    """A type for argparse: `SAH=3,IVH=2` as a dictionary. `words` says what stands behind the `=`."""

    def parsed(text: str) -> dict[str, object]:
        pairs = [part.rpartition("=") for part in text.split(",")]
        try:
            values = {name.strip(): kind(value.strip()) for name, _, value in pairs}
        except (ValueError, argparse.ArgumentTypeError):
            values = {}
        if not all(values) or len(values) < len(pairs):
            raise argparse.ArgumentTypeError(f"{text!r} is not LABEL={words}[,LABEL={words}], each label once")
        return values

    return parsed


@dataclass(frozen=True, kw_only=True)
class Network:
    """What is trained, and what it sees of an image."""

    backbone: str = flag("resnet18", f"any timm model, or {SIMPLE}: two convolutions and two linear layers")
    heads: str = flag("types", "any,types: a head for any bleeding too", choices=tuple(HEADS), named={"any,types": "two-heads"})
    head: str = flag(LINEAR, HEAD, choices=HEAD_KINDS, named={CONV: "conv-head"})
    attention: bool = flag(False, "each label weighs the places of the feature map by itself", named={True: "attention"})
    image_size: int = flag(224, "side of the image in pixels", type=cli.positive_int, named="{}px")
    channels: int = flag(1, "1: grey; 3: red, green, blue, for three CT windows", type=int, choices=(1, 3), named="{}channels")
    context: int = flag(0, "neighbouring slices on each side as further channels", type=int, choices=range(6), named="context{}")

    def __post_init__(self) -> None:
        if self.attention and self.head == CONV:
            raise UserError(f"--head {CONV} and --attention are both in place of the head on pooled features; choose one of them")


@dataclass(frozen=True, kw_only=True)
class View:
    """Which labels and images of the working set are learned."""

    labels: list[str] | None = flag(None, "labels of the working set; default: all", type=cli.names, metavar="A,B", named="{}")
    group: str | None = flag(None, "images of one view, by the column group of labels.csv; default: all", named="{}")
    share_encoder: bool = flag(False, "one encoder, with a head for each view (the groups of labels.csv), trained together",
                               named={True: "shared"})  # fmt: skip

    def __post_init__(self) -> None:
        if self.share_encoder and self.group is not None:
            raise UserError(f"--share-encoder is for all views, and --group {self.group} names one; leave one of them out")


@dataclass(frozen=True, kw_only=True)
class Balance:
    """What is done for labels that few images show."""

    loss: str = flag("bce", "what is minimised", choices=LOSSES, named="{}")
    pos_weight: str | list[float] = flag(
        "auto", "weight of positives in weighted-bce: auto (negatives over positives) or a number for each label",
        type=auto_or_numbers, metavar="auto|LIST", named="weights-{}",
    )  # fmt: skip
    sampler: str = flag("none", "balanced: the slices of each label, and those of none, are drawn about equally often",
                        choices=("none", "balanced"), named="{}")  # fmt: skip
    oversample: dict[str, int] = flag({}, "show the slices of a label several times in an epoch",
                                      type=by_label(cli.positive_int, "TIMES"), metavar="LABEL=TIMES,...",
                                      named="oversample-{}")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Augmentation(training_options.Augmentation):
    """How training slices are changed; those of some labels otherwise."""

    augment: str = flag("none", "augmentation of training slices", choices=tuple(STRENGTHS), named="augment-{}")
    augment_label: dict[str, str] = flag(
        {}, "another augmentation for the slices of a label; of several labels the last one counts",
        type=by_label(known_strength, "STRENGTH"), metavar="LABEL=STRENGTH,...", named="augment-{}",
    )  # fmt: skip


@dataclass(frozen=True)
class Options:
    """All options of a training."""

    initial: Initial = part("network")
    network: Network = part("network")
    view: View = part("views; of one alone: for 04_cascade.py --view")
    balance: Balance = part("labels that few images show")
    augmentation: Augmentation = part("augmentation")
    training: SharedTraining = part("training", batch_size={"type": cli.above_one}, optimizer="adam", weight_decay=0.0)
    selection: Selection = part("data")
    labels: Labels = part("data", without=("least_steps",))
    hardware: Hardware = part("device")

    def stop_if_unfit(self, classes: list[str]) -> None:
        """Stop when a flag names a label that is none of `classes`, or --pos-weight has not one number for each of them."""
        for flag_name, names in (("oversample", self.balance.oversample), ("augment-label", self.augmentation.augment_label)):
            absent = [name for name in names if name not in classes]
            if absent:
                raise UserError(f"--{flag_name} {absent[0]}: the working set has no such label; it has {', '.join(classes)}")
        weights = self.balance.pos_weight
        if weights != "auto" and len(weights) != len(classes):
            raise UserError(f"--pos-weight has {len(weights)} number(s) where {', '.join(classes)} need one each; correct it")


# ---- thresholds and cascades


def threshold_source(text: str) -> str:
    """A type for argparse: `val`, or `train:q90`, the quantile 0.90 of the training probabilities."""
    return _matching(text, f"{VAL}|{TRAIN}{QUANTILE}", "val nor train:qNN (train:q90: the 90 % quantile)")


def gate_rule(text: str) -> str:
    """A type for argparse: max-f1, median, or qNN, the quantile 0.NN."""
    return _matching(text, f"{MAX_F1}|{MEDIAN}|{QUANTILE}", f"{MAX_F1}, {MEDIAN} nor qNN (q90: the 90 % quantile)")


def _matching(text: str, pattern: str, words: str) -> str:
    if not re.fullmatch(pattern, text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither {words}")
    return text


def quantile(text: str) -> float:
    """0.9 of `q90` or `train:q90`."""
    return int(text.rpartition("q")[2]) / 100


class Views(argparse.Action):
    """GROUP=EXPERIMENT, gathered as a dictionary from as many flags as are given."""

    def __call__(self, parser: argparse.ArgumentParser, args: argparse.Namespace, text: str, name: str | None = None) -> None:
        group, _, experiment = text.partition("=")
        known = getattr(args, self.dest)
        if not group or not experiment or group in known:
            parser.error(f"{name} {text}: give GROUP=EXPERIMENT, each group once")
        setattr(args, self.dest, known | {group: experiment})


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The experiments that a cascade is made of, and how it decides."""

    types: str = flag("", "stage 2, the multi-label model, of task 4", required=True, metavar="EXPERIMENT")
    binary: str = flag(
        ANY, "stage 1, of task 1; any: the output `any` of the multi-label model", metavar="EXPERIMENT", named="{}"
    )
    rule: str = flag(
        MAX_F1, "threshold of stage 1 from validation: maximum F1, median or quantile of probabilities", type=gate_rule,
        metavar="max-f1|median|qNN", named="{}",
    )  # fmt: skip
    view: dict[str, str] = flag(
        {}, "the experiment of task 4 that answers for the images of a group instead; may be given several times", action=Views,
        metavar="GROUP=EXPERIMENT", named="{}",
    )  # fmt: skip
    pool: bool = flag(False, "one prediction of each study, that is patient", named={True: "pooled"})
    threshold_from: str = flag(
        VAL, "with --pool: thresholds of the types from validation (maximum F1), or a quantile of the training probabilities "
        "of stage 2, pooled alike", type=threshold_source, metavar="val|train:qNN", named="{}",
    )  # fmt: skip

    def __post_init__(self) -> None:
        if self.threshold_from != VAL and not self.pool:
            raise UserError("--threshold-from goes with --pool; without it 03_evaluate.py chooses the thresholds of the types")

    @property
    def members(self) -> list[tuple[int, str]]:
        """Task and name of each experiment, once."""
        binary = [] if self.binary == ANY else [(1, self.binary)]
        return list(dict.fromkeys([(4, self.types), *((4, name) for name in self.view.values()), *binary]))
