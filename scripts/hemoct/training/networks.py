"""Networks that tell classes apart, from timm; what of them is trained; how they are saved and rebuilt."""

from __future__ import annotations

import difflib
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import timm
import torch
from timm.models import group_parameters
from torch import nn

from hemoct.base import experiments, files
from hemoct.base.errors import UserError
from hemoct.training import weights as training_weights
from hemoct.training.checkpoints import first_line, read_state
from hemoct.training.specs import Spec

WORDS = ("none", "imagenet", "coco")  # what --weights may be beside a file


@dataclass(frozen=True, kw_only=True)
class ClassifierSpec(Spec):
    """model.json of task 1: all that rebuilds a classifier and feeds it."""

    TASK = 1

    backbone: str
    classes: list[str]
    """one name: a single logit with sigmoid; several: one logit each"""
    exclusive: bool
    """softmax over the classes instead of a sigmoid for each"""
    label: str | None = None
    region: dict[str, Any] | None = None
    """None for whole slices; else what is cut out of each: see hemoct.detection.gate.describe"""


def build(spec: ClassifierSpec, weights: str = "none") -> nn.Module:
    """A classifier for one grey channel. `weights`: `none`, `imagenet` (see training.weights), or a file with a state_dict.

    With ImageNet weights the first layer is summed over RGB, so that grey input stays one channel.
    """
    return build_backbone(spec.backbone, spec.image_size, 1, len(spec.classes), weights)[0]


def build_backbone(name: str, image_size: int, channels: int, classes: int, weights: str) -> tuple[nn.Module, int]:
    """A network of timm for so many input channels and logits (0: features in place of logits); and how many it gives."""
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
        raise UserError(f"--backbone {name} is unknown to timm {timm.__version__}; near it: {', '.join(near) or 'none'}")
    options = {"in_chans": channels, "num_classes": classes}
    if timm.models.get_pretrained_cfg(name).fixed_input_size:
        options["img_size"] = image_size
    local = training_weights.local_imagenet(name) if weights == "imagenet" else None
    fetched = weights == "imagenet" and local is None
    if fetched:
        huggingface_hub.utils.logging.set_verbosity_error()  # its lines about retries; what failed is said below, once
    try:
        model = timm.create_model(name, pretrained=fetched, **options)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        if fetched:
            raise training_weights.missing(name, first_line(error)) from None
        raise UserError(f"--backbone {name} cannot be built for {image_size} px: {first_line(error)}") from None
    if local is not None:
        _load_body(model, local[1], "imagenet")
    elif weights not in ("none", "imagenet"):
        _load_body(model, read_state(Path(weights)), weights)
    return model, _outputs(model, name, torch.zeros(1, channels, image_size, image_size))


def _outputs(model: nn.Module, name: str, black: torch.Tensor) -> int:
    """How many numbers a network gives. One black slice tells whether an architecture can work at its size."""
    try:
        with torch.inference_mode():
            return model.eval()(black).shape[1]
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"--backbone {name} cannot take {black.shape[-1]} px ({first_line(error)}); choose another --image-size"
        ) from None


def normalisation(backbone: str, weights: str, mean: float, std: float) -> tuple[float, float]:
    """Mean and standard deviation of grey values in 0..1: those that the weights were trained with, else `mean` and `std`."""
    if weights == "imagenet" and timm.is_model(backbone):
        config = timm.models.get_pretrained_cfg(backbone)
        return sum(config.mean) / 3, sum(config.std) / 3
    folder = Path(weights).parent
    if weights in WORDS or not (folder / "model.json").exists():
        return mean, std
    told = files.read_json(folder / "model.json")
    return told["mean"], told["std"]


