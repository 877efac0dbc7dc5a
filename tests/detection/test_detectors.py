"""Detectors of both families: built, fed slices without a box, anchors; which negatives are learned from."""

import numpy as np
import pytest
import torch

from helpers.simulated_boxes import spec
from hemoct.data import fusion
from hemoct.detection import data as detection_data, networks, options, torchvision_models


@pytest.mark.parametrize("name", [*options.TORCHVISION, "fcos_resnet50_fpn"])
def test_each_detector_learns_from_slices_without_a_box_and_says_where_boxes_are(name):
    torch.manual_seed(0)
    described = spec(name, ("a", "b"))
    model = networks.family(name).build(described).train()
    slices = [np.random.default_rng(k).integers(0, 255, size, dtype=np.uint8) for k, size in enumerate([(64, 64), (40, 100)])]
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    sums = torchvision_models.Losses("train")
    loss = sums.add(model(list(torch.rand(2, 3, 64, 64)), [empty, empty]), slices=2)
    loss.backward()
    assert torch.isfinite(loss) and any(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
    assert loss.item() == pytest.approx(sum(sums.means().values()), rel=1e-5) and sums.means()["train_cls_loss"] > 0

    for found, grey in zip(networks.detect(model.eval(), described, slices, 2), slices, strict=True):
        height, width = grey.shape
        assert found.shape[1] == 6 and 0 < len(found) <= fusion.MOST_BOXES and (np.diff(found[:, 4]) <= 0).all()
        assert (found[:, :4] >= 0).all() and (found[:, :4] <= [width, height, width, height]).all()
        assert set(found[:, 5]) <= {0, 1} and found[:, 4].max() <= 1


@pytest.mark.parametrize("name", options.TORCHVISION)
def test_anchors_fit_lesions(name):
    """Real boxes have 20 to 250 of 512 px: from 1/26 to 1/2 of the side."""
    model = torchvision_models.build(spec(name, size=256))
    sizes = np.concatenate([np.ravel(level) for level in getattr(model, "rpn", model).anchor_generator.sizes])
    assert sizes.min() == 256 / 32 and 256 / 2 <= sizes.max() < 256


def test_negatives_are_counted_and_drawn_by_the_seed():
    positive = np.arange(100) % 4 == 0
    for share, wanted in {0.0: 25, 0.5: 37, 1.0: 50, 10.0: 100}.items():  # 0.5 x 25 is rounded to the even 12
        chosen = detection_data.choose_negatives(positive, share, 1)
        assert chosen.sum() == wanted and chosen[positive].all()
    assert detection_data.choose_negatives(positive, None, 1).all()
    first, again, other = (detection_data.choose_negatives(positive, 1, seed) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_slices_whose_proposals_all_collapse_have_a_finite_loss():
    torch.manual_seed(0)
    model = torchvision_models.build(spec("fasterrcnn_mobilenet_v3_large_fpn"))
    torch.nn.init.constant_(model.rpn.head.bbox_pred.bias, 1000.0)  # all proposals lie beyond the image: cut, they are empty
    torch.nn.init.constant_(model.rpn.head.cls_logits.bias, -50.0)  # and none of them looks like an object
    nothing = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    losses = model.train()([torch.zeros(3, 64, 64)] * 2, [nothing] * 2)
    assert all(bool(loss.isfinite()) for loss in losses.values()), losses
