"""Augmentation moves each slice of a batch by itself, keeps shape and range, and follows its generator."""

import pytest
import torch

from hemoct.training import augment as training_augment
from hemoct.training.options import STRENGTHS, Augmentation, Strength

STILL = Strength(mirror=False, brightness=0, contrast=0)


def augment(*given) -> torch.Tensor:
    """The augmented slices alone."""
    return training_augment.augment(*given)[0]


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def batch() -> torch.Tensor:
    return torch.rand(16, 1, 24, 24, generator=generator(0))


@pytest.mark.parametrize("kind", [kind for kind in STRENGTHS if kind != "none"])
def test_shape_range_and_repeatability(batch, kind):
    first, again, other = (augment(batch, STRENGTHS[kind], "horizontal", generator(seed)) for seed in (1, 1, 2))
    assert first.shape == batch.shape and first.min() >= 0 and first.max() <= 1
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_no_strength_is_no_change(batch):
    torch.testing.assert_close(augment(batch, STILL, "vertical", generator()), batch, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("axis", "dimension"), [("horizontal", -1), ("vertical", -2)])
def test_about_half_of_the_slices_are_mirrored_along_the_axis(axis, dimension):
    batch = torch.rand(200, 1, 8, 8, generator=generator(0))
    moved = augment(batch, Strength(brightness=0, contrast=0), axis, generator())
    same = (moved - batch).abs().amax(dim=(1, 2, 3)) < 1e-5
    mirrored = (moved - batch.flip(dimension)).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert (same ^ mirrored).all() and 70 < mirrored.sum() < 130


def test_heads_are_mirrored_left_to_right_not_front_to_back():
    axes = {where: Augmentation(mirror="auto").axis(where) for where in ("left", "right", "up", "down", "unknown")}
    assert axes == {"left": "vertical", "right": "vertical", "up": "horizontal", "down": "horizontal", "unknown": "horizontal"}
    assert Augmentation(mirror="horizontal").axis("left") == "horizontal"


def test_each_slice_of_a_batch_draws_its_own_angle():
    one = torch.zeros(1, 1, 33, 33)
    one[..., 4:10, 15:18] = 1
    moved = augment(
        one.repeat(8, 1, 1, 1), Strength(mirror=False, degrees=45, brightness=0, contrast=0), "horizontal", generator()
    )
    assert len({tuple(image.flatten().tolist()) for image in moved}) == 8


def test_a_quarter_turn_turns_the_right_way(monkeypatch):
    batch = torch.rand(1, 1, 9, 9, generator=generator(0))
    monkeypatch.setattr(training_augment.torch, "rand", lambda n, **_: torch.ones(n))
    moved = augment(batch, Strength(mirror=False, degrees=90, brightness=0, contrast=0), "horizontal", generator())
    turned = [torch.rot90(batch, k, dims=(-2, -1)) for k in (1, 3)]
    assert min((moved - candidate).abs().max() for candidate in turned) < 1e-4


def test_brightness_and_contrast_stay_within_their_limits():
    grey = torch.full((64, 1, 4, 4), 0.5)
    moved = augment(grey, Strength(mirror=False, brightness=0.1, contrast=0.2), "horizontal", generator())
    assert moved.min() >= 0.5 * 0.8 - 0.1 and moved.max() <= 0.5 * 1.2 + 0.1
    assert moved.flatten(1).mean(1).std() > 0.02


@pytest.mark.parametrize(("height", "width"), [(32, 32), (100, 64), (224, 224)])
def test_places_are_those_of_torch(height, width):
    moves = training_augment.draw_moves(5, STRENGTHS["strong"], "horizontal", generator())
    grid = torch.nn.functional.affine_grid(moves, [5, 1, height, width], align_corners=False)
    torch.testing.assert_close(training_augment.places(moves, height, width), grid, rtol=0, atol=1e-6)  # on some processors equal
