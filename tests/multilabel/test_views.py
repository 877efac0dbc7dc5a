"""One encoder, a head for each view: each speaks for its own images and labels, and learns from them alone."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from hemoct.base.errors import UserError
from hemoct.multilabel import networks, predictions, train
from hemoct.multilabel.options import Balance
from hemoct.multilabel.predictions import MultiLabelSpec
from hemoct.multilabel.views import Heads

LABELS = ["a", "b"]
TRUTH = np.array([[1, 0], [0, 1], [0, 0], [1, 0]], dtype=np.float32)
GROUPS = ["front", "back", "front", "front"]
SPEC = MultiLabelSpec(
    backbone="simplecnn", classes=LABELS, heads=["types"], image_size=32, mean=0.0, std=1.0, protocol="patient", split="folds",
    fold=0, splits_sha256="x", views={"back": ["b"], "front": ["a"]},
)  # fmt: skip


def data(groups=GROUPS, truth=TRUTH):
    table = pd.DataFrame({"image_id": [f"i{number}" for number in range(len(truth))], "group": groups})
    return SimpleNamespace(table=table, targets=truth)


def test_a_view_learns_the_labels_that_its_training_images_show():
    heads = Heads.shared(data(), np.arange(4), "fold0")
    assert heads.names == ("back", "front") and heads.member.tolist() == [1, 0, 1, 1]
    assert heads.described(LABELS) == {"back": ["b"], "front": ["a"]} == SPEC.views
    assert torch.equal(Heads.of(SPEC, np.array(GROUPS)).learned, heads.learned)


def test_the_head_of_an_image_is_trained_and_listened_to_no_other():
    heads, truth = Heads.shared(data(), np.arange(4), "fold0"), torch.tensor(TRUTH)
    nan = torch.nan
    expected = torch.tensor([[nan, nan, 1, nan], [nan, 1, nan, nan], [nan, nan, 0, nan], [nan, nan, 1, nan]])
    assert torch.equal(heads.targets(truth).nan_to_num(-1), expected.nan_to_num(-1))
    logits = torch.arange(16.0).reshape(4, 4)
    rows = torch.tensor([3, 1, 0, 2])
    assert heads.own(logits, rows).tolist() == [[2, -torch.inf], [-torch.inf, 5], [10, -torch.inf], [14, -torch.inf]]
    probability = torch.sigmoid(heads.own(logits, rows))
    assert probability[0, 1] == 0, "a label that its view never showed"

    bce = train.criterion(Balance(), ["types"], truth)
    loss = heads.criterion(bce)(logits, heads.targets(truth))
    cells = torch.stack([logits[0, 2], logits[1, 1], logits[2, 2], logits[3, 2]])
    by_hand = torch.nn.functional.binary_cross_entropy_with_logits(cells, torch.tensor([1.0, 1.0, 0.0, 1.0]))
    assert loss.item() == pytest.approx(by_hand.item())


def test_one_head_changes_nothing():
    heads, logits = Heads.one(4, 2), torch.rand(4, 2)
    truth = torch.tensor(TRUTH)
    assert heads.targets(truth) is truth and heads.own(logits, np.arange(4)) is logits and heads.described(LABELS) == {}


@pytest.mark.parametrize(
    "changes",
    [{}, {"heads": ["any", "types"], "classes": ["any", "a", "b"]}, {"attention": True}, {"head": "conv"}],
    ids=["linear", "two heads", "attention", "maps"],
)
def test_every_head_gives_the_logits_of_all_views(changes):
    spec = replace(SPEC, **changes)
    model = networks.build(spec).eval()
    with torch.inference_mode():
        assert model(torch.rand(3, 1, 32, 32)).shape == (3, 2 * len(spec.classes))


@pytest.mark.parametrize(
    ("groups", "truth", "words"),
    [
        (["front"] * 4, TRUTH, "all images have the group front"),
        (["front", "", "back", "front"], TRUTH, r"1 image\(s\) have no group in labels.csv \(first: i1\)"),
        (GROUPS, TRUTH * np.array([1, 0]), "fold0 has no training image of the view back that shows a label"),
    ],
    ids=["one view", "no group", "no label"],
)
def test_views_that_are_none_stop(groups, truth, words):
    with pytest.raises(UserError, match=words):
        Heads.shared(data(groups, truth), np.arange(4), "fold0")


def test_labels_without_the_column_stop():
    with pytest.raises(UserError, match=r"--share-encoder: .* has no column group"):
        predictions.groups_of(data().table.drop(columns="group"), "--share-encoder")


def test_a_view_that_the_models_do_not_know_stops():
    with pytest.raises(UserError, match="the models know the views back, front, and none called side"):
        Heads.of(SPEC, np.array(["front", "side"]))
