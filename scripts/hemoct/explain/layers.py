"""The layers of a network that have maps: feature maps (b, channels, side, side) at places of the image, found by running it."""

from collections import Counter
from collections.abc import Callable

import torch
from torch import nn

from hemoct.base.errors import UserError, few
from hemoct.explain.options import AUTO
from hemoct.training.specs import Spec

LEAST_SIDE = 2  # a single place tells nothing
SIZES = 4
"""so many sizes are compared, the deepest ones: the last maps are small, middle ones may be sharper"""
BODY = "body."  # how names of layers begin in networks of task 4


def chosen(model: nn.Module, spec: Spec, planes: int, wanted: list[str]) -> list[str]:
    """The names of the layers whose maps are asked for. `auto`: the ends of the stages of the SIZES smallest sizes.

    `planes`: of an input. Stops where the network has no such layer, or no map at its end, as most transformers.
    """
    black = torch.zeros(1, planes, spec.image_size, spec.image_size, device=next(model.parameters()).device)
    there = sides(model, black)
    if wanted != [AUTO]:
        return [_named(model, name, there, spec) for name in wanted]
    body = getattr(model, "body", model)
    if not hasattr(body, "forward_features"):
        raise UserError(f"these models join several networks: name a layer with --layer, of {few(_listed(there), 8)}")
    with torch.inference_mode():
        features = body.forward_features(black)
    if not _is_map(features, least=1):
        raise UserError(
            f"{spec.backbone} ends in features of shape {tuple(features.shape[1:])}, not in maps, as transformers do: class "
            "activation maps need a network of convolutions, or a --layer of it that has maps"
        )
    last: dict[int, str] = {}
    for name, side in there.items():  # the outermost layer of each size, of several the last: the end of a stage
        if side not in last or name.count(".") <= last[side].count("."):
            last[side] = name
    if not last:
        raise UserError(
            f"{spec.backbone} has no map larger than one place at {spec.image_size} px; train with a larger --image-size"
        )
    return [last[side] for side in sorted(last, reverse=True)[-SIZES:]]


@torch.inference_mode()
def sides(model: nn.Module, black: torch.Tensor) -> dict[str, int]:
    """The side of the maps of each layer that has some, in the order in which the layers end. `black`: an input of one image.

    A layer that is used several times is left out: which of its outputs is meant is not known.
    """
    found: dict[str, int] = {}
    used: Counter[str] = Counter()

    def hook(name: str) -> Callable[..., None]:
        def keep(_: nn.Module, __: tuple, output: object) -> None:
            used[name] += 1
            if _is_map(output):
                found[name] = output.shape[-1]

        return keep

    handles = [module.register_forward_hook(hook(name)) for name, module in model.named_modules() if name]
    try:
        model.eval()(black)
    finally:
        for handle in handles:
            handle.remove()
    return {name: side for name, side in found.items() if used[name] == 1}


def _is_map(output: object, least: int = LEAST_SIDE) -> bool:
    return isinstance(output, torch.Tensor) and output.dim() == 4 and output.shape[2] == output.shape[3] >= least


def shown(name: str) -> str:
    """The name of a layer as people know it from the backbone."""
    return name.removeprefix(BODY)


def _named(model: nn.Module, name: str, there: dict[str, int], spec: Spec) -> str:
    full = name if name in there else f"{BODY}{name}"
    if full in there:
        return full
    known = dict(model.named_modules())
    why = "has no maps" if name in known or full in known else "is no layer"
    raise UserError(f"--layer {name} {why} of {spec.backbone}; layers with maps: {few(_listed(there), 12)}")


def _listed(there: dict[str, int]) -> list[str]:
    """The layers with maps, the outermost ones first: those that people look for."""
    return sorted(map(shown, there), key=lambda name: name.count("."))
