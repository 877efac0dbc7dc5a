"""How a multi-label network is trained: draws, augmentation by label, losses of heads, scores of each label."""

import argparse
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import precision_recall_fscore_support

from helpers import toy_types
from hemoct.base import cli
from hemoct.multilabel import options, train
from hemoct.multilabel.options import HEADS, LOSSES, Augmentation, Balance
from hemoct.multilabel.train import Draws
from hemoct.training import augment
from hemoct.training.options import STRENGTHS

LABELS = toy_types.LABELS
NAN = math.nan

# --- draws


def shown(draws: Draws, epochs: int = 1) -> np.ndarray:
    """How often each row was drawn."""
    generator = torch.Generator().manual_seed(0)
    return sum(draws.order(generator).bincount(minlength=int(draws.rows.max()) + 1) for _ in range(epochs)).numpy()


def test_the_balanced_sampler_draws_each_label_and_none_equally():
    """Of 1,000 images 700 show nothing, 200 IVH, 90 IPH, 10 SAH: each is a quarter of 40,000 draws, within 5 standard errors."""
    truth = np.zeros((1000, 3))
    truth[700:900, 0] = truth[900:990, 1] = truth[990:, 2] = 1
    rows = np.arange(5, 1005)
    drawn = shown(Draws(rows, truth, LABELS, Balance(sampler="balanced")), epochs=40)[5:]
    groups = [drawn[:700].sum(), drawn[700:900].sum(), drawn[900:990].sum(), drawn[990:].sum()]
    assert sum(groups) == 40_000
    np.testing.assert_allclose(groups, 10_000, atol=5 * math.sqrt(40_000 * 0.25 * 0.75))
    assert (drawn > 0).mean() > 0.99, "other images in other epochs"


def test_an_image_of_several_labels_is_drawn_for_the_rarest():
    """IVH on 90 images, SAH on 10 of these; 100 images show nothing."""
    truth = np.zeros((190, 3))
    truth[:90, 0] = truth[:10, 2] = 1
    np.testing.assert_allclose(train.chances(truth), [1 / 10] * 10 + [1 / 90] * 80 + [1 / 100] * 100)
    truth[100:, 1] = NAN
    assert train.chances(truth)[150] == 1 / 100, "unknown is not shown"


def test_oversampling_repeats_the_slices_of_a_label():
    truth = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 1], [0, 0, 0], [0, NAN, NAN]], dtype=float)
    rows = np.array([2, 4, 6, 8, 10])
    draws = Draws(rows, truth, LABELS, Balance(oversample={"SAH": 3, "IVH": 2}))
    assert len(draws) == 2 + 3 + 3 + 1 + 1
    assert shown(draws)[rows].tolist() == [2, 3, 3, 1, 1], "of several labels the highest number counts; unknown is not shown"
    generator = torch.Generator().manual_seed(0)
    one, two = draws.order(generator), draws.order(generator)
    assert one.tolist() != two.tolist() and sorted(one.tolist()) == sorted(two.tolist())
    assert torch.equal(one, draws.order(torch.Generator().manual_seed(0)))


def test_seen_slices_count_as_the_data_came():
    truth = np.array([[1, 0]] * 2 + [[0, 1]] * 8 + [[0, 0]] * 30, dtype=float)
    rows = np.arange(5, 45)
    for told in ({"sampler": "balanced", "oversample": {}}, {"sampler": "none", "oversample": {"a": 4}}):
        draws = Draws(rows, truth, ["a", "b"], Balance(**told))
        generator = torch.Generator().manual_seed(1)
        seen = torch.cat([draws.order(generator) for _ in range(300)])
        weights = draws.weights(seen)
        counted = np.bincount(seen.numpy() - 5, weights=weights, minlength=40) / 300
        assert counted == pytest.approx(np.ones(40), abs=0.25), told
        assert np.bincount(seen.numpy() - 5).max() > 2 * 300, "the rare ones were drawn more often"


