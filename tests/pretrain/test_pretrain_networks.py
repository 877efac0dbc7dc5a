"""Networks of a pre-training: any encoder of timm with feature maps, and what the tasks take from it."""

import pytest
import torch

from hemoct.base.errors import UserError
from hemoct.pretrain import networks
from hemoct.pretrain.networks import PretrainedSpec
from hemoct.pretrain.train import PATCHES, class_numbers, corrupt


def spec(backbone: str, method: str = "autoencoder", image_size: int = 64) -> PretrainedSpec:
    return PretrainedSpec(image_size=image_size, mean=0.2, std=0.3, protocol="patient", split="folds", fold=0, splits_sha256="x",
                          backbone=backbone, method=method, patients=3, slices=9)  # fmt: skip


@pytest.mark.parametrize(("backbone", "size"), [
    ("test_resnet", 64), ("test_efficientnet", 100), ("tf_efficientnet_lite0", 64), ("test_vit", 160), ("test_convnext", 80),
])  # fmt: skip
def test_an_autoencoder_gives_an_image_of_the_same_size_back(backbone, size):
    model = networks.build(spec(backbone, image_size=size)).train()
    given = torch.rand(2, 1, size, size)
    restored = model(given)
    assert restored.shape == given.shape
    restored.sum().backward()
    assert any(parameter.grad is not None for parameter in model.body.parameters())


@pytest.mark.parametrize("method", ["simclr", "vicreg", "supcon"])
def test_contrastive_methods_give_numbers_to_compare(method):
    assert networks.build(spec("test_resnet", method))(torch.rand(3, 1, 64, 64)).shape == (3, networks.PROJECTED)


def test_maps_of_a_single_place_are_refused():
    with pytest.raises(UserError, match="gives no feature maps to restore 32 px"):
        networks.build(spec("test_resnet", image_size=32))


def test_noise_and_gaps_are_as_many_as_asked_for():
    generator = torch.Generator().manual_seed(0)
    given = torch.ones(200, 1, 64, 64)
    noisy = corrupt(given, 0.1, 0.4, generator)
    gaps = (noisy.unfold(2, 64 // PATCHES, 64 // PATCHES).unfold(3, 64 // PATCHES, 64 // PATCHES) == 0).all(dim=(4, 5))
    assert float(gaps.float().mean()) == pytest.approx(0.4, abs=0.02)
    assert float((noisy - 1)[noisy != 0].std()) == pytest.approx(0.1, rel=0.02)
    assert torch.equal(corrupt(given, 0.0, 0.0, generator), given)


def test_slices_with_the_same_labels_are_of_one_class():
    assert class_numbers(torch.tensor([[1.0, 0], [0, 1], [1, 0]]).numpy()).tolist() == [1, 0, 1]
    assert class_numbers(torch.zeros(4, 0).numpy()).tolist() == [0] * 4
