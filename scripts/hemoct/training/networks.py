"""Networks that tell classes apart, from timm; what of them is trained; how they are saved and rebuilt."""

import difflib
import pickle
from collections.abc import Iterable
from pathlib import Path

import huggingface_hub
import timm
import torch
from timm.models import group_parameters
from torch import nn

from hemoct.base.errors import UserError, one_line
from hemoct.training import weights
from hemoct.training.checkpoints import read_state
from hemoct.training.options import SCRATCH, Initial


def imagenet(name: str, folder: Path | None = None) -> tuple[weights.Origin, dict[str, torch.Tensor]]:
    """The ImageNet weights of a whole network of timm, from this machine or the hub, and where they came from."""
    stop_if_unknown(name, "a network")
    local = weights.local_imagenet(name, folder)
    if local is not None:
        return local
    config = timm.models.get_pretrained_cfg(name)
    if not config:
        raise weights.missing(name, "timm knows none")
    huggingface_hub.utils.logging.set_verbosity_error()  # its lines about retries; what failed is said below, once
    try:
        model = timm.create_model(name, pretrained=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise weights.missing(name, one_line(error)) from None
    return weights.of_hub(name), model.state_dict()


def build_backbone(name: str, image_size: int, channels: int, classes: int, initial: Initial = SCRATCH) -> tuple[nn.Module, int]:
    """A network of timm for so many input channels and logits (0: features in place of logits); and how many it gives.

    Of weights for three channels the first layer is summed, or repeated, over RGB, so that a grey image stays one channel.
    """
    stop_if_unknown(name, "--backbone")
    options, config = {"in_chans": channels, "num_classes": classes}, timm.models.get_pretrained_cfg(name)
    if config and config.fixed_input_size:
        options["img_size"] = image_size
    try:
        model = timm.create_model(name, **options)
    except (OSError, RuntimeError) as error:
        raise UserError(f"--backbone {name} cannot be built for {image_size} px: {one_line(error)}") from None
    if initial.weights == "imagenet":
        load_body(model, imagenet(name, initial.weights_dir)[1], "imagenet")
    for path in initial.inputs():
        load_body(model, read_state(path), str(path))
    return model, _outputs(model, name, torch.zeros(1, channels, image_size, image_size))


def stop_if_unknown(name: str, what: str) -> None:
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
        raise UserError(f"{what} {name} is unknown to timm {timm.__version__}; near it: {', '.join(near) or 'none'}")


def _outputs(model: nn.Module, name: str, black: torch.Tensor) -> int:
    """How many numbers a network gives. One black slice tells whether an architecture can work at its size."""
    try:
        with torch.inference_mode():
            return model.eval()(black).shape[1]
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"--backbone {name} cannot take {black.shape[-1]} px ({one_line(error)}); choose another --image-size"
        ) from None


def freeze(model: nn.Module, transfer: str) -> None:
    """Choose what is trained: `finetune` all layers, `partial` the upper half of the stages and the head, `frozen` the head."""
    if transfer == "finetune":
        return
    kept: set[str] = set()
    if transfer == "partial":
        body, below = (model.body, "body.") if hasattr(model, "body") else (model, "")
        if not hasattr(body, "group_matcher"):
            raise UserError("--transfer partial knows the stages of a single network; with --join take finetune or frozen")
        stages = group_parameters(body, body.group_matcher(coarse=True))
        kept = {f"{below}{name}" for stage in sorted(stages)[len(stages) // 2 :] for name in stages[stage]}
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


def load_body(model: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Load all but the head, which may have been trained for other classes. See load_part."""
    head = (model.pretrained_cfg or {}).get("classifier") or ()
    head = tuple(f"{layer}." for layer in ((head,) if isinstance(head, str) else head))
    body = [name for name in model.state_dict() if not name.startswith(head)]
    load_part(model, state, body, source)


def load_part(part: nn.Module, state: dict[str, torch.Tensor], wanted: Iterable[str], source: str) -> None:
    """Load the tensors `wanted` of a part of a network of timm, an encoder, from the whole; of task 4 and pre-training: from the
    body. RGB input layers are summed to grey, or repeated; grey ones are repeated."""
    own, fitting = part.state_dict(), {}
    state = {name.removeprefix("body."): value for name, value in state.items()}
    for name in wanted:
        value, due = state.get(name.removeprefix("model.")), own[name].shape
        if value is not None and value.dim() == 4 and value.shape[1] == 3 != due[1]:  # the first layer
            value = timm.models.adapt_input_conv(due[1], value)
        if value is not None and value.dim() == 4 and value.shape[1] == 1 != due[1]:  # planes count alike
            value = value.expand(-1, due[1], -1, -1) / due[1]
        if value is not None and value.shape == due:
            fitting[name] = value
    missing = sorted(set(wanted) - set(fitting))
    if missing:
        raise UserError(
            f"--weights {source} is a checkpoint of another model: {len(missing)} tensors are missing or of another shape "
            f"(first: {missing[0]}); choose the network that it was trained with"
        )
    part.load_state_dict(fitting, strict=False)
