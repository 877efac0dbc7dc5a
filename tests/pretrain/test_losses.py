"""The contrastive losses against loops that follow their papers word by word."""

import math

import pytest
import torch

from hemoct.pretrain import losses


@pytest.fixture
def views() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    first = torch.randn(6, 8)
    return first, first + 0.5 * torch.randn(6, 8)


def slow_supervised(first: torch.Tensor, second: torch.Tensor, classes: list[int], temperature: float) -> float:
    """Khosla et al. 2020, eq. 2."""
    z = [vector / vector.norm() for vector in (*first, *second)]
    classes, total = classes * 2, 0.0
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        below = sum(math.exp(float(z[i] @ z[a]) / temperature) for a in others)
        alike = [p for p in others if classes[p] == classes[i]]
        total += -sum(math.log(math.exp(float(z[i] @ z[p]) / temperature) / below) for p in alike) / len(alike)
    return total / len(z)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
@pytest.mark.parametrize("classes", [[0, 1, 0, 2, 1, 0], [1] * 6])
def test_supcon_is_the_formula_of_its_paper(views, classes, temperature):
    fast = losses.supervised_contrastive(*views, torch.tensor(classes), temperature)
    assert float(fast) == pytest.approx(slow_supervised(*views, classes, temperature), rel=1e-5)


def test_simclr_is_supcon_of_slices_that_are_classes_of_their_own(views):
    assert float(losses.nt_xent(*views, 0.5)) == pytest.approx(slow_supervised(*views, list(range(6)), 0.5), rel=1e-5)


def test_vicreg_is_the_formula_of_its_paper(views):
    n, d = views[0].shape
    invariance = sum(float((a - b) ** 2) for z, other in zip(*views, strict=True) for a, b in zip(z, other, strict=True)) / (
        n * d
    )
    variance = covariance = 0.0
    for z in views:
        mean = [sum(float(row[j]) for row in z) / n for j in range(d)]
        c = [[sum((float(row[i]) - mean[i]) * (float(row[j]) - mean[j]) for row in z) / (n - 1) for j in range(d)]
             for i in range(d)]  # fmt: skip
        variance += sum(max(0.0, 1 - math.sqrt(c[j][j] + 1e-4)) for j in range(d)) / d / 2
        covariance += sum(c[i][j] ** 2 for i in range(d) for j in range(d) if i != j) / d
    assert float(losses.vicreg(*views)) == pytest.approx(25 * invariance + 25 * variance + covariance, rel=1e-4)


def test_losses_have_gradients_at_equal_views_too(views):
    first = views[0].clone().requires_grad_()
    for loss in (losses.nt_xent(first, views[0], 0.2), losses.vicreg(first, views[0])):
        (gradient,) = torch.autograd.grad(loss, first)
        assert torch.isfinite(gradient).all()
