"""Networks of task 4: the small one, heads, attention over the places of any backbone, a saved one comes back."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from hemoct.base.errors import UserError
from hemoct.multilabel import networks as multilabel_networks
from hemoct.multilabel.networks import MultiLabelSpec, as_places
from hemoct.training import weights
from hemoct.training.options import SCRATCH, Initial

SPEC = MultiLabelSpec(
    backbone="simplecnn", classes=["any", "IVH", "SAH"], heads=["types"], image_size=32, mean=0.2, std=0.3, protocol="patient",
    split="folds", fold=0, splits_sha256="x",
)  # fmt: skip


def test_the_small_network_is_that_of_published_scripts():
    model = multilabel_networks.build(SPEC)
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear | nn.MaxPool2d)]
    kinds = [type(layer).__name__ for layer in layers]
    assert kinds == ["Conv2d", "MaxPool2d", "Conv2d", "MaxPool2d", "Linear", "Linear"]
    first, second = layers[0], layers[2]
    assert (first.in_channels, first.out_channels, second.in_channels, second.out_channels) == (1, 16, 16, 32)
    assert first.kernel_size == second.kernel_size == (3, 3)
    assert (layers[4].in_features, layers[4].out_features) == (32 * 8 * 8, 128)
    assert (layers[5].in_features, layers[5].out_features) == (128, 3)
    assert model(torch.rand(2, 1, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize("size", [4, 30, 33])
def test_the_small_network_takes_sizes_that_do_not_halve_evenly(size):
    assert multilabel_networks.build(replace(SPEC, image_size=size))(torch.rand(2, 1, size, size)).shape == (2, 3)


@pytest.mark.parametrize("attention", [False, True])
def test_the_small_network_says_what_it_cannot_do(attention):
    with pytest.raises(UserError, match=r"simplecnn cannot take 3 px.*--image-size"):
        multilabel_networks.build(replace(SPEC, image_size=3, attention=attention))
    with pytest.raises(UserError, match=r"weights of simplecnn could not be fetched.*\(--weights none\)"):
        multilabel_networks.build(replace(SPEC, attention=attention), Initial())


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("backbone", ["simplecnn", "test_resnet", "test_vit", "test_efficientnet", "resnet10t"])
def test_planes_are_the_channels_of_an_image_and_its_neighbours(backbone, attention):
    spec = replace(SPEC, backbone=backbone, channels=3, context=1, attention=attention)
    assert spec.planes == 9
    assert multilabel_networks.build(spec).eval()(torch.rand(2, 9, 32, 32)).shape == (2, 3)


def test_two_heads_side_by_side_each_with_weights_of_its_own():
    model = multilabel_networks.build(replace(SPEC, heads=["any", "types"])).eval()
    images = torch.rand(4, 1, 32, 32)
    found = model(images)
    with torch.no_grad():
        model.head.types.weight.zero_(), model.head.types.bias.fill_(7)
    changed = model(images)
    assert found.shape == (4, 3) and torch.equal(changed[:, 0], found[:, 0]) and (changed[:, 1:] == 7).all()


# --- attention


@pytest.mark.parametrize(
    ("backbone", "places"),
    [("simplecnn", 16 * 16), ("resnet10t", 2 * 2), ("vit_tiny_patch16_224", 4 * 4 + 1), ("swin_tiny_patch4_window7_224", 2 * 2)],
    ids=["small", "CNN (b, features, h, w)", "tokens (b, n, features)", "transformer (b, h, w, features)"],
)
def test_attention_is_a_mean_of_logits_weighted_by_each_label(backbone, places):
    size = 64
    torch.manual_seed(0)
    model = multilabel_networks.build(replace(SPEC, backbone=backbone, image_size=size, attention=True)).eval()
    images = torch.rand(2, 1, size, size)
    with torch.no_grad():
        found, maps = model(images), as_places(model.body.forward_features(images), model.head.in_features)
    assert maps.shape[1] == places
    for image in range(2):
        for label in range(3):
            looks = torch.exp(maps[image] @ model.where.weight[label] + model.where.bias[label])
            logits = maps[image] @ model.head.weight[label] + model.head.bias[label]
            assert found[image, label].item() == pytest.approx((looks @ logits / looks.sum()).item(), rel=1e-3, abs=1e-5)


def test_attention_without_a_preference_is_the_mean_and_with_one_it_is_the_place():
    model = multilabel_networks.build(replace(SPEC, attention=True)).eval()
    images = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        places = as_places(model.body.forward_features(images), 32)
        model.where.weight.zero_()
        torch.testing.assert_close(model(images), model.head(places.mean(dim=1)))
        model.where.weight[1, 5] = 1e6  # label 1 looks where feature 5 is highest
        strongest = places[:, :, 5].argmax(dim=1)
        torch.testing.assert_close(model(images)[:, 1], model.head(places[torch.arange(2), strongest])[:, 1])


def test_attention_leaves_no_weights_that_nothing_uses():
    model = multilabel_networks.build(replace(SPEC, attention=True))
    model(torch.rand(2, 1, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_places_keep_the_features_of_each_place_together():
    maps = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    expected = torch.stack([maps[:, :, y, x] for y in range(4) for x in range(5)], dim=1)
    assert torch.equal(as_places(maps, 3), expected)
    assert torch.equal(as_places(maps.permute(0, 2, 3, 1), 3), expected)
    assert torch.equal(as_places(expected, 3), expected)
    with pytest.raises(RuntimeError, match="without 7 features"):
        as_places(maps, 7)


def test_a_backbone_without_maps_is_refused():
    class Flat(nn.Module):
        num_features = 8

        def forward_features(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1)[:, :9]

    with pytest.raises(UserError, match=r"simplecnn has no feature maps for --attention \(maps \(1, 9\)"):
        multilabel_networks._with_places(Flat(), replace(SPEC, attention=True))


# --- files


@pytest.mark.parametrize("changes", [{}, {"heads": ["any", "types"], "context": 1}, {"attention": True, "backbone": "test_vit"}])
def test_a_saved_network_comes_back_equal(tmp_path, changes):
    spec = replace(SPEC, **changes)
    model = multilabel_networks.build(spec).eval()
    torch.save(model.state_dict(), tmp_path / "best.pt")
    spec.save(tmp_path)
    back, read = multilabel_networks.load(tmp_path, torch.device("cpu"))
    images = torch.rand(2, spec.planes, 32, 32)
    assert read == spec and not back.training and torch.equal(model(images), back(images))


@pytest.mark.parametrize("backbone", ["simplecnn", "test_resnet"])
def test_weights_of_task_4_start_a_network_with_another_head(tmp_path, backbone):
    spec = replace(SPEC, backbone=backbone)
    trained = multilabel_networks.build(spec)
    torch.save(trained.state_dict(), tmp_path / "best.pt")
    spec.save(tmp_path)
    torch.manual_seed(1)
    model = multilabel_networks.build(replace(spec, classes=["IVH", "SAH"]), Initial(weights=str(tmp_path / "best.pt")))
    theirs = trained.body.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in model.body.state_dict().items())
    with pytest.raises(UserError, match="another model"):
        multilabel_networks.build(replace(spec, backbone="resnet10t"), Initial(weights=str(tmp_path / "best.pt")))


def test_grey_values_are_fed_as_the_weights_were_trained(tmp_path):
    torch.save({}, tmp_path / "best.pt")
    best = str(tmp_path / "best.pt")
    assert weights.normalisation(SCRATCH, "simplecnn", 0.5, 0.6) == (0.5, 0.6)
    assert weights.normalisation(Initial(weights=best), "simplecnn", 0.5, 0.6) == (0.5, 0.6), "a file that says nothing of itself"
    SPEC.save(tmp_path)
    assert weights.normalisation(Initial(weights=best), "simplecnn", 0.5, 0.6) == (0.2, 0.3)
    assert weights.normalisation(Initial(), "resnet10t", 0.5, 0.6)[0] == pytest.approx(0.449, abs=1e-3)
