"""Task 1 on other data: which of their labels is the models' one, and what the table of predictions says of it."""

from types import SimpleNamespace

import numpy as np
import pytest

from helpers import toy
from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.classification import predict
from hemoct.data import images, prepared


@pytest.fixture
def predicted(work: Workspace, monkeypatch):
    """Predictions of a data set whose only label is `any`, by models that know `classes` and say 0.25."""
    toy.make(work, patients=5, slices=2)
    labels, dataset = tables.rename_labels(tables.read_labels(work, tables.read_dataset(work)), tables.read_dataset(work), NAMES)
    tables.write_labels(work, labels, dataset)
    tables.write_dataset(work, dataset)

    def run(classes: list[str], names: dict[str, str] | None = None):
        monkeypatch.setattr(predict.predictions, "read_shared", lambda _: SimpleNamespace(classes=classes, image_size=32))
        monkeypatch.setattr(predict, "_mean", lambda pixels, *_: np.full((len(pixels), len(classes)), 0.25))
        return predict.predict_data(work, [], 4, None, names)

    return run


NAMES = {"hemorrhage": "bleed"}


def test_a_label_under_another_name_is_mapped(work: Workspace, predicted):
    truth = tables.read_labels(work, tables.read_dataset(work)).set_index("image_id")["bleed"]
    for classes, names in ((["bleed"], None), (["hemorrhage"], {"bleed": "hemorrhage"}), (["any"], None)):
        frame = predicted(classes, names)
        assert frame.set_index("image_id")[f"y_{classes[0]}"].to_dict() == truth.to_dict() and 0 < truth.mean() < 1
        assert (frame[f"p_{classes[0]}"] == 0.25).all() and (frame["part"] == "test").all()


def test_other_labels_stop_with_the_flag_that_helps(predicted):
    with pytest.raises(UserError, match=r"has the label\(s\) bleed, the models know hemorrhage; .* --map bleed=hemorrhage"):
        predicted(["hemorrhage"])
    with pytest.raises(UserError, match="the models know A, B"):
        predicted(["A", "B"], {"bleed": "A"})
    with pytest.raises(UserError, match="--map: toy has no label none"):
        predicted(["hemorrhage"], {"none": "hemorrhage"})


def test_of_many_files_a_part_lies_in_memory(work: Workspace, monkeypatch):
    paths = [work.raw / name for name in toy.make(work, patients=9, slices=1)["image"]]
    monkeypatch.setattr(predict.predictions, "read_shared", lambda _: SimpleNamespace(classes=["a"], image_size=16))
    parts = []
    monkeypatch.setattr(predict, "_mean", lambda pixels, *_: parts.append(len(pixels)) or pixels.mean((1, 2))[:, None])
    monkeypatch.setattr(predict, "TOGETHER", 2)
    frame = predict.predict_files(paths, [], 2, None, prepared.AS_THEY_ARE)
    assert parts == [4, 4, 1] and frame["image"].tolist() == [str(path) for path in paths]
    assert frame["p_a"].tolist() == [images.resize(images.read_grey(path), 16).mean() for path in paths]
