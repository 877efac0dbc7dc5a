"""Networks that draw masks and their losses: what can be built, what cannot, what a loss asks for."""

import pytest
import torch

from helpers.simulated_networks import spec_for
from hemoct.base.errors import UserError
from hemoct.segmentation import networks, options
from hemoct.training.options import Initial


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"encoder": "resnet19"}, ("--encoder resnet19", "near it", "resnet18")),
        ({"model": "unetplusplus", "image_size": 33}, ("33 px", "multiple of 32")),
    ],
)
def test_networks_that_cannot_be_built(more, words):
    with pytest.raises(UserError) as error:
        networks.build(spec_for(**more))
    assert all(word in str(error.value) for word in words)


def test_encoder_weights_without_a_network(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network in tests")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # without its retries
    with pytest.raises(UserError, match=r"--weights imagenet.*--weights none"):
        networks.build(spec_for(encoder="resnet18"), Initial())


def test_the_choices_of_the_flags_are_what_there_is():
    assert sorted(options.ARCHITECTURES) == sorted(networks.smp.MODEL_ARCHITECTURES_MAPPING)
    assert sorted(options.LOSSES) == sorted(networks.LOSSES)


@pytest.mark.parametrize("name", sorted(networks.LOSSES))
def test_each_loss_falls_towards_the_truth_and_is_finite_on_empty_masks(name):
    criterion, targets = networks.criterion(name), torch.zeros(2, 1, 8, 8)
    targets[0, 0, 2:5, 2:5] = 1
    sure = (targets * 2 - 1) * 8
    assert criterion(sure, targets) < 0.1 < criterion(-sure, targets)
    assert bool(torch.isfinite(criterion(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8))))


@pytest.mark.parametrize("name", ["unetplusplus", "fpn", "deeplabv3plus", "segformer", "linknet"])
def test_other_architectures_take_one_channel_and_neighbours(name):
    model = networks.build(spec_for(model=name, image_size=64, context=1))
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 1, 64, 64)


def test_a_small_lesion_counts_as_much_as_a_large_one_where_dice_is_by_window():
    criterion, bce = networks.criterion("bce-window-dice"), torch.nn.functional.binary_cross_entropy_with_logits
    targets = torch.zeros(3, 1, 8, 8)
    targets[0, :, :1, :2], targets[1, :, :6] = 1, 1  # 2 pixels, 48 pixels, none
    logits = torch.full_like(targets, -20.0)
    logits[1, :, :6] = 20  # the large one is found, the small one missed: soft Dice (0 + 1) / (2 + 1) and 1
    assert criterion(logits, targets).item() == pytest.approx(bce(logits, targets).item() + (2 / 3 + 0) / 2, abs=1e-4)
    nothing = torch.zeros(2, 1, 8, 8)
    assert criterion(nothing, nothing).item() == pytest.approx(bce(nothing, nothing).item()), "no lesion, no Dice"
