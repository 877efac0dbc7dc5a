"""Weights for a machine without a network: copied once, then found in their folder."""

import torch

from helpers.refusals import refused
from hemoct.base import files
from hemoct.training import networks, weights
from hemoct.training.options import Initial

STEP = "scripts/06_get_weights.py"
NAME = "tf_efficientnet_lite0"


def test_weights_go_into_a_folder_and_are_found_there(tmp_path, run_step, monkeypatch):
    result = run_step(STEP, NAME, "--to", tmp_path / "weights")
    assert result.code == 0 and "Apache-2.0" in result.out, result.err
    listed = files.read_json(tmp_path / "weights" / "weights.json")
    assert listed[NAME]["source"].startswith("package") and listed[NAME]["file_sha256"]
    monkeypatch.setattr(weights, "PACKAGES", {})
    model, _ = networks.build_backbone(NAME, 64, 3, 2, Initial(weights_dir=tmp_path / "weights"))
    _, state = weights.local_imagenet(NAME, tmp_path / "weights")
    assert torch.equal(model.conv_stem.weight, state["conv_stem.weight"])


def test_a_network_that_is_unknown_or_cannot_be_fetched(tmp_path, run_step, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert refused(run_step(STEP, "resnet81", "--to", tmp_path), "resnet81 is unknown to timm", "near it")
    assert refused(run_step(STEP, "resnet18", "--to", tmp_path), "the weights of resnet18 could not be fetched")
    assert list(tmp_path.iterdir()) == []
