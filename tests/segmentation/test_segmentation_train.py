"""Validation, probabilities and normalised windows of a segmentation network, without any training."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from helpers import toy
from helpers.simulated_networks import spec_for
from hemoct.data import images
from hemoct.segmentation import data as segmentation_data, metrics, networks, train, windows
from hemoct.segmentation.windows import Windows
from hemoct.training.options import Initial, Training


def test_validation_in_bf16_sees_windows_where_they_are(work, monkeypatch):
    toy.make(work, patients=5, slices=3, size=256, radius=40, boxes=True, masks=True)
    slices = train.Slices(work, segmentation_data.load(work), spec_for(source_size=256, image_size=64), torch.device("cpu"))
    validation = train.Validation.of(slices, np.arange(15), np.repeat(np.arange(5), 3))
    wanted = Windows(np.array([0, 1]), np.array([[180.0, 10, 64], [33, 151, 64]]), np.ones(2))
    seen, real = [], networks.logits
    monkeypatch.setattr(networks, "logits", lambda *words: seen.append(words[-1]) or real(*words))
    fit = SimpleNamespace(averaged=nn.Conv2d(1, 1, 1), options=Training(batch_size=2),
                          autocast=lambda: torch.autocast("cpu", dtype=torch.bfloat16))  # fmt: skip
    train.validate(fit, train.Masked(slices, networks.criterion("bce"), None, "horizontal"), validation, wanted)
    assert torch.equal(seen[0], next(slices.batches(wanted, 2))[0])


@pytest.fixture
def slices(work):
    """15 slices of 5 patients, 32 x 32."""
    toy.make(work, patients=5, slices=3, size=32, radius=5, boxes=True, masks=True)
    return train.Slices(work, segmentation_data.load(work), spec_for(), torch.device("cpu"))


def test_slices_without_a_window_count_as_empty_in_validation(slices):
    rows, patients, random = np.arange(3, 12), np.repeat(list("abc"), 3), np.random.default_rng(0)
    wanted = Windows(np.array([1, 4, 4, 8]), np.array([[0.0, 0, 16], [2, 3, 16], [20, 9, 16], [8, 8, 16]]), np.ones(4))
    patches = random.integers(0, 256, (4, 16, 16)).astype(np.uint8)
    canvases = np.zeros((15, 32, 32), dtype=np.uint8)  # row 1 is not scored; the windows of row 4 overlap nowhere
    for row, (x, y, _), patch in zip(wanted.rows, wanted.places.astype(int), patches, strict=True):
        canvases[row, y : y + 16, x : x + 16] = patch[:, : 32 - x]
    pairs = [(canvases[row], slices.truth(row)) for row in rows]
    assert sum(mask.any() and not canvas.any() for canvas, mask in pairs) > 1
    expected = metrics.best_threshold(metrics.Histograms.of(pairs), patients)
    assert train.Validation.of(slices, rows, patients).best(wanted, patches) == pytest.approx(expected)


def test_boxes_that_only_bring_false_alarms_are_not_looked_into(slices):
    rows, full = np.arange(15), [slices.truth(row).any() for row in range(15)]
    drawn, empty = full.index(True), full.index(False)
    y, x = (one.min() for one in np.nonzero(slices.truth(drawn)))
    of_lesion, alarm = (drawn, [x - 3.0, y - 3, 16], 0.8), (empty, [0.0, 0, 32], 0.35)
    wanted = Windows(*(np.array(column) for column in zip(*sorted([of_lesion, alarm]), strict=True)))
    validation = train.Validation.of(slices, rows, np.array(["a"] * 15))

    class Sure(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return torch.full_like(batch, 50.0)

    assert train.choose_confidence(validation, wanted, [*train.patches(Sure(), slices, wanted, 4)]) == 0.4


@pytest.mark.parametrize(("mirror", "also"), [("horizontal", (0, -1)), ("vertical", (0, 1)), (None, (0, 1))])
def test_the_mean_over_the_mirrored_image_is_along_its_axis(slices, mirror, also):
    """A network that draws one pixel to the right of what it sees: mirrored along x, one pixel to the left."""
    grey = torch.as_tensor(np.array(slices.grey.store.pixels[0])) / 255
    slices.spec = replace(slices.spec, mirror=mirror, mean=float(grey.mean()), std=0.01)

    class Shift(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return batch.roll(1, dims=3)

    predicted = next(train.patches(Shift(), slices, windows.whole_slices(np.array([0]), 32), 1)).astype(float)
    logit = (grey - grey.mean()) / 0.01
    moved = [logit.sigmoid().roll(shift, dims=(0, 1)).numpy() * 255 for shift in ((0, 1), also)]
    assert np.ptp(moved[0]) > 100 and np.abs(predicted - np.mean(moved, axis=0)).max() < 2


def test_neighbours_are_channels_around_their_slice(work):
    toy.make(work, patients=5, slices=3, size=32, boxes=True, masks=True)
    data = segmentation_data.load(work)
    spec = spec_for(context=1, source_size=32, image_size=32)
    slices = train.Slices(work, data, spec, torch.device("cpu"))
    wanted = windows.whole_slices(np.array([0, 1, 2, 3]), 32)
    batch, masks = next(slices.batches(wanted, 4))
    pixels = torch.from_numpy(np.array(images.cached(work, data.table, 32))).float() / 255
    expected = torch.stack([pixels[[0, 0, 1]], pixels[[0, 1, 2]], pixels[[1, 2, 2]], pixels[[3, 3, 4]]])
    assert torch.allclose(batch, expected, atol=1e-5)
    assert (masks[:, 0].bool().numpy() == np.stack([slices.truth(row) for row in range(4)])).all() and masks.any()


def test_a_window_normalised_by_its_own_brain_does_not_know_the_scanners_window():
    random = np.random.default_rng(0)
    brain = torch.as_tensor(random.uniform(0.3, 0.5, (1, 1, 16, 16)), dtype=torch.float32)
    brain[..., :4, :] = 1.0  # bone
    brain[..., 12:, :] = 0.0  # air
    graded = torch.where((brain > 0) & (brain < 1), brain * 1.2 + 0.05, brain)
    spec = spec_for(normalise="window")
    one, other = networks.normalised(brain, spec), networks.normalised(graded, spec)
    assert torch.allclose(one[..., 4:12, :], other[..., 4:12, :], atol=1e-4)
    assert abs(float(one[..., 4:12, :].mean())) < 1e-4 and one.abs().max() <= networks.LIMIT
    assert not torch.allclose(*(networks.normalised(one, spec_for()) for one in (brain, graded)), atol=0.1)
    assert bool(networks.normalised(torch.zeros(1, 1, 4, 4), spec).isfinite().all())


def test_the_origin_of_weights_is_that_of_the_encoder_that_was_taken():
    assert train._origin(Initial(weights="none"), "resnet34") is None
    assert train._origin(Initial(), "tu-tf_efficientnet_lite0")["source"].startswith("package")
    assert train._origin(Initial(), "tu-resnet34")["source"].startswith("hub timm/")
    assert train._origin(Initial(), "resnet34")["source"] == "hub of segmentation_models_pytorch"
