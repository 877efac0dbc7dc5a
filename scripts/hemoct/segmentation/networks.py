"""Networks that draw masks, from segmentation_models_pytorch: how they are built, saved and fed; their losses."""

import difflib
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from segmentation_models_pytorch import losses
from torch import nn

from hemoct.base.errors import UserError, one_line
from hemoct.segmentation.predictions import SegmenterSpec
from hemoct.training import checkpoints, networks, weights
from hemoct.training.device import to_predict
from hemoct.training.fit import Criterion
from hemoct.training.options import SCRATCH, Initial

AIR, BONE = 0.1, 0.95  # grey values in 0..1, of a brain window
LEAST_STD = 0.02  # of a window of one grey value
LIMIT = 4.0  # standard deviations
TVERSKY = {"alpha": 0.3, "beta": 0.7}  # missed pixels count more than false ones (Salehi et al. 2017)


def build(spec: SegmenterSpec, initial: Initial = SCRATCH) -> nn.Module:
    """A network (n, 2 * context + 1, size, size) -> logits (n, 1, size, size).

    ImageNet weights are the encoder's, summed over RGB, those of a pre-training too; those of a file are the whole network's.
    """
    name = timm_name(spec.encoder)
    imagenet = initial.weights == "imagenet"
    local = weights.local_imagenet(name, initial.weights_dir) if imagenet else None
    fetched = imagenet and local is None
    if fetched:
        huggingface_hub.utils.logging.set_verbosity_error()  # its lines about retries; what failed is said below, once
    from_hub = (True if spec.encoder.startswith("tu-") else "imagenet") if fetched else None
    try:
        model = smp.create_model(spec.model, spec.encoder, from_hub, in_channels=2 * spec.context + 1, classes=1)
    except KeyError:
        near = difflib.get_close_matches(spec.encoder, smp.encoders.get_encoder_names(), n=3, cutoff=0.4)
        raise UserError(
            f"--encoder {spec.encoder} is unknown to segmentation_models_pytorch {smp.__version__}; "
            f"near it: {', '.join(near) or 'resnet18, resnet34, efficientnet-b0'}, or tu-NAME for one of timm"
        ) from None
    except (OSError, RuntimeError, ValueError, NotImplementedError) as error:
        if fetched:
            raise weights.missing(name, one_line(error)) from None
        reason = one_line(error)
        raise UserError(f"--model {spec.model} --encoder {spec.encoder} cannot be built: {reason}") from None
    if local is not None:
        networks.load_part(model.encoder, local[1], model.encoder.state_dict(), "imagenet")
    for path in initial.inputs():
        if weights.of_pretraining(initial):
            networks.load_part(model.encoder, checkpoints.read_state(path), model.encoder.state_dict(), str(path))
        else:
            checkpoints.load_fitting(model, checkpoints.read_state(path), path)
    _stop_if_size_does_not_fit(model, spec)
    return model


def timm_name(encoder: str) -> str:
    """The network of timm behind an encoder: `tu-NAME` and `timm-NAME` are NAME."""
    return encoder.removeprefix("tu-").removeprefix("timm-")


def _stop_if_size_does_not_fit(model: nn.Module, spec: SegmenterSpec) -> None:
    """Two black images tell whether an architecture can work at an image size."""
    size = spec.image_size
    try:
        with torch.inference_mode():
            shape = model.eval()(torch.zeros(2, 2 * spec.context + 1, size, size)).shape
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(
            f"--model {spec.model} --encoder {spec.encoder} cannot take {size} px ({one_line(error)}); "
            "choose a multiple of 32 as --image-size"
        ) from None
    if shape != (2, 1, size, size):
        raise UserError(f"--model {spec.model} makes {shape[-1]} px of {size} px; choose a multiple of 32 as --image-size")


