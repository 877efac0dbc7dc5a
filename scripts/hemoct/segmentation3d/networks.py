"""3D segmentation networks of MONAI: built, rebuilt, their losses, and a window that slides over a scan."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from hemoct.base.errors import UserError
from hemoct.segmentation.predictions import SegmenterSpec
from hemoct.training import checkpoints
from hemoct.training.fit import Criterion
from hemoct.training.options import WORDS, Initial

LEVELS = 4
"""of each network, so that patches are halved three times; see options.MULTIPLE"""


@dataclass(frozen=True, kw_only=True)
class VolumeSpec(SegmenterSpec):
    """model.json of a 3D network: all that rebuilds and feeds it. `image_size`: of a patch; `source_size`: of a slice."""

    depth: int
    """slices of a patch"""
    channels: int
    deep_supervision: bool
    overlap: float
    made_by: str
    """the step"""


def build(spec: VolumeSpec, initial: Initial) -> nn.Module:
    """The network that a spec describes: float (b, 1, depth, side, side) to logits of the same shape.

    In training, with deep supervision, to a list of logits, the finest first, or (b, levels, 1, depth, side, side).
    """
    from monai.networks import nets  # seconds: only where a network is built

    widths = [spec.channels * 2**level for level in range(LEVELS)]
    if spec.model == "unet":
        network: nn.Module = nets.UNet(3, 1, 1, widths, strides=[2] * (LEVELS - 1), num_res_units=2)
    elif spec.model == "dynunet":
        strides = [1] + [2] * (LEVELS - 1)
        network = nets.DynUNet(3, 1, 1, [3] * LEVELS, strides, strides[1:], widths, deep_supervision=spec.deep_supervision,
                               deep_supr_num=LEVELS - 2)  # fmt: skip
    elif spec.deep_supervision:
        network = nets.SegResNetDS(3, spec.channels, 1, 1, blocks_down=(1, 2, 2, 4), dsdepth=LEVELS - 1)
    else:
        network = nets.SegResNet(3, spec.channels, 1, 1, blocks_down=(1, 2, 2, 4))
    if initial.weights not in WORDS:
        load(network, Path(initial.weights))
    return network


def load(network: nn.Module, path: Path) -> None:
    """Load a state_dict of the same network; of the last layers what fits, which may have been trained for other classes."""
    state, own = checkpoints.read_state(path), network.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if len(fitting) < 0.8 * len(own):
        count = f"{len(fitting)} of {len(own)} tensors fit"
        raise UserError(f"--weights {path} is of another network: {count}; choose the --model and --channels of the file")
    network.load_state_dict(fitting, strict=False)


def levels(output: torch.Tensor | list[torch.Tensor]) -> list[torch.Tensor]:
    """The logits of each level that is supervised, the finest first."""
    if isinstance(output, torch.Tensor):
        return list(output.unbind(dim=1)) if output.dim() == 6 else [output]
    return list(output)


def loss(criterion: Criterion, output: torch.Tensor | list[torch.Tensor], masks: torch.Tensor) -> torch.Tensor:
    """The mean loss of the levels, each of which counts half of the finer one. `masks` (b, 1, depth, side, side), NaN: unknown.

    A coarse level is compared with the mask at its own size.
    """
    total, weights = 0.0, 0.0
    for number, logits in enumerate(levels(output)):
        truth = masks if logits.shape == masks.shape else F.interpolate(masks, logits.shape[2:], mode="nearest")
        known = ~torch.isnan(truth)
        # unknown places count as rightly predicted: they have no say
        told = torch.where(known, logits.float(), -20.0)
        total = total + 0.5**number * criterion(_flat(told), _flat(torch.nan_to_num(truth)))
        weights += 0.5**number
    return total / weights


def _flat(volume: torch.Tensor) -> torch.Tensor:
    """Slices below one another, as the losses of task 3 take them: (b, 1, depth * height, width)."""
    return volume.flatten(2, 3)


@torch.inference_mode()
def predict(network: nn.Module, spec: VolumeSpec, volume: torch.Tensor) -> torch.Tensor:
    """Probabilities of a scan: grey values float (slices, side, side) in 0..1 to uint8 of the same shape, 255 is 1."""
    from monai.inferers import SlidingWindowInferer

    slide = SlidingWindowInferer((spec.depth, spec.image_size, spec.image_size), 4, spec.overlap, mode="gaussian")
    logits = slide(((volume - spec.mean) / spec.std)[None, None], lambda patch: levels(network(patch))[0].float())
    return logits[0, 0].sigmoid().mul(255).round().to(torch.uint8)
