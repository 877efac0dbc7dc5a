"""Classifiers: every family of backbones with one grey channel, what is frozen, what a spec keeps."""

import copy

import pytest
import safetensors.torch
import timm
import torch

from hemoct.base.errors import UserError
from hemoct.classification import networks as classification_networks
from hemoct.classification.predictions import ClassifierSpec
from hemoct.training import checkpoints, device, networks, weights
from hemoct.training.options import SCRATCH, Initial


def spec(backbone: str = "test_resnet", classes: tuple[str, ...] = ("a",), size: int = 64) -> ClassifierSpec:
    return ClassifierSpec(
        backbone=backbone,
        classes=list(classes),
        exclusive=False,
        image_size=size,
        fold=0,
        mean=0.2,
        std=0.3,
        protocol="patient",
        split="folds",
        splits_sha256="x",
    )


@pytest.mark.parametrize(
    ("backbone", "size"),
    [("resnet18", 64), ("efficientnet_b0", 64), ("vgg11_bn", 64), ("densenet121", 64), ("inception_v3", 128),
     ("swin_tiny_patch4_window7_224", 64), ("vit_tiny_patch16_224", 64)],
)  # fmt: skip
def test_families_take_one_grey_channel_at_any_size(backbone, size):
    model = classification_networks.build(spec(backbone, ("a", "b", "c"), size)).eval()
    with torch.inference_mode():
        assert model(torch.zeros(2, 1, size, size)).shape == (2, 3)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "mobilenetv3_small_050"])
def test_a_backbone_says_how_many_numbers_it_gives(backbone):
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        body, features = networks.build_backbone(backbone, 32, 3, 0)
        assert body.eval()(images).shape == (2, features) and features > 5
        model, classes = networks.build_backbone(backbone, 32, 3, 5)
        assert classes == 5 and model.eval()(images).shape == (2, 5)


def test_a_backbone_that_is_unknown_or_cannot_take_the_size():
    with pytest.raises(UserError, match=r"resnet81 is unknown to timm .*; near it: resnet"):
        networks.build_backbone("resnet81", 32, 1, 1)
    with pytest.raises(UserError, match=r"inception_v3 cannot take 48 px .*--image-size"):
        networks.build_backbone("inception_v3", 48, 1, 1)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_colour_weights_are_summed_or_repeated_for_other_channels(tmp_path, channels):
    """Five channels take turns: red, green, blue, red, green, weaker by 3/5, so that the sum keeps its size."""
    colour = timm.create_model("resnet10t", pretrained=False, in_chans=3, num_classes=7)
    torch.save(colour.state_dict(), tmp_path / "colour.pt")
    body, _ = networks.build_backbone("resnet10t", 32, channels, 0, Initial(weights=str(tmp_path / "colour.pt")))
    theirs, ours = colour.conv1[0].weight, body.conv1[0].weight
    expected = {1: theirs.sum(dim=1, keepdim=True), 3: theirs, 5: theirs[:, [0, 1, 2, 0, 1]] * 3 / 5}
    torch.testing.assert_close(ours, expected[channels])
    assert torch.equal(body.layer1[0].conv1.weight, colour.layer1[0].conv1.weight)


def test_frozen_trains_the_head_only_and_partial_the_upper_half():
    def trained(transfer: str) -> list[str]:
        model = classification_networks.build(spec("resnet18"))
        networks.freeze(model, transfer)
        return [name for name, parameter in model.named_parameters() if parameter.requires_grad]

    assert trained("frozen") == ["fc.weight", "fc.bias"]
    assert {name.split(".")[0] for name in trained("partial")} == {"layer3", "layer4", "fc"}
    assert len(trained("finetune")) == len(list(classification_networks.build(spec("resnet18")).parameters()))


@pytest.mark.parametrize("backbone", ["vgg11_bn", "densenet121", "efficientnet_b0", "swin_tiny_patch4_window7_224"])
def test_partial_leaves_the_first_layer_and_trains_the_head_in_every_family(backbone):
    model = classification_networks.build(spec(backbone))
    networks.freeze(model, "partial")
    flags = [parameter.requires_grad for parameter in model.parameters()]
    head = [parameter.requires_grad for parameter in model.get_classifier().parameters()]
    assert not flags[0] and all(head) and head


def test_frozen_normalisation_keeps_its_statistics():
    model = classification_networks.build(spec("resnet18"))
    networks.freeze(model, "frozen")
    networks.train_mode(model)
    before = model.bn1.running_mean.clone()
    model(torch.rand(4, 1, 64, 64))
    assert torch.equal(before, model.bn1.running_mean) and model.training


def test_colour_weights_from_a_file_become_grey_and_the_head_stays_new(tmp_path):
    colour = timm.create_model("resnet18", pretrained=False, in_chans=3, num_classes=1)
    safetensors.torch.save_file(colour.state_dict(), tmp_path / "colour.safetensors")
    model = classification_networks.build(spec("resnet18"), Initial(weights=str(tmp_path / "colour.safetensors")))
    torch.testing.assert_close(model.conv1.weight, colour.conv1.weight.sum(dim=1, keepdim=True))
    assert torch.equal(model.layer1[0].conv1.weight, colour.layer1[0].conv1.weight)
    assert not torch.equal(model.fc.weight, colour.fc.weight)


def test_a_saved_model_comes_back_equal(tmp_path):
    model = classification_networks.build(spec()).eval()
    torch.save(model.state_dict(), tmp_path / "best.pt")
    spec().save(tmp_path)
    back, read = classification_networks.load(tmp_path, torch.device("cpu"))
    x = torch.rand(2, 1, 64, 64)
    assert read == spec() and torch.equal(model(x), back(x))


def test_a_pickle_with_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match=r"evil\.pt"):
        checkpoints.read_state(tmp_path / "evil.pt")
    assert not (tmp_path / "touched").exists()


def test_grey_input_is_normalised_like_the_weights_or_the_training_data():
    assert weights.normalisation(SCRATCH, "resnet18", 0.1, 0.2) == (0.1, 0.2)
    mean, std = weights.normalisation(Initial(), "resnet18", 0.1, 0.2)
    assert mean == pytest.approx(0.449, abs=1e-3) and std == pytest.approx(0.226, abs=1e-3)


def test_a_backbone_without_a_pretrained_configuration_trains_from_scratch_only(monkeypatch):
    monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda name: None)
    model, _ = networks.build_backbone("test_resnet", 32, 1, 2)
    assert model.eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 2)
    with pytest.raises(UserError, match="timm knows none"):
        networks.build_backbone("test_resnet", 32, 1, 2, Initial())


def test_depthwise_convolutions_stay_in_float32_on_a_cpu_and_a_copy_has_its_own():
    plain = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, groups=4), torch.nn.Conv2d(4, 2, 1))
    placed = device.place(copy.deepcopy(plain), torch.device("cpu"), 16)
    average = copy.deepcopy(placed)
    torch.nn.init.zeros_(placed[0].weight)
    batch = torch.rand(2, 4, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        depthwise = average[0](batch)
        assert not torch.equal(depthwise, plain[0](batch).float()) and average(batch).dtype is torch.bfloat16
    assert torch.equal(depthwise, plain[0](batch)), "to the bit, as without autocast"
    assert average.state_dict().keys() == plain.state_dict().keys()
