"""Class activation maps of batches of images, by captum: where a layer speaks for a label.

Of activations A (channels, side, side) and the gradient G of a label's logit at them
    gradcam   ReLU(sum over channels of mean(G) * A)    Selvaraju et al. 2017
    hirescam  ReLU(sum over channels of G * A)          Draelos and Carin 2020
    ablation  ReLU(sum over channels of w * A), w: by how much the logit falls when the channel is 0    Desai and Ramaswamy 2020
"""

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import LayerActivation, LayerFeatureAblation, LayerGradCam, LayerGradientXActivation
from torch import nn
from tqdm import tqdm

from hemoct.training.batches import Source
from hemoct.training.specs import Spec

GROUPS = 32
"""channels are put out in so many groups of neighbours, a forward pass each; a network of 1280 channels would never end"""


def prepare(model: nn.Module) -> nn.Module:
    """The model in evaluation mode, with no weight that asks for a gradient, and no layer that overwrites what captum keeps."""
    for module in model.eval().modules():
        if getattr(module, "inplace", False):
            module.inplace = False
    return model.requires_grad_(False)


class Against(nn.Module):
    """A network with its logits turned round: what speaks against each label."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return -self.model(images)


def heat(
    model: nn.Module, spec: Spec, source: Source, cases: tuple[np.ndarray, np.ndarray], how: tuple[str, str, int]
) -> np.ndarray:
    """The maps of cases at the size of the layer: float32 (n, side, side), none below 0.

    `model`: see `prepare`. `cases`: the row in the source and the number of the label of each, int (n,) each. `how`: method, name
    of the layer, images in a batch.
    """
    (rows, labels), (method, name, size) = cases, how
    if not len(rows):
        return np.zeros((0, 1, 1), np.float32)
    layer, made = model.get_submodule(name), []
    order = torch.tensor(labels, device=source.device)
    batches = source.batches(torch.tensor(rows), size)
    for place, images in tqdm(batches, desc=f"{method} {name}", total=-(-len(rows) // size), disable=None):
        images = (images - spec.mean) / spec.std
        made.append(_METHODS[method](model, layer, images, order[place.to(order.device)]).cpu().numpy())
    return np.concatenate(made)


def _gradcam(model: nn.Module, layer: nn.Module, images: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    found = LayerGradCam(model, layer).attribute(images.requires_grad_(), target=label, relu_attributions=True)
    return found.detach()[:, 0]


def _hirescam(model: nn.Module, layer: nn.Module, images: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    found = LayerGradientXActivation(model, layer).attribute(images.requires_grad_(), target=label)
    return F.relu(found.detach().sum(dim=1))


@torch.no_grad()
def _ablation(model: nn.Module, layer: nn.Module, images: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Not divided by the logit, as the paper does: a map is looked at relative to its maximum, and a logit may be below 0."""
    activation = LayerActivation(model, layer).attribute(images)
    channels = activation.shape[1]
    groups = (torch.arange(channels, device=images.device) * min(GROUPS, channels) // channels).reshape(1, -1, 1, 1)
    fall = LayerFeatureAblation(model, layer).attribute(images, target=label, layer_mask=groups)
    return F.relu((fall * activation).sum(dim=1))


_METHODS = {"gradcam": _gradcam, "hirescam": _hirescam, "ablation": _ablation}