def stop_if_trained_elsewhere(weights: str, spec: Spec) -> None:
    """Stop when a file of weights comes from another task, or from a fold whose training patients are not those of `spec`."""
    described = Path(weights).parent / "model.json"
    if weights in WORDS or not described.exists():
        return
    source = files.read_json(described)
    if source.get("task") != spec.TASK:
        raise UserError(
            f"--weights {weights} is a model of task {source.get('task', '(unknown)')}; name weights of task {spec.TASK}"
        )
    if any(source[name] != getattr(spec, name) for name in ("fold", "protocol", "split", "splits_sha256")):
        raise UserError(
            f"--weights {weights} learned from other slices (fold {source['fold']}, {source['protocol']} protocol) "
            f"than fold {spec.fold}: test patients would leak; train each fold with the weights of the same one (--fold K)"
        )


def freeze(model: nn.Module, transfer: str) -> None:
    """Choose what is trained: `finetune` all layers, `partial` the upper half of the stages and the head, `frozen` the head."""
    if transfer == "finetune":
        return
    stages = group_parameters(model, model.group_matcher(coarse=True))
    kept = {name for stage in sorted(stages)[len(stages) // 2 :] for name in stages[stage]} if transfer == "partial" else set()
    head = {id(parameter) for parameter in model.get_classifier().parameters()}
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in kept or id(parameter) in head


def train_mode(model: nn.Module) -> None:
    """Switch to training, but leave frozen normalisation layers with the statistics that they came with."""
    model.train()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


def read_spec(folder: Path, of_regions: bool = False) -> ClassifierSpec:
    """The spec beside a checkpoint; stops when it is not one of a classifier of whole slices (or of regions)."""
    spec = ClassifierSpec.read(folder)
    if (spec.region is not None) != of_regions:
        seen, wanted = ("whole slices", "regions that a detector cut out")[:: 1 if of_regions else -1]
        raise UserError(f"{folder / 'model.json'} describes a classifier of {seen}; name one of {wanted}")
    return spec


def load(folder: Path, device: torch.device, of_regions: bool = False) -> tuple[nn.Module, ClassifierSpec]:
    """Rebuild the classifier of a fold folder from model.json and best.pt, in evaluation mode on the device."""
    spec = read_spec(folder, of_regions)
    return load_trained(build(spec), folder, spec.backbone).to(device).eval(), spec


def load_trained(model: nn.Module, folder: Path, name: str) -> nn.Module:
    """Load best.pt of a fold folder into the model that model.json describes under `name`."""
    path = folder / "best.pt"
    if not path.exists():
        raise UserError(f"{path} is missing; train with {experiments.train_step(files.read_json(folder / 'model.json')['task'])}")
    try:
        model.load_state_dict(read_state(path))
    except RuntimeError:
        raise UserError(f"{path} is a checkpoint of another model than {name} in model.json; train again") from None
    return model


def load_fitting(model: nn.Module, state: dict[str, torch.Tensor], source: Path | str) -> None:
    """Load what fits of a state_dict: the head's last layers differ with the number of classes."""
    own = model.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if len(fitting) < len(own) / 2:
        raise UserError(
            f"--weights {source} is a checkpoint of another model: {len(fitting)} of {len(own)} tensors fit; "
            "choose the architecture that it was trained with"
        )
    model.load_state_dict(fitting, strict=False)


def _load_body(model: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Load all but the head, which may have been trained for other classes. RGB input layers are summed to grey, or repeated.

    Of a model of task 4 it is the body.
    """
    config, own = model.pretrained_cfg, model.state_dict()
    state = {name.removeprefix("body."): value for name, value in state.items()}
    first, head = (_names(config.get(key)) for key in ("first_conv", "classifier"))
    for name in (f"{layer}.weight" for layer in first):
        if name in state and state[name].shape[1] == 3 != own[name].shape[1]:
            state[name] = timm.models.adapt_input_conv(own[name].shape[1], state[name])
    body = {name for name in own if not name.startswith(tuple(f"{layer}." for layer in head))}
    fitting = {name: value for name, value in state.items() if name in body and own[name].shape == value.shape}
    missing = body - set(fitting)
    if missing:
        raise UserError(
            f"--weights {source} is a checkpoint of another model: {len(missing)} tensors are missing or of another shape "
            f"(first: {sorted(missing)[0]}); choose the --backbone that it was trained with"
        )
    model.load_state_dict(fitting, strict=False)


def _names(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else tuple(entry or ())
