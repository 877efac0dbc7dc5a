"""The options of a head on the features of slices. Imports nothing that computes."""

from dataclasses import dataclass
from pathlib import Path

from hemoct.base import cli, experiments
from hemoct.base.errors import UserError
from hemoct.base.options import flag, part
from hemoct.base.workspace import Workspace
from hemoct.training.options import Hardware, Initial, Selection, Training

HEADS = ("linear", "gru", "transformer")


@dataclass(frozen=True, kw_only=True)
class Features:
    """What makes the features of a slice."""

    features: str | None = flag(None, "experiment whose models, one a fold, make the features; default: --backbone as it comes, "
                                "frozen", metavar="EXPERIMENT")  # fmt: skip
    backbone: str = flag("tf_efficientnet_lite0", "any timm model, with the --weights that it comes with")
    image_size: int = flag(224, "side of the image in pixels", type=cli.positive_int, named="{}px")
    cells: int = flag(1, "features are means over N x N cells of a slice; 1: over all of it, which forgets left and right",
                      type=cli.positive_int, metavar="N", named="{}cells")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Head:
    """What is trained on the features."""

    head: str = flag("gru", "linear: each slice by itself; gru, transformer: the slices of a scan in their order", choices=HEADS)
    hidden: int = flag(128, "width of the layer behind the features", type=cli.positive_int, named="hidden{}")
    dropout: float = flag(0.3, "share of the features that training leaves out at random", type=cli.share, named="dropout{:g}")


@dataclass(frozen=True)
class Options:
    """All options of a training."""

    features: Features = part("features")
    initial: Initial = part("features")
    head: Head = part("head")
    training: Training = part("training", epochs=40, batch_size={"default": 8, "help": "scans in a training step"}, lr=1e-3)
    selection: Selection = part("data")
    hardware: Hardware = part("device")

    @property
    def base(self) -> str:
        """What the name of an experiment begins with."""
        return f"{self.features.features or self.features.backbone}-{self.head.head}"

    def inputs(self, work: Workspace, task: int, folder: Path) -> list[Path]:
        """The weights that the features of a fold come from. Stops where the experiment of --features has no such fold."""
        name = self.features.features
        if name is None:
            return self.initial.inputs()
        return feature_inputs(work, task, name, folder)


def feature_inputs(work: Workspace, task: int, experiment: str, folder: Path) -> list[Path]:
    """The model of an experiment that makes the features of a fold. Stops where the experiment has no such fold."""
    experiments.with_model(work, task, experiment)  # stops where there is none at all
    of_fold = work.task(task) / experiment / folder.name
    if not (of_fold / "best.pt").exists():
        raise UserError(f"{work.show(of_fold)} holds no model; train that fold first: python {experiments.train_step(task)}")
    return experiments.model_files([of_fold])