def load(folder: Path, device: torch.device) -> tuple[nn.Module, SegmenterSpec]:
    """Rebuild the network of a fold folder from model.json and best.pt, in evaluation mode on the device."""
    spec = SegmenterSpec.read(folder)
    model = checkpoints.load_trained(build(spec), folder)
    return to_predict(model, device, spec.image_size), spec


# ---- what a network gets and gives


def logits(model: nn.Module, spec: SegmenterSpec, batch: torch.Tensor) -> torch.Tensor:
    """Windows in 0..1 to float32 logits (b, 1, side, side)."""
    return model(normalised(batch, spec)).float()


def levels(model: nn.Module, spec: SegmenterSpec, batch: torch.Tensor) -> torch.Tensor:
    """Windows in 0..1 to probabilities, 255 is 1: uint8 (b, side, side); with `spec.mirror` the mean with the mirror image's."""
    probability = logits(model, spec, batch).sigmoid()
    if spec.mirror:
        axis = 2 if spec.mirror == "vertical" else 3
        probability = (probability + logits(model, spec, batch.flip(axis)).sigmoid().flip(axis)) / 2
    return in_8_bit(probability)


def in_8_bit(probability: torch.Tensor) -> torch.Tensor:
    """Probabilities (b, 1, side, side) as uint8 (b, side, side), 255 is 1."""
    return (probability[:, 0] * 255).round().to(torch.uint8)


def normalised(batch: torch.Tensor, spec: SegmenterSpec) -> torch.Tensor:
    """Windows as the network gets them: grey values less the mean, over the standard deviation, of the data set or the window.

    Of a window only what is neither air nor bone counts: scanners and their grey level windows differ, and edema is seen by its
    contrast to the brain around it. Values beyond LIMIT standard deviations are cut: bone and air would drown the rest.
    """
    if spec.normalise == "dataset":
        return (batch - spec.mean).div_(spec.std)
    brain = ((batch > AIR) & (batch < BONE)).float()
    count = brain.sum(dim=(1, 2, 3), keepdim=True).clamp(min=1)
    mean = (batch * brain).sum(dim=(1, 2, 3), keepdim=True) / count
    std = (((batch - mean) ** 2 * brain).sum(dim=(1, 2, 3), keepdim=True) / count).sqrt().clamp(min=LEAST_STD)
    return ((batch - mean) / std).clamp(-LIMIT, LIMIT)


# ---- losses: functions of logits and targets (0 or 1), both float (n, 1, height, width)


def criterion(name: str) -> Criterion:
    """One of LOSSES. Dice, Tversky and Lovasz are those of all pixels of a batch together, for most slices are empty.

    `bce-window-dice`: the mean Dice loss of the images with a lesion, so that a small one counts as much as a large one.
    """
    return LOSSES[name]()


def _bce_dice() -> Criterion:
    dice = losses.DiceLoss(losses.BINARY_MODE, smooth=1.0)
    return lambda logits, targets: F.binary_cross_entropy_with_logits(logits, targets) + dice(logits, targets)


def _bce_window_dice() -> Criterion:
    import monai.losses  # two seconds, for training alone

    dice = monai.losses.DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0, reduction="none")

    def loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        positive = targets.amax(dim=(1, 2, 3)) > 0
        of_positive = (dice(logits, targets).flatten() * positive).sum() / positive.sum().clamp(min=1)
        return F.binary_cross_entropy_with_logits(logits, targets) + of_positive

    return loss


LOSSES: dict[str, Callable[[], Criterion]] = {
    "bce-dice": _bce_dice,
    "bce-window-dice": _bce_window_dice,
    "bce": lambda: F.binary_cross_entropy_with_logits,
    "dice": lambda: losses.DiceLoss(losses.BINARY_MODE, smooth=1.0),
    "focal": lambda: losses.FocalLoss(losses.BINARY_MODE),
    "tversky": lambda: losses.TverskyLoss(losses.BINARY_MODE, smooth=1.0, **TVERSKY),
    "lovasz": lambda: losses.LovaszLoss(losses.BINARY_MODE),
}
