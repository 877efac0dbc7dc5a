"""Losses of several labels: values by hand, unknown truths without influence, positives as heavy as they are told to be."""

import math

import pytest
import torch

from hemoct.multilabel import train
from hemoct.multilabel.options import LOSSES

LOGITS = torch.tensor([[2.0, -1.2, 0.5], [-0.5, 0.8, 1.5]])
TARGETS = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
UNKNOWN = torch.tensor([[1.0, math.nan, 1.0], [0.0, 1.0, math.nan]])
WEIGHT = torch.tensor([1.0, 2.0, 5.0])


def by_hand(name: str, z: float, y: float, weight: float) -> float:
    p = 1 / (1 + math.exp(-z))
    if name == "asymmetric":  # Ridnik et al. 2021, eq. 5 to 7: the probability of a negative is lowered by 0.05
        lowered = max(p - 0.05, 0)
        return -math.log(p) if y else -(lowered**4) * math.log(1 - lowered)
    bce = -weight * math.log(p) if y else -math.log(1 - p)
    return bce if name != "focal" else bce * ((1 - p) if y else p) ** 2  # Lin et al. 2017, eq. 4


def loss_of(name: str, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return train.loss_function(name, WEIGHT if name == "weighted-bce" else None)(logits, targets)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("targets", [TARGETS, UNKNOWN])
def test_the_mean_over_what_is_known(name, targets):
    weights = WEIGHT if name == "weighted-bce" else torch.ones(3)
    cells = [by_hand(name, LOGITS[row, label].item(), targets[row, label].item(), weights[label].item())
             for row in range(2) for label in range(3) if not torch.isnan(targets[row, label])]  # fmt: skip
    assert loss_of(name, LOGITS, targets).item() == pytest.approx(sum(cells) / len(cells), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_an_unknown_truth_moves_nothing(name):
    logits = LOGITS.clone().requires_grad_()
    loss_of(name, logits, UNKNOWN).backward()
    unknown = torch.isnan(UNKNOWN)
    assert (logits.grad[unknown] == 0).all() and (logits.grad[~unknown] != 0).all()
    nothing = LOGITS.clone().requires_grad_()
    loss = loss_of(name, nothing, torch.full_like(LOGITS, math.nan))
    loss.backward()
    assert loss.item() == 0 and (nothing.grad == 0).all()


def test_weights_that_balance_each_label():
    truth = torch.tensor([[1, 0, 0, 1], [0, 0, math.nan, 1], [0, 0, 1, 1], [0, 0, 0, 1]])
    assert train.balancing_weights(truth).tolist() == [3, 1, 2, 1]
