"""What a multi-label network is fed: planes of neighbours and colours, targets, `any` beside the types."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import toy_types
from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import slices
from hemoct.ingest import layouts
from hemoct.multilabel import data as multilabel_data, working_set
from hemoct.multilabel.options import Network
from hemoct.training.batches import Stacks, Store

LABELS = toy_types.LABELS
NAN = math.nan


def load(work: Workspace, **network: object) -> multilabel_data.LabelledSlices:
    return multilabel_data.load(work, Network(image_size=toy_types.SIZE, **network))


def image(work: Workspace, name: str) -> np.ndarray:
    return np.asarray(Image.open(work.raw / f"{name}.png"))


def fed(data: multilabel_data.LabelledSlices, name: str) -> np.ndarray:
    """What the network sees of an image: uint8 (planes, size, size)."""
    row = data.table["image_id"].tolist().index(name)
    source = Stacks(Store(data.pixels, torch.device("cpu")), torch.as_tensor(data.planes))
    ((_, batch),) = source.batches(torch.tensor([row]), 4)
    return (batch[0] * 255).round().byte().numpy()


def test_neighbours_are_fed_in_order_also_from_outside_of_the_working_set(work):
    """Patient 1 has the slices 0, 1, 2, 5, 6, 7 and patient 2 goes on with 8: a gap, and another patient next to it."""
    labels = toy_types.make(work)
    labels["slice"] += np.where((labels["patient"] == "0001") & (labels["slice"] > 2), 2, 0)
    labels["slice"] += np.where(labels["patient"] == "0002", 8, 0)
    toy_types.save(work, labels, chosen=~labels["image_id"].isin(["0001_01", "0002_02"]))

    def seen(name: str, context: int) -> list[str]:
        names = {image(work, other).tobytes(): other for other in labels["image_id"]}
        return [names[plane.tobytes()] for plane in fed(load(work, context=context), name)]

    assert seen("0001_02", 0) == ["0001_02"]
    assert seen("0001_02", 1) == ["0001_01", "0001_02", "0001_02"], "the one before is not in the working set; a gap behind"
    assert seen("0001_00", 2) == ["0001_00", "0001_00", "0001_00", "0001_01", "0001_02"]
    assert seen("0001_03", 1) == ["0001_03", "0001_03", "0001_04"]
    assert seen("0001_05", 1) == ["0001_04", "0001_05", "0001_05"], "the next number is of another patient"
    assert seen("0002_00", 1) == ["0002_00", "0002_00", "0002_01"]
    assert seen("0002_01", 2) == ["0002_00", "0002_00", "0002_01", "0002_02", "0002_03"]


def test_every_neighbour_is_of_the_same_patient_whatever_the_order_of_the_table(work):
    labels = toy_types.make(work)
    toy_types.save(work, labels)
    tables.write_csv(work.work / "labels.csv", labels.sample(frac=1, random_state=0))  # as a person may have left it
    data = load(work, context=2)
    names = {image(work, name).tobytes(): name for name in labels["image_id"]}
    for name, planes in zip(data.table["image_id"], data.planes, strict=True):
        around = np.clip(int(name[-1]) + np.arange(-2, 3), 0, 5)
        assert [names[plane.tobytes()] for plane in data.pixels[planes]] == [f"{name[:-1]}{number}" for number in around]
        truth = labels.set_index("image_id").loc[name, LABELS].to_numpy(dtype=float)
        np.testing.assert_array_equal(data.targets[data.table["image_id"].tolist().index(name)], truth)


def test_slices_without_a_number_have_no_neighbours(work, capsys):
    labels = toy_types.make(work).astype({"slice": "Int64"})
    without = labels["patient"] == labels["patient"].iloc[0]
    labels.loc[without, "slice"] = pd.NA
    toy_types.save(work, labels)
    data = load(work, context=1)
    alone = (data.planes == data.planes[:, [1]]).all(axis=1)
    assert (data.table["patient"][alone] == labels["patient"].iloc[0]).all() and alone.sum() == without.sum()
    assert f"{without.sum()} of {len(labels)} images have no neighbour" in capsys.readouterr().out
    labels["slice"] = pd.NA
    toy_types.save(work, labels)
    with pytest.raises(UserError, match="no image has a neighbour"):
        load(work, context=1)


def test_channels_that_are_mixed_or_alike_are_told(work, capsys):
    toy_types.make(work, colour=True)
    load(work, channels=3)
    assert "mind" not in capsys.readouterr().out
    files.write_json(work.raw / layouts.ORIGIN, {"converted": "x", "window": "brain,subdural,bone"})
    load(work)
    assert "three windows (brain,subdural,bone), which one channel mixes; --channels 3" in capsys.readouterr().out
    for path in work.raw.glob("*.png"):
        Image.open(path).convert("L").save(path)
    load(work, channels=3)
    assert "is grey: the three channels of --channels 3 are the same" in capsys.readouterr().out


def test_three_channels_are_red_green_and_blue_of_each_neighbour(work):
    toy_types.make(work, colour=True)
    data = load(work, channels=3)
    assert (fed(data, "0003_02") == image(work, "0003_02").transpose(2, 0, 1)).all()
    around = fed(load(work, channels=3, context=1), "0003_02")
    expected = [image(work, name)[..., colour] for name in ("0003_01", "0003_02", "0003_03") for colour in range(3)]
    assert around.shape == (9, 32, 32) and all((one == other).all() for one, other in zip(around, expected, strict=True))


def test_only_what_is_seen_is_decoded(work):
    labels = toy_types.make(work)
    few = labels["patient"].eq("0004") & labels["slice"].eq(2)
    toy_types.save(work, labels, chosen=few)
    for context, planes in ((0, 1), (1, 3), (3, 6)):
        assert len(load(work, context=context).pixels) == planes


def test_any_is_first_and_unknown_where_no_known_type_tells():
    truth = np.array([[0, 1, 0], [0, NAN, 0], [1, NAN, 0], [0, 0, 0]])
    of_any = slices.any_of(truth)
    both = multilabel_data.with_any(pd.DataFrame(truth, columns=LABELS), of_any)
    assert list(both) == ["any", *LABELS]
    np.testing.assert_array_equal(both, np.column_stack([[1, NAN, 1, 0], truth]))
    both = multilabel_data.with_any(pd.DataFrame(truth, columns=["IVH", "any", "SAH"]), of_any)
    assert list(both) == ["any", "IVH", "SAH"], "one that is there is kept, and moved"
    np.testing.assert_array_equal(both, truth[:, [1, 0, 2]])
    with pytest.raises(UserError, match="no type of bleeding beside any"):
        multilabel_data.with_any(pd.DataFrame(truth[:, :1], columns=["any"]), truth[:, 0])


def test_any_of_some_labels_knows_the_bleeding_of_the_others(tmp_path):
    """A slice that shows SAH alone bleeds, also for a network that learns IVH and IPH."""
    work = Workspace(tmp_path, "toy")
    frame = toy_types.make(work)
    chosen = working_set.choose(work, ["IVH", "IPH"])
    tables.write_csv(working_set.folder(work) / "working_set.csv", chosen.table)
    data = load(work, heads="any,types")
    bleeds = (frame.set_index("image_id")[toy_types.LABELS] == 1).any(axis=1).loc[data.table["image_id"]]
    assert data.classes == ["any", "IVH", "IPH"]
    np.testing.assert_array_equal(data.targets[:, 0], bleeds.to_numpy())
    assert (data.targets[:, 0] > data.targets[:, 1:].max(axis=1)).any(), "on slices with SAH alone"
