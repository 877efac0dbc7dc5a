"""Class activation maps: their formulas by hand, batches, and the layers that have some."""

from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from torch import nn

from hemoct.base.errors import UserError
from hemoct.explain import layers, maps
from hemoct.explain.options import AUTO, METHODS
from hemoct.training.batches import Store

SPEC = SimpleNamespace(image_size=32, mean=0.5, std=0.25, backbone="test_resnet")
CPU = torch.device("cpu")


class Two(nn.Module):
    """Two maps; the first label is their place-weighted sum, the second is less of the first map."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(1, 2, 1, bias=False)
        self.maps.weight.data = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1)
        self.register_buffer("where", torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 3.0]]]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.maps(images)
        return torch.stack([(found * self.where).sum(dim=(1, 2, 3)), -found[:, 0].sum(dim=(1, 2))], dim=1)


def of_two(method: str, label: int) -> np.ndarray:
    pixels = np.array([[[51, 102], [153, 204]]], np.uint8)  # 0.2, 0.4, 0.6, 0.8
    spec = SimpleNamespace(mean=0.0, std=1.0)
    cases = np.array([0]), np.array([label])
    return maps.heat(maps.prepare(Two()), spec, Store(pixels, CPU), cases, (method, "maps", 4))[0]


def test_each_method_is_its_formula():
    image = np.array([[0.2, 0.4], [0.6, 0.8]])
    assert of_two("gradcam", 0) == pytest.approx(image * 1 / 4 + 2 * image * 3 / 4, abs=1e-6), (
        "the mean gradients are 1/4 and 3/4"
    )
    assert of_two("hirescam", 0) == pytest.approx(np.array([[0.2, 0], [0, 2 * 0.8 * 3]]), abs=1e-6), "no mean of gradients"
    assert of_two("ablation", 0) == pytest.approx(0.2 * image + (2 * 0.8 * 3) * 2 * image, abs=1e-6), (
        "by how much the logit falls"
    )
    assert [of_two(method, 1).max() for method in METHODS] == [0, 0, 0], "what speaks against a label is no heat"


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_its_images_one_by_one(method):
    torch.manual_seed(0)
    model = maps.prepare(timm.create_model("test_resnet", in_chans=1, num_classes=3))
    source = Store(np.random.default_rng(0).integers(0, 255, (5, 32, 32), dtype=np.uint8), CPU)
    cases = np.array([4, 0, 2, 3]), np.array([0, 2, 1, 0])
    together, single = (maps.heat(model, SPEC, source, cases, (method, "layer2", size)) for size in (3, 1))
    assert together.shape == (4, 4, 4) and together.max() > 0 and together.min() >= 0
    assert together == pytest.approx(single, abs=1e-5)
    assert maps.heat(model, SPEC, source, (cases[0][:0], cases[1][:0]), (method, "layer2", 3)).shape[0] == 0


@pytest.mark.parametrize(("name", "ends"), [
    ("resnet10t", ["layer1", "layer2", "layer3", "layer4"]),
    ("tf_efficientnet_lite0", ["blocks.1", "blocks.2", "blocks.4", "bn2"]),
    ("densenet121", ["features.denseblock1", "features.denseblock2", "features.denseblock3", "features"]),
    ("mobilenetv3_small_050", ["blocks.0", "blocks.1", "blocks.3", "blocks"]),
    ("convnext_atto", ["stem", "stages.1", "stages.2", "norm_pre"]),
])  # fmt: skip
def test_auto_is_the_end_of_each_stage(name, ends):
    model = timm.create_model(name, in_chans=1, num_classes=1).eval()
    spec = SimpleNamespace(image_size=96, backbone=name)
    assert layers.chosen(model, spec, 1, [AUTO]) == ends


def test_layers_that_are_not_there_or_have_no_maps_stop():
    model = timm.create_model("test_resnet", in_chans=1, num_classes=1).eval()
    assert layers.chosen(model, SPEC, 1, ["layer1", "layer2.0.conv1"]) == ["layer1", "layer2.0.conv1"]
    with pytest.raises(UserError, match=r"--layer layer9 is no layer of test_resnet; layers with maps: .*layer1.*layer3"):
        layers.chosen(model, SPEC, 1, ["layer9"])
    with pytest.raises(UserError, match=r"--layer fc has no maps"):
        layers.chosen(model, SPEC, 1, ["fc"])
    body = nn.Sequential()
    body.add_module("body", timm.create_model("test_resnet", in_chans=1, num_classes=0))
    assert layers.chosen(body.eval(), SPEC, 1, ["layer1"]) == ["body.layer1"], "networks of task 4 hold the backbone"
    assert list(map(layers.shown, layers.chosen(body, SPEC, 1, [AUTO]))) == layers.chosen(model, SPEC, 1, [AUTO])


def test_a_transformer_stops_but_for_a_layer_with_maps():
    model = timm.create_model("test_vit", in_chans=1, num_classes=1, img_size=32).eval()
    spec = SimpleNamespace(image_size=32, backbone="test_vit")
    with pytest.raises(UserError, match=r"test_vit ends in features of shape .* not in maps, as transformers do"):
        layers.chosen(model, spec, 1, [AUTO])
    assert layers.chosen(model, spec, 1, ["patch_embed.proj"]) == ["patch_embed.proj"]
    tiny = timm.create_model("test_resnet", in_chans=1, num_classes=1).eval()
    assert all(side > 1 for side in layers.sides(tiny, torch.zeros(1, 1, 16, 16)).values())
