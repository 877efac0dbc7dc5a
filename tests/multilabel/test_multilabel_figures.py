"""What the figures of several labels show: every label a panel, folds and best epochs, and what cannot be drawn."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from hemoct.evaluation import comparison_step
from hemoct.multilabel import evaluate, figures as multilabel_figures

LABELS = ["IVH", "SAH", "EDH"]
TRUTH = np.tile([[1, 0], [0, 1], [1, 1], [0, 0]], (10, 1))


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def predicted(folds: int = 2, edh: float = 0.0) -> tuple[evaluate.MultiLabel, dict]:
    """IVH is found by every threshold, SAH never ranked right, EDH has the truth `edh` everywhere."""
    tables = []
    for fold in range(folds):
        for part in ("val", "test"):
            ids = [f"{part}{fold}-{row}" for row in range(len(TRUTH))]
            table = pd.DataFrame({"image_id": ids, "patient": ids, "fold": fold, "part": part})
            for name, y in (("IVH", TRUTH[:, 0]), ("SAH", TRUTH[:, 1]), ("EDH", np.full(len(TRUTH), edh))):
                table[f"y_{name}"], table[f"p_{name}"] = y, {"IVH": 0.1 + 0.8 * y, "SAH": 0.9 - 0.8 * y, "EDH": 0.2}[name]
            tables.append(table)
    evaluation = evaluate.evaluate(pd.concat(tables, ignore_index=True))
    return evaluation, evaluate.report(evaluation, {}, 20, 42)


def texts(axis: plt.Axes) -> str:
    legend = axis.get_legend()
    return " ".join(text.get_text() for text in [*axis.texts, *(legend.texts if legend else [])])


def test_every_label_has_its_confusion_matrix():
    evaluation, _ = predicted()
    axes = multilabel_figures.confusion_matrices(evaluation, "a heading").axes
    assert [axis.get_title() for axis in axes] == LABELS
    counts = [[text.get_text().split("\n")[0] for text in axis.texts] for axis in axes]
    assert counts == [["40", "0", "0", "40"], ["0", "40", "0", "40"], ["80", "0", "0", "0"]]


@pytest.mark.parametrize(("draw", "value"), [("roc", "AUROC"), ("pr", "AP")])
def test_curves_of_each_label_and_fold_or_the_reason_why_there_are_none(draw, value):
    evaluation, content = predicted()
    ivh, sah, edh = multilabel_figures.curves(evaluation, content, "a heading")[draw].axes
    assert f"mean of 2 folds, {value} 1.000 (1.000-1.000)" in texts(ivh) and "threshold: max F1 on val" in texts(ivh)
    assert f"{value} {content['metrics'][f'{value.lower()}_SAH']['value']:.3f}" in texts(sah)
    assert sum(line.get_linewidth() < 1 for line in ivh.lines) == 2, "a thin line for each fold"
    dot = next(line for line in sah.lines if line.get_marker() == "o")
    keys = ("fpr", "recall") if draw == "roc" else ("recall", "precision")
    assert [dot.get_xdata()[0], dot.get_ydata()[0]] == [content["metrics"][f"{key}_SAH"]["value"] for key in keys]
    assert not edh.lines and "0 positive, 80 negative test images" in texts(edh)


def test_no_curve_at_all_is_no_figure():
    evaluation, content = predicted()
    only = evaluation.only(["EDH"])
    assert multilabel_figures.curves(only, content, "a heading") == {"roc": None, "pr": None}


def test_a_label_known_nowhere_has_empty_panels():
    evaluation, content = predicted(edh=np.nan)
    assert "0 positive, 0 negative" in texts(multilabel_figures.curves(evaluation, content, "a heading")["roc"].axes[2])
    assert multilabel_figures.confusion_matrices(evaluation, "a heading").axes[2].get_title() == "EDH"


def history(epochs: int, best: int, f1: float) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    numbers = {f"{part}_{score}_{label}": f1 for part in ("train", "val") for score in ("precision", "recall", "f1")
               for label in ("IVH", "SAH")}  # fmt: skip
    return pd.DataFrame({"epoch": epoch, "val_loss": np.abs(epoch - best), **numbers})


def test_epochs_are_drawn_by_label_with_the_mean_and_the_best_epoch_of_each_fold():
    histories = {"fold0": history(3, best=2, f1=0.2), "fold1": history(5, best=4, f1=0.6)}
    figure = multilabel_figures.by_epoch(histories, LABELS[:2], "a heading")
    assert [axis.get_title() for axis in figure.axes[:2]] == ["IVH", "SAH"]
    assert [axis.get_ylabel() for axis in figure.axes[::2]] == ["precision at 0.5", "recall at 0.5", "F1 at 0.5"]
    for axis in figure.axes:
        rings = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axis.lines if line.get_marker() == "o"]
        assert rings == [(2, 0.2), (4, 0.6)]
        thick = {line.get_linestyle(): line for line in axis.lines if line.get_linewidth() > 2}
        assert set(thick) == {"-", "--"}, "validation and training"
        assert list(thick["-"].get_xdata()) == [1, 2, 3] and thick["-"].get_ydata() == pytest.approx([0.4] * 3)


def test_without_histories_of_labels_there_is_no_figure_of_epochs():
    assert multilabel_figures.by_epoch({}, LABELS, "a heading") is None
    only_loss = {"fold0": pd.DataFrame({"epoch": [1], "train_loss": [1.0], "val_loss": [1.0]})}
    assert multilabel_figures.by_epoch(only_loss, LABELS, "a heading") is None


def test_a_label_or_a_loss_that_is_nowhere_leaves_an_empty_place():
    histories = {"fold0": history(3, best=2, f1=0.2).assign(val_loss=np.nan, val_precision_SAH=np.nan)}
    axes = multilabel_figures.by_epoch(histories, LABELS, "a heading").axes
    assert not any(line.get_marker() == "o" for line in axes[0].lines), "without a loss no epoch was the best"
    assert not any(len(line.get_xdata()) for line in axes[2].lines), "EDH has no column"
    assert [texts(axis) for axis in axes[:3]] == ["", "", "not in history.csv"], "SAH has a precision in training"
    silent = {"fold0": histories["fold0"].assign(train_precision_SAH=np.nan)}
    panels = multilabel_figures.by_epoch(silent, LABELS[:2], "a heading").axes
    assert [texts(axis) for axis in panels] == ["", "nothing called at 0.5", "", "", "", ""]


def test_what_goes_together_in_truth_and_calls_and_their_difference():
    true, called = np.array([[3, 1], [1, 2]]), np.array([[1, 1], [1, 1_500]])
    axes = multilabel_figures.cooccurrence(true, called, ["IVH", "SAH"], "a heading").axes
    assert [[text.get_text() for text in axis.texts] for axis in axes] == [
        ["3", "1", "1", "2"], ["1", "1", "1", "1,500"], ["-2", "0", "0", "+1,498"]
    ]  # fmt: skip
    nothing = np.zeros((2, 2), dtype=int)
    assert multilabel_figures.cooccurrence(nothing, nothing, ["IVH", "SAH"], "a heading") is not None


def test_folds_whose_thresholds_follow_other_rules_are_told_apart():
    ruled_out = evaluate.evaluate(pd.concat([
        pd.DataFrame({"image_id": [f"{fold}{part}{row}" for row in range(4)], "patient": "p", "fold": fold, "part": part,
                      "y_SAH": [0, 0, 0, 0] if (fold, part) == (1, "val") else [0, 1, 0, 1], "p_SAH": [0.1, 0.9, 0.2, 0.8]})
        for fold in (0, 1) for part in ("val", "test")
    ]))  # fmt: skip
    content = evaluate.report(ruled_out, {}, 20, 42)
    axis = multilabel_figures.curves(ruled_out, content, "a heading")["roc"].axes[0]
    assert "max F1 on val (1 fold)\n0.5: validation has no positive (1 fold)" in texts(axis)


@pytest.mark.parametrize(("ap", "place"), [(0.8, "lower left"), (0.2, "upper right")])
def test_the_legend_of_precision_lies_where_the_curves_are_not(ap, place):
    evaluation, content = predicted()
    content["metrics"]["ap_SAH"]["value"] = ap
    legend = multilabel_figures.curves(evaluation, content, "a heading")["pr"].axes[1].get_legend()
    assert legend._loc == legend.codes[place]


def test_equal_experiments_differ_by_no_axis_of_rounding_errors():
    row = {"protocol": "patient", "metric": "f1", "value": 0.9, "low": 0.8, "high": 1.0}
    nothing = dict.fromkeys(("difference", "difference_low", "difference_high"), np.nan)
    small = {"difference": 1e-16, "difference_low": -2e-16, "difference_high": 2e-16}
    table = pd.DataFrame([{"experiment": "a", "shown": "a", **row, **nothing}, {"experiment": "b", "shown": "b", **row, **small}])
    low, high = comparison_step.side_by_side(table, "heading", ("f1",)).axes[1].get_xlim()
    assert low <= -0.005 and high >= 0.005
