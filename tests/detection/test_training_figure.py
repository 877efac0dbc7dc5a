"""The figure of a detector's training: losses by family, best epoch and end marked, scales."""

import pytest

from helpers import simulated_boxes
from helpers.simulated_boxes import TORCHVISION, YOLO
from hemoct.detection import figures, tables


@pytest.mark.parametrize("losses", [YOLO, TORCHVISION])
def test_the_figure_shows_the_losses_that_there_are_with_best_epoch_and_end_marked(losses):
    numbers = simulated_boxes.history(3, losses, map50_95=[0.1, 0.3, 0.2])
    training = tables.Training("fold0", numbers, 9, tables.EARLY)
    figure = figures.training([training], "a heading")
    shown = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_title() for axis in shown] == [
        *(figures.LOSSES[f"{loss}_loss"] for loss in losses), "mAP50 on validation", "mAP50:95 on validation"
    ]  # fmt: skip
    for axis, column in zip(shown, [*(f"val_{loss}_loss" for loss in losses), "map50", "map50_95"], strict=True):
        marked = {line.get_marker(): (line.get_xdata()[0], line.get_ydata()[0]) for line in axis.lines}
        assert marked["o"] == (2, numbers[column][1]) and marked[figures.ENDS[tables.EARLY]] == (
            3,
            numbers[column][2],
        )
    assert any("best epoch 2; ended at 3 of 9 (early stop)" in text.get_text() for text in figure.axes[-1].get_legend().texts)


def test_one_wild_epoch_does_not_flatten_the_others():
    wild = tables.Training("fold0", simulated_boxes.history(4, val_cls_loss=[12, 143, 3, 2]), 4, tables.LAST)
    figure = figures.training([wild], "a heading")
    scales = {axis.get_title(): axis.get_yscale() for axis in figure.axes}
    assert scales["class loss"] == "log" and scales["box loss"] == "linear"
