"""A convolutional head: class maps whose means are the logits, at the places of what they show; backbones without maps stop."""

from dataclasses import replace

import pytest
import torch

from hemoct.base.errors import UserError
from hemoct.classification import networks as classification_networks
from hemoct.classification.predictions import ClassifierSpec
from hemoct.explain import layers, maps
from hemoct.multilabel import networks as multilabel_networks
from hemoct.multilabel.predictions import MultiLabelSpec
from hemoct.training import networks

USUAL = {"image_size": 64, "mean": 0.0, "std": 1.0, "protocol": "patient", "split": "folds", "fold": 0, "splits_sha256": "x"}
ONE = ClassifierSpec(backbone="test_resnet", classes=["hemorrhage"], exclusive=False, head="conv", **USUAL)
SEVERAL = MultiLabelSpec(backbone="simplecnn", classes=["any", "a", "b"], heads=["any", "types"], head="conv", **USUAL)


@pytest.mark.parametrize(
    ("build", "spec"),
    [
        (classification_networks.build, ONE),
        (classification_networks.build, replace(ONE, backbone="swin_tiny_patch4_window7_224")),
        (multilabel_networks.build, SEVERAL),
        (multilabel_networks.build, replace(SEVERAL, backbone="test_resnet", context=1)),
    ],
    ids=["CNN", "transformer with maps", "small", "context"],
)
def test_a_logit_is_the_mean_of_its_class_map(build, spec):
    torch.manual_seed(0)
    model = build(spec).eval()
    planes = getattr(spec, "planes", 1)
    images, kept = torch.rand(2, planes, 64, 64), []
    model.maps.register_forward_hook(lambda _, __, output: kept.append(output))
    with torch.inference_mode():
        logits = model(images)
    assert logits.shape == (2, len(spec.classes)) and kept[0].shape[:2] == logits.shape and kept[0].shape[2] > 1
    torch.testing.assert_close(logits, kept[0].mean(dim=(2, 3)))
    model.train()
    model(images).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)


def test_the_class_map_explains_the_logit_for_free():
    torch.manual_seed(0)
    model = maps.prepare(classification_networks.build(ONE))
    assert layers.chosen(model, ONE, 1, ["auto"])[-1] == "maps"
    images, kept = torch.rand(2, 1, 64, 64), []
    handle = model.maps.register_forward_hook(lambda _, __, output: kept.append(output.detach()))
    with torch.no_grad():
        model(images)
    handle.remove()
    found = maps._hirescam(model, model.maps, images, torch.zeros(2, dtype=torch.long))
    torch.testing.assert_close(found, torch.relu(kept[0][:, 0]) / kept[0][0, 0].numel())


def test_only_the_head_is_trained_or_the_upper_half_too():
    for transfer, trained in (("frozen", {"mix", "maps"}), ("partial", {"mix", "maps", "body"})):
        model = classification_networks.build(ONE)
        networks.freeze(model, transfer)
        names = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        assert {name.split(".")[0] for name in names} == trained
        assert not any(name.startswith("body.conv1") for name in names)


@pytest.mark.parametrize(
    ("build", "spec"),
    [
        (classification_networks.build, replace(ONE, backbone="test_vit")),
        (multilabel_networks.build, replace(SEVERAL, backbone="test_vit")),
    ],
    ids=["task 1", "task 4"],
)
def test_a_backbone_without_a_feature_map_is_refused(build, spec):
    with pytest.raises(UserError, match=r"--backbone test_vit has no feature maps for --head conv \(.*not in maps"):
        build(spec)
