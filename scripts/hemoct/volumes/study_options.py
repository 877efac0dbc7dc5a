"""The options of labels of studies, and of networks that learn them. Imports nothing that computes."""

from dataclasses import dataclass
from pathlib import Path

from hemoct.base import cli, experiments
from hemoct.base.errors import UserError
from hemoct.base.options import flag, part
from hemoct.base.workspace import Workspace
from hemoct.prepare.options import KNOWN
from hemoct.training.options import Augmentation, Hardware, Initial, Labels, Selection, Training
from hemoct.volumes.options import Features, feature_inputs

SIDE, VOLUME = "side", "volume"
"""labels that are derived: from boxes, from masks"""
VOLUMES = ("resnet10-3d", "resnet18-3d", "resnet50-3d", "densenet121-3d")
"""networks that see a study as a volume"""
POOLED = ("gru", "attention", "mean")
"""networks that see the slices of a study one by one, and pool what they say"""
TABLE, OF_SLICES = "study_labels.csv", "slice_scores.csv"


@dataclass(frozen=True, kw_only=True)
class StudyLabels:
    """What is known of each study, or of each part of one."""

    label: str = flag(SIDE, "side: of the bleeding, from the boxes; volume: of the masks, above --above; or a column of "
                      "--table, of labels.csv (any slice of the study), or of patients.csv (from MedInfo.xlsx)")  # fmt: skip
    table: Path | None = flag(None, "CSV of yours: `patient`, perhaps `group` (its study), or `image_id`; and the column --label",
                              type=Path, metavar="FILE")  # fmt: skip
    above: float | None = flag(None, "of a label that is a number: 1 above it, else 0 (volume: ml, or pixels without a spacing)",
                               type=cli.number_from_0, metavar="N")  # fmt: skip
    parts: int = flag(1, "cut each study into so many parts of slices that follow one another; 2: halves", type=cli.positive_int)
    one_sided: float = flag(0.9, "share of the area of a study's boxes that has to lie on one side; others have no side",
                            type=cli.share)  # fmt: skip
    orientation: str = flag(
        "auto", "where the nose points; auto: as the data set says, or its images show", choices=("auto", *KNOWN)
    )
    name: str | None = flag(None, "folder of the result in data/work/NAME/studies; default: named by the label", metavar="NAME")

    @property
    def folder(self) -> str:
        """The name of the folder that the table goes to."""
        if self.name:
            return experiments.new_name("--name", self.name)
        words = [self.label, *([f"above{self.above:g}"] if self.above is not None else [])]
        return experiments.new_name("--label", "-".join([*words, *([f"parts{self.parts}"] if self.parts > 1 else [])]))


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a network of studies is, and what it sees of one."""

    network: str = flag("resnet18-3d", "a 3D network; or gru, attention, mean: how the features of slices are pooled (attention: "
                        "gated, of Ilse et al. 2018)", choices=(*VOLUMES, *POOLED), named=None)  # fmt: skip
    label: str = flag(SIDE, "folder in data/work/NAME/studies, see 10_study_labels.py", metavar="NAME", named=None)
    depth: int = flag(16, "slices of a volume; gru, attention, mean see all slices unless --transfer finetune",
                      type=cli.positive_int, named="{}deep")  # fmt: skip
    sampling: str = flag("stretch", "stretch: slices evenly from the first to the last; crop: the middle ones, black beyond the "
                         "ends", choices=("stretch", "crop"), named="{}")  # fmt: skip
    slice_mm: float | None = flag(None, "with --sampling crop: distance of the slices; stops where the spacing of a study is not "
                                  "known", type=cli.positive_float, named="{:g}mm")  # fmt: skip
    transfer: str = flag("frozen", "of gru, attention, mean: finetune trains the backbone too, end to end",
                         choices=("frozen", "finetune"), named="{}")  # fmt: skip
    hidden: int = flag(128, "width of the layer behind the features", type=cli.positive_int, named="hidden{}")
    dropout: float = flag(0.3, "share of the features that training leaves out at random", type=cli.share, named="dropout{:g}")

    @property
    def is_volume(self) -> bool:
        return self.network in VOLUMES

    @property
    def keeps_features(self) -> bool:
        """Whether the features of slices are made once and kept."""
        return not self.is_volume and self.transfer == "frozen"


@dataclass(frozen=True)
class Options:
    """All options of a training on studies."""

    study: Study = part("study")
    features: Features = part("slices", image_size=64)
    initial: Initial = part("slices", weights={"help": "imagenet: of the backbone of slices, a 3D network starts from scratch; "
                            "none; or a file: a state_dict, resnet_18.pth of MedicalNet, model.pt of a bundle of MONAI; or "
                            "a pre-training (scripts/07_pretrain.py) for the backbone"})  # fmt: skip
    labels: Labels = part("training", without=("labelled",))
    training: Training = part("training", epochs=30, batch_size={"default": 8, "help": "studies in a training step"}, lr=1e-3)
    augmentation: Augmentation = part("augmentation")
    selection: Selection = part("data", without=("protocol",))
    hardware: Hardware = part("device")

    @property
    def base(self) -> str:
        """What the name of an experiment begins with."""
        made_by = [] if self.study.is_volume else [self.features.features or self.features.backbone]
        return "-".join([*made_by, self.study.network, self.study.label])

    def of_fold(self, work: Workspace, folder: Path) -> tuple[Initial, list[Path]]:
        """The weights that a fold starts from, and the files that they, or the features of its slices, come from."""
        initial = self.initial.of_fold(work, folder)
        if not self.features.features:
            return initial, initial.inputs()
        return initial, feature_inputs(work, 1, self.features.features, folder)

    def stop_at_mixed(self) -> None:
        """Stop at flags that do not go together."""
        study, name = self.study, self.features.features
        if name and not study.keeps_features:
            raise UserError(f"--features {name} goes with --network {', '.join(POOLED)} and --transfer frozen")
        if name and study.network == "attention":
            raise UserError(
                f"--network attention learns from labels of studies alone, and --features {name} learned labels of slices; leave "
                "it out, or take --network gru or mean"
            )
        if study.slice_mm and study.sampling != "crop":
            raise UserError("--slice-mm goes with --sampling crop")
