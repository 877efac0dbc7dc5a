"""The losses of several tasks: unknown truth is left out, fixed weights and those by uncertainty add up as they should."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hemoct.multitask import sizes
from hemoct.multitask.options import CLASSIFY, SEGMENT, SIZE
from hemoct.multitask.train import Joint

MEAN_SQUARE = torch.nn.functional.mse_loss


def joint(weights: list[float], tasks=(CLASSIFY, SEGMENT, SIZE)) -> Joint:
    """Three slices; of the second no label is known, of the third neither mask nor size."""
    known = {CLASSIFY: [1, 0, 1], SEGMENT: [1, 1, 0], SIZE: [1, 1, 0]}
    return Joint(
        slices=None,
        spec=SimpleNamespace(tasks=list(tasks)),
        data=None,
        criteria=dict.fromkeys(tasks, MEAN_SQUARE),
        known={task: torch.tensor(of_task, dtype=torch.bool) for task, of_task in known.items()},
        targets={},
        strength=None,
        weights=weights,
    )


OUTPUTS = {
    CLASSIFY: torch.tensor([[1.0], [9.0], [3.0]]),
    SEGMENT: torch.tensor([2.0, 4.0, 9.0]).reshape(3, 1, 1, 1),
    SIZE: torch.tensor([1.0, 1.0, 9.0]),
}
TARGETS = {
    CLASSIFY: torch.tensor([[0.0], [torch.nan], [0.0]]),
    SEGMENT: torch.zeros(3, 1, 1, 1),
    SIZE: torch.tensor([0.0, 0.0, torch.nan]),
}


def test_what_is_not_known_does_not_count():
    losses = joint([1, 1, 1]).losses(OUTPUTS, torch.arange(3), TARGETS)
    assert {task: (loss.item(), count) for task, (loss, count) in losses.items()} == {
        CLASSIFY: (5.0, 2),
        SEGMENT: (10.0, 2),
        SIZE: (1.0, 2),
    }
    of_third = {task: target[2:] for task, target in TARGETS.items()}
    alone = joint([1, 1, 1]).losses({task: output[2:] for task, output in OUTPUTS.items()}, torch.tensor([2]), of_third)
    assert set(alone) == {CLASSIFY}, "no mask, no loss of it"


@pytest.mark.parametrize(("weights", "expected"), [([1.0, 1.0, 1.0], 16.0), ([2.0, 0.5, 3.0], 18.0)])
def test_fixed_weights(weights, expected):
    one = joint(weights)
    losses = one.losses(OUTPUTS, torch.arange(3), TARGETS)
    assert one.total(SimpleNamespace(log_variances=torch.zeros(3)), losses).item() == expected


def test_weights_by_uncertainty_follow_the_losses():
    """L / s² + log s is least where s² = 2 L; of the regression L / 2 s² + log s where s² = L."""
    one, model = joint([]), SimpleNamespace(log_variances=torch.zeros(3, requires_grad=True))
    losses = one.losses(OUTPUTS, torch.arange(3), TARGETS)
    assert one.total(model, losses).item() == pytest.approx(5 + 10 + 0.5)
    optimizer = torch.optim.Adam([model.log_variances], 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        one.total(model, losses).backward()
        optimizer.step()
    torch.testing.assert_close(model.log_variances.exp(), torch.tensor([10.0, 20.0, 1.0]), atol=0.1, rtol=0.01)


def test_sizes():
    assert sizes.scale(np.array([np.nan, 0.0, 0.25, 1.0])) == pytest.approx(np.std([0, 0.5, 1]))
    assert sizes.scale(np.array([np.nan])) == sizes.scale(np.array([0.5])) == 1.0
    assert sizes.correlation(np.array([1, 2, 3]), np.array([2, 4, 9])) == pytest.approx(1)
    assert np.isnan(sizes.correlation(np.array([1, 1, 1]), np.array([2, 4, 9])))
