"""Losses of task 4: each label of each image by itself, unknown ones left out.

Functions of logits and truths, float (n, labels) each; a truth is 0, 1 or NaN where it is unknown. The loss is the mean over the
known ones, so that a label that few images know counts as often as it is known.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.loss import AsymmetricLossMultiLabel
from torchvision.ops import sigmoid_focal_loss

LossFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
NAMES = ("bce", "weighted-bce", "focal", "asymmetric")
FOCAL = {"alpha": -1.0, "gamma": 2.0}  # Lin et al. 2017, without its weight of the positives
ASYMMETRIC = {"gamma_pos": 0.0, "gamma_neg": 4.0, "clip": 0.05}  # Ridnik et al. 2021


def loss_function(name: str, pos_weight: torch.Tensor | None = None) -> LossFunction:
    """One of NAMES. `pos_weight` (labels,): how much a positive counts in `weighted-bce`; see `balancing_weights`."""
    if (name == "weighted-bce") != (pos_weight is not None):
        raise ValueError("pos_weight belongs to weighted-bce, and to no other loss")
    of_cells = _of_cells(name)

    def loss(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        known = ~torch.isnan(truth)
        weights = torch.ones_like(found) if pos_weight is None else pos_weight.to(found).expand_as(found)
        return of_cells(found[known], truth[known], weights[known]) / known.sum().clamp(min=1)

    return loss


def _of_cells(name: str) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]:
    """The sum of a loss over logits, truths and weights of positives, (k,) each."""
    if name == "focal":
        return lambda found, truth, _: sigmoid_focal_loss(found, truth, **FOCAL, reduction="sum")
    if name == "asymmetric":
        asymmetric = AsymmetricLossMultiLabel(**ASYMMETRIC, reduction="sum")
        return lambda found, truth, _: asymmetric(found, truth)
    return lambda found, truth, weight: F.binary_cross_entropy_with_logits(found, truth, pos_weight=weight, reduction="sum")


def balancing_weights(truth: torch.Tensor) -> torch.Tensor:
    """Negatives over positives of each label among the known truths (n, labels): (labels,); 1 where a label has neither."""
    positive, negative = (truth == 1).sum(dim=0), (truth == 0).sum(dim=0)
    return torch.where((positive > 0) & (negative > 0), negative / positive.clamp(min=1), 1.0)
