"""A network of timm below a detector of torchvision: its maps, its weights, what is frozen, what is refused."""

import pytest
import safetensors.torch
import timm
import torch
from torch import nn
from torchvision.models import get_model

from hemoct.base.errors import UserError
from hemoct.training import networks, pyramid, weights
from hemoct.training.options import Initial

NAME = "tf_efficientnet_lite0"
IMAGENET = Initial(weights="imagenet")


def like(detector: str = "fasterrcnn_mobilenet_v3_large_fpn") -> nn.Module:
    return get_model(detector, weights=None, weights_backbone=None).backbone.fpn


@pytest.mark.parametrize(
    ("detector", "sides"),
    [("fasterrcnn_resnet50_fpn", [32, 16, 8, 4, 2]), ("fasterrcnn_mobilenet_v3_large_fpn", [8, 4, 2]),
     ("retinanet_resnet50_fpn_v2", [16, 8, 4, 2, 1]), ("fcos_resnet50_fpn", [16, 8, 4, 2, 1])],
)  # fmt: skip
def test_the_maps_are_those_that_the_detector_knows(detector, sides):
    maps = pyramid.Pyramid("test_resnet", like(detector))(torch.zeros(2, 3, 128, 128))
    assert [tuple(of_level.shape) for of_level in maps.values()] == [(2, pyramid.CHANNELS, side, side) for side in sides]


def test_weights_of_the_package_are_taken_and_their_normalisation_is_frozen():
    made, (_, state) = pyramid.Pyramid(NAME, like(), IMAGENET), weights.local_imagenet(NAME)
    own = made.body.model.state_dict()
    assert len(own) > 200 and all(torch.equal(own[name], state[name]) for name in own)
    networks.train_mode(made)
    norms = [layer for layer in made.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert norms and not any(layer.training for layer in norms) and made.body.model.conv_stem.weight.requires_grad


def test_weights_of_another_architecture_stop(tmp_path):
    safetensors.torch.save_file(timm.create_model("test_resnet").state_dict(), tmp_path / f"{NAME}.safetensors")
    with pytest.raises(UserError, match=r"another model: .* tensors are missing"):
        pyramid.Pyramid(NAME, like(), Initial(weights="imagenet", weights_dir=tmp_path))


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_networks_without_such_maps_stop(name):
    with pytest.raises(UserError, match=f"--backbone {name} has no maps at strides 16, 32"):
        pyramid.Pyramid(name, like())
