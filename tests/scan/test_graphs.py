"""Graphs of a bundle say what the networks of PyTorch say: each task and family, from grey values to the answer."""

import importlib

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import untrained
from helpers.simulated_boxes import spec as detector
from helpers.simulated_networks import spec_for as segmenter
from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.scan import graphs, onnx_runners, torch_runners
from hemoct.training.offline_ultralytics import nms

augment, ops = map(importlib.import_module, ("ultralytics.data.augment", "ultralytics.utils.ops"))  # after ours: no network


@pytest.fixture
def both(tmp_path):
    """A spec to the same network as a graph and in PyTorch."""

    def make(task: int, spec):
        folder = untrained.put(tmp_path / "e" / "fold0", spec)
        kind = graphs.write(task, folder, tmp_path / "one.onnx")
        network = onnx_runners.KINDS[kind](tmp_path / "one.onnx", spec.image_size, 1)
        return network, torch_runners.load(task, [folder], "cpu", None)[0]

    return make


def grey(*shape: int) -> np.ndarray:
    """Smooth noise, of other brightness and contrast in each image."""
    random, (*many, height, width) = np.random.default_rng(0), shape
    made = np.empty((int(np.prod(many)), height, width), np.uint8)
    for one in made:
        low, high = sorted(random.integers(0, 256, 2))
        small = random.integers(low, high + 1, (height // 5 + 2, width // 5 + 2), dtype=np.uint8)
        one[:] = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return made.reshape(shape)


CLASSIFIERS = {
    "padded": (1, untrained.classifier(backbone="tf_efficientnet_lite0", image_size=64)),
    "joined": (1, untrained.classifier(joined=["resnet10t"], units=[8], image_size=64)),
    "exclusive": (1, untrained.classifier(classes=["none", "IPH", "SAH"], exclusive=True)),
    "planes": (4, untrained.types(channels=3, context=1)),
    "attention": (4, untrained.types(attention=True)),
    "own head": (4, untrained.types(classes=["any", "IPH", "SAH"], heads=["any", "types"])),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_probabilities_are_those_of_pytorch(both, name):
    task, spec = CLASSIFIERS[name]
    ours, theirs = both(task, spec)
    pixels = grey(5, getattr(spec, "planes", 1), spec.image_size, spec.image_size)
    found = ours.probabilities(pixels)
    assert found.dtype == np.float64 and found.shape == (5, len(spec.classes)) and np.ptp(found, axis=0).max() > 1e-3
    assert np.abs(found - theirs.probabilities(pixels)).max() < 1e-5
    assert np.abs(ours.probabilities(pixels[:1]) - found[:1]).max() < 1e-6


def test_maps_are_those_of_pytorch_where_a_linear_layer_follows(both, tmp_path):
    ours, theirs = both(1, untrained.classifier(backbone="resnet10t", image_size=64))
    pixels = grey(5, 1, 64, 64)
    found, expected = ours.maps(pixels), theirs.maps(pixels)
    assert found.shape == expected.shape and expected.max() > 0 and np.abs(found - expected).max() < 1e-5 * max(1, expected.max())

    fold = {"fold": 0, "layer": "layer3"}  # chosen by an explanation: what follows bends
    files.write_json(tmp_path / "e/explain/hirescam/metrics.json", {"folds": [fold]})
    ours, _ = both(1, untrained.classifier(backbone="resnet10t", image_size=64))
    assert ours.maps(pixels) is None


@pytest.mark.parametrize(
    ("spec", "sizes"),
    [
        (segmenter(), 32),
        (segmenter(context=1, mirror="horizontal", source_size=48), 48),
        (segmenter(normalise="window", region="box", source_size=64, mirror="vertical", margin=0.1, least_side=32), 64),
    ],
    ids=["slice", "neighbours", "window"],
)
def test_patches_are_those_of_pytorch(both, spec, sizes):
    ours, theirs = both(3, spec)
    squares, rows = grey(3, 2 * spec.context + 1, sizes, sizes), np.array([0, 0, 1, 2, 2, 2])
    places = np.array([[0, 0, sizes], [4, 2, 32], [-10, -8, 40], [20, 20, 64], [3, 5, 33], [0, 0, 16]], dtype=float)
    found, expected = ours.patches(squares, rows, places), theirs.patches(squares, rows, places)
    assert found.shape == (6, 32, 32) and found.dtype == np.uint8 and np.ptp(found) > 20
    far = np.abs(found.astype(int) - expected)
    assert far.max() <= 1 and (far > 0).mean() < 0.01
    assert ours.patches(squares, rows[:0], places[:0]).shape == (0, 32, 32)


SLICES = [[(60, 100)] * 3, [(64, 64)] * 5, [(50, 70), (130, 40), (64, 64)], [(20, 200)]]
"""heights and widths of images that are predicted together"""


def same_boxes(ours, theirs, share: float = 1.0) -> None:
    """Compare boxes on images of several sizes; `share`: of theirs that have to be there."""
    there = []
    for sizes in SLICES:
        images = [grey(*size) for size in sizes]
        for found, expected in zip(ours.boxes(images), theirs.boxes(images), strict=True):
            assert found.dtype == np.float64 and abs(len(found) - len(expected)) <= 30 * (1 - share) + 0.2
            off = np.abs(found[:, None] - expected[None]) / [0.1, 0.1, 0.1, 0.1, 1e-3, 0.1]
            there += (off.max(axis=2).min(axis=0, initial=9) < 1).tolist()
    assert len(there) > 50 and np.mean(there) >= share


@pytest.mark.parametrize("name", ["yolov8n", "yolov10n"])
def test_boxes_of_ultralytics_are_those_of_pytorch(both, name):
    ours, theirs = both(2, detector(name, ("a", "b")))
    same_boxes(ours, theirs, share=0.97)  # an overlap that is all but the limit may fall to the other side
    shape, fed = (60, 100), (64, 64)
    candidates = ours.run("candidates", pixels=grey(4, 1, *fed))
    kept = nms.non_max_suppression(torch.from_numpy(candidates.copy()), 0.001, 0.7, multi_label=True, max_det=30)
    for found, expected in zip(candidates, kept, strict=True):
        expected[:, :4] = ops.scale_boxes(fed, expected[:, :4], shape)
        assert np.array_equal(ours.kept(found, shape, fed), expected.numpy().astype(float)) and len(expected) > 10


@pytest.mark.parametrize("shrunk", [True, False])
def test_images_of_any_size_are_letterboxed_as_by_ultralytics_and_boxes_moved_back(shrunk):
    random = np.random.default_rng(2)
    for height, width in [(1, 300), (3, 200), (512, 512), *random.integers(2, 700, (60, 2)).tolist()]:
        image = grey(height, width)
        theirs = augment.LetterBox((96, 96), auto=shrunk, stride=32)(image=np.repeat(image[:, :, None], 3, axis=2))
        ours = onnx_runners.letterbox(image, 96, shrunk)
        assert np.array_equal(ours, theirs[:, :, 0])
        corners = random.uniform(-5, 101, (7, 4)).astype(np.float32)
        expected = ops.scale_boxes(ours.shape, torch.from_numpy(corners.copy()), image.shape).numpy()
        assert np.array_equal(onnx_runners.in_image(corners, image.shape, ours.shape), expected)


@pytest.mark.parametrize("name", ["fasterrcnn_mobilenet_v3_large_fpn", pytest.param("fcos_resnet50_fpn", marks=pytest.mark.slow)])
def test_boxes_of_torchvision_are_those_of_pytorch(both, name):
    same_boxes(*both(2, detector(name, ("a", "b"))))


def test_a_network_that_onnx_cannot_hold_stops_in_one_line(tmp_path, monkeypatch):
    folder = untrained.put(tmp_path / "fold0", untrained.classifier())

    def fail(*_, **__):
        raise RuntimeError("Exporting the operator 'aten::strange' to ONNX is not supported")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(UserError, match=r"fold0: its network \(resnet10t\) cannot be exported to ONNX .*strange"):
        graphs.write(1, folder, tmp_path / "one.onnx")


def test_a_graph_that_says_something_else_is_not_kept(tmp_path, monkeypatch):
    folder = untrained.put(tmp_path / "fold0", untrained.classifier())
    monkeypatch.setattr(graphs, "CLOSE", -1.0)
    with pytest.raises(UserError, match="differ in probabilities"):
        graphs.write(1, folder, tmp_path / "one.onnx")