def test_weights_count_in_the_scores():
    logits, targets = torch.tensor([[2.0], [2.0], [-2.0]]), torch.tensor([[1.0], [0.0], [1.0]])
    scores = train.label_scores("train", ["a"], logits, targets, np.array([1.0, 0.5, 3.0]))
    assert scores == pytest.approx({"train_precision_a": 1 / 1.5, "train_recall_a": 1 / 4, "train_f1_a": 2 / (2 + 0.5 + 3)})


def test_oversampling_goes_with_the_balanced_sampler():
    truth = np.zeros((400, 3))
    truth[:100, 0] = truth[100:200, 1] = truth[200:300, 2] = 1
    draws = Draws(np.arange(400), truth, LABELS, Balance(sampler="balanced", oversample={"SAH": 3}))
    drawn = shown(draws, epochs=50)
    assert len(draws) == 600 and drawn.sum() == 30_000
    np.testing.assert_allclose(drawn.reshape(4, 100).sum(axis=1), [5000, 5000, 15_000, 5000], atol=5 * math.sqrt(30_000 / 4))


# --- augmentation


def changed(
    classes: list[str], truth: np.ndarray, options: Augmentation, batch: torch.Tensor, rows: torch.Tensor
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return train.augmentation(options, "horizontal", truth, classes, generator)(batch.clone(), rows)


def test_augmentation_of_a_label_changes_its_slices_alone():
    truth = np.array([[0, 0, 1], [1, 0, 0], [1, 0, 1], [0, 0, 0], [0, 0, NAN], [0, 1, 0]])
    rows, batch = torch.tensor([5, 2, 3, 4, 0, 1]), torch.rand(6, 3, 16, 16)
    of_sah = torch.as_tensor(truth[:, 2] == 1)[rows]

    def moved(**flags: object) -> torch.Tensor:
        return (changed(LABELS, truth, Augmentation(**flags), batch, rows) != batch).flatten(1).any(dim=1)

    assert not moved().any()
    assert torch.equal(moved(augment_label={"SAH": "strong"}), of_sah)
    assert torch.equal(moved(augment="light", augment_label={"SAH": "none"}), ~of_sah)
    assert moved(augment="light", augment_label={"SAH": "strong"}).all()
    last = moved(augment_label={"SAH": "strong", "IVH": "none"})
    assert torch.equal(last, torch.as_tensor((truth[:, 2] == 1) & (truth[:, 0] != 1))[rows]), "of several the last one counts"


def test_augmentation_of_a_label_is_that_strength(monkeypatch):
    used = []
    monkeypatch.setattr(augment, "augment", lambda batch, strength, *_: used.append((len(batch), strength)) or batch)
    truth = np.array([[0, 0, 1], [0, 1, 0], [0, 0, 0]])
    args = Augmentation(augment="light", augment_label={"SAH": "strong"})
    changed(LABELS, truth, args, torch.rand(3, 1, 8, 8), torch.arange(3))
    assert used == [(2, STRENGTHS["light"]), (1, STRENGTHS["strong"])]


@pytest.mark.parametrize("strength", [name for name in STRENGTHS if name != "none"])
def test_labels_about_a_side_are_never_mirrored(strength):
    batch = torch.zeros(60, 1, 32, 32)
    batch[..., 8:24, 6:12] = 1  # left of the middle, and so after +- 20 degrees and a shift of 3 pixels

    def on_the_left(classes: list[str], **flags: object) -> int:
        truth = np.zeros((60, 2))
        truth[:, 0] = 1
        found = changed(classes, truth, Augmentation(**flags), batch, torch.arange(60))[:, 0]
        return int((found[..., :16].mean(dim=(1, 2)) > found[..., 16:].mean(dim=(1, 2))).sum())

    for flags in ({"augment": strength}, {"augment_label": {"side_left": strength}}):
        assert on_the_left(["side_left", "side_right"], **flags) == 60
    assert 10 < on_the_left(["IVH", "SAH"], augment=strength) < 50


# --- losses

LOGITS = torch.tensor([[2.0, -1.2, 0.5], [-0.5, 0.8, 1.5], [0.1, 0.2, -0.3]])
TARGETS = torch.tensor([[1, 0, 1], [0, NAN, 1], [0, 0, 0.0]])
ONE_HEAD, TWO_HEADS = HEADS["types"], HEADS["any,types"]


def weighed(loss: str = "weighted-bce", pos_weight: str | list[float] = "auto") -> Balance:
    return Balance(loss=loss, pos_weight=pos_weight)


@pytest.mark.parametrize(("wanted", "weights"), [("auto", [2, 1, 0.5]), ([3.0, 4.0, 5.0], [3, 4, 5])])
def test_positives_are_as_heavy_as_they_are_told_to_be(wanted, weights):
    """auto: negatives over positives; IVH has no positive, so 1."""
    known = ~TARGETS.isnan()
    cells = F.binary_cross_entropy_with_logits(LOGITS, TARGETS.nan_to_num(), pos_weight=torch.tensor(weights), reduction="none")
    loss = train.criterion(weighed(pos_weight=wanted), ONE_HEAD, TARGETS)
    assert loss(LOGITS, TARGETS).item() == pytest.approx(cells[known].mean().item())


@pytest.mark.parametrize("name", LOSSES)
def test_two_heads_have_a_loss_each_counted_alike(name):
    weights = torch.tensor([2, 1, 0.5]) if name == "weighted-bce" else None
    parts = [train.loss_function(name, None if weights is None else weights[part])(LOGITS[:, part], TARGETS[:, part])
             for part in ([0], [1, 2])]  # fmt: skip
    found = LOGITS.clone().requires_grad_()
    loss = train.criterion(weighed(name), TWO_HEADS, TARGETS)(found, TARGETS)
    assert loss.item() == pytest.approx(parts[0].item() + parts[1].item())
    loss.backward()
    assert ((found.grad != 0) == ~TARGETS.isnan()).all(), "every known truth counts, an unknown one does not"
    assert loss.item() != pytest.approx(train.criterion(weighed(name), ONE_HEAD, TARGETS)(LOGITS, TARGETS).item())


def test_an_unknown_truth_of_one_head_leaves_the_other_as_it_is():
    truth = TARGETS.clone()
    truth[:, 0] = NAN
    one_head = train.loss_function("bce")(LOGITS[:, 1:], TARGETS[:, 1:])
    assert train.criterion(weighed("bce"), TWO_HEADS, TARGETS)(LOGITS, truth).item() == pytest.approx(one_head.item())


# --- flags and scores


def test_flags_by_label():
    times = options.by_label(cli.positive_int, "TIMES")
    assert times("SAH=3, a=b=2") == {"SAH": 3, "a=b": 2}
    for wrong in ("SAH", "SAH=", "=3", "SAH=x", "SAH=-1", "SAH=3,", "SAH=3,SAH=3", ""):
        with pytest.raises(argparse.ArgumentTypeError, match=r"is not LABEL=TIMES\[,LABEL=TIMES\], each label once"):
            times(wrong)
    assert options.auto_or_numbers("auto") == "auto" and options.auto_or_numbers("1,2.5") == [1, 2.5]


def test_scores_of_each_label_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, (60, 4)).astype(float)
    truth[random.random(truth.shape) < 0.3] = NAN
    truth[:, 2], truth[:, 3] = np.where(truth[:, 2] == 1, 0, truth[:, 2]), NAN  # no positive; not known at all
    logits = random.normal(0, 1, truth.shape)
    logits[:5, 2] = -1
    classes = [*LABELS, "EDH"]
    found = train.label_scores("val", classes, torch.as_tensor(logits), torch.as_tensor(truth))
    for place, name in enumerate(classes[:3]):
        known = ~np.isnan(truth[:, place])
        wanted = precision_recall_fscore_support(
            truth[known, place].astype(int), logits[known, place] > 0, average="binary", zero_division=np.nan
        )
        np.testing.assert_allclose([found[f"val_{score}_{name}"] for score in ("precision", "recall", "f1")], wanted[:3])
    assert math.isnan(found["val_recall_SAH"]) and found["val_f1_SAH"] == 0
    assert all(math.isnan(found[f"val_{score}_EDH"]) for score in ("precision", "recall", "f1"))
