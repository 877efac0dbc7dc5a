"""Labels of studies: the side from boxes, any label of slices, tables, volumes, parts; what is wrong with them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import bleeding_heads, toy
from helpers.refusals import refused
from hemoct.base import tables
from hemoct.base.workspace import Workspace
from hemoct.prepare.geometry import Geometry
from hemoct.volumes import sides, studies

STEP = "task1_classification/10_study_labels.py"


@pytest.fixture
def labels(run_step, work: Workspace):
    def run(*words: object):
        return run_step(STEP, "--root", work.root, "--dataset", "toy", *words)

    return run


def made(work: Workspace, name: str) -> pd.DataFrame:
    return studies.read(work, name)[0]


def change(work: Workspace, **columns: object) -> None:
    """Columns of labels.csv anew."""
    dataset = tables.read_dataset(work)
    tables.write_labels(work, tables.read_labels(work, dataset).assign(**columns), dataset)


def test_the_side_is_that_of_the_phantom(labels, work):
    truth = bleeding_heads.make(work, patients=16, size=128)
    result = labels()
    assert result.code == 0 and "left is the patient's" in result.out and "--label side" in result.out
    found = made(work, "side").merge(truth, on="patient")
    assert len(found) >= 14 and (found["study_side_left"] == found["left"]).all()
    middle = found["image_id"].str[-2:].astype(int)
    assert (middle == 3).all() and (found["first"] == 0).all() and (found["last"] == 5).all()


@pytest.mark.parametrize("turns", range(4))
def test_left_follows_from_where_the_nose_points(tmp_path, turns):
    work = Workspace(tmp_path, "toy")
    bleeding_heads.make(work, patients=5, size=128)
    frame, boxes = tables.read_labels(work, tables.read_dataset(work)), tables.read_boxes(work)
    left, right = sides.areas(work.raw, frame, boxes, "left")
    geometry = Geometry(128, 128, turns)
    for path in work.raw.glob("*.png"):
        Image.fromarray(geometry.image(np.asarray(Image.open(path)))).save(path)
    corners = ["xmin", "ymin", "xmax", "ymax"]
    turned = boxes.assign(**dict(zip(corners, geometry.boxes(boxes[corners].to_numpy()).T, strict=True)))
    orientation = ("left", "down", "right", "up")[turns]
    other_left, other_right = sides.areas(work.raw, frame, turned, orientation)
    assert np.allclose(left, other_left, atol=60) and np.allclose(right, other_right, atol=60) and left.sum() > 100


def test_boxes_on_both_sides_are_no_side(labels, work):
    bleeding_heads.make(work, patients=8, size=128)
    boxes = tables.read_boxes(work)
    mirrored = boxes[boxes["image_id"].str.startswith("0001")].assign(
        ymin=lambda b: 128 - b["ymax"], ymax=lambda b: 128 - b["ymin"]
    )
    mirrored["ymin"], mirrored["ymax"] = np.sort(mirrored[["ymin", "ymax"]].to_numpy(), axis=1).T
    tables.write_boxes(work, pd.concat([boxes, mirrored]))
    result = labels()
    assert result.code == 0 and "1 on both sides" in result.out and "left out: 0001" in result.out


def test_a_label_of_slices_holds_for_halves(labels, work):
    frame = bleeding_heads.make(work, patients=8)
    assert labels("--label", "hemorrhage", "--parts", 6).code == 0
    found, of_slices = made(work, "hemorrhage-parts6"), tables.read_labels(work, tables.read_dataset(work))
    assert len(found) == 6 * len(frame) and found["study_hemorrhage"].tolist() == of_slices["hemorrhage"].tolist()
    assert (found["image_id"] == of_slices["image_id"]).all() and found["study"].is_unique
    assert labels("--label", "hemorrhage", "--parts", 2, "--name", "halves").code == 0
    assert (made(work, "halves")["last"] - made(work, "halves")["first"] == 2).all()


def test_masks_give_volumes(labels, work):
    toy.make(work, patients=6, slices=4, masks=True)
    for number in (1, 2, 3):  # half of what the others have
        Image.new("L", (32, 32)).save(work.raw / f"{number:04d}_01_mask.png")
    change(work, spacing_row=0.5, spacing_col=0.5, spacing_z=5.0)
    mask = np.asarray(Image.open(work.raw / "0004_01_mask.png")) > 0
    limit = 1.5 * mask.sum() * 1.25 / 1000  # ml
    assert labels("--label", "volume", "--above", limit, "--name", "large").code == 0
    assert made(work, "large")["study_volume"].tolist() == [0, 0, 0, 1, 1, 1]
    change(work, spacing_z=pd.array([5.0, None] * 12, dtype="Float64"))
    assert labels("--label", "volume", "--above", 1.5 * mask.sum(), "--name", "pixels").code == 0, "without a spacing: pixels"
    assert made(work, "pixels")["study_volume"].tolist() == [0, 0, 0, 1, 1, 1]
    frame = tables.read_labels(work, tables.read_dataset(work))
    change(work, spacing_z=np.where(frame["patient"] == "0001", np.nan, 5.0))
    assert refused(labels("--label", "volume", "--above", 1), "two units")


@pytest.mark.parametrize(("content", "flags", "classes"), [
    ("patient,outcome\n0001,dead\n0002,alive\n0003,dead\n0004,alive\n", (), ["study_outcome_alive"]),
    ("patient,outcome\n0001,1\n0002,2\n0003,1\n0004,2\n0005,3\n0006,3\n", (), [f"study_outcome_{n}" for n in (1, 2, 3)]),
    ("patient,outcome\n0001,10.5\n0002,20\n0003,30\n0004,5\n", ("--above", 15), ["study_outcome"]),
    ("image_id,outcome\n0001_00,1\n0001_01,1\n0002_01,0\n0003_01,0\n0004_01,1\n", (), ["study_outcome"]),
    ("patient,outcome\n0001,1\n0002,0\n0003,1\n0004,0\n9999,1\n", (), ["study_outcome"]),
])  # fmt: skip
def test_a_table_of_yours(labels, work, tmp_path, content, flags, classes):
    toy.make(work, patients=6)
    path = tmp_path / "mine.csv"
    path.write_text(content)
    result = labels("--table", path, "--label", "outcome", "--name", "mine", *flags)
    assert result.code == 0, result.err
    table, found = studies.read(work, "mine")
    assert found == classes and table[classes].sum().sum() > 0
    assert ("9999" in content) == ("1 patients are not in labels.csv" in result.out)


def test_studies_of_one_patient_have_labels_of_their_own(labels, work, tmp_path):
    toy.make(work, patients=6, slices=4)
    frame = tables.read_labels(work, tables.read_dataset(work))
    change(work, group=np.where(frame["slice"] < 2, "first", "second"))
    path = tmp_path / "mine.csv"
    path.write_text("patient,group,grade\n" + "".join(f"{n:04d},first,{n % 2}\n{n:04d},second,1\n" for n in range(1, 7)))
    assert labels("--table", path, "--label", "grade").code == 0
    found = made(work, "grade").set_index("study")["study_grade"]
    assert found["0001/first"] == 1 and found["0002/first"] == 0 and found["0002/second"] == 1 and len(found) == 12


@pytest.mark.parametrize(("content", "words"), [
    ("patient,outcome\n0001,1\n0001,0\n0002,0\n", ("outcome differs within study 0001",)),
    ("patient,outcome\n777,1\n778,0\n", ("of no patient of labels.csv", "777")),
    ("patient,outcome\n0001,1\n0002,0\n0003,0\n", ("study_outcome is 1 of 0001 alone", "two patients")),
    ("patient,outcome\n0001,1\n0002,1\n0003,1\n", ("study_outcome is 0 of no patient",)),
    ("image_id,outcome\n0001_00,1\n0001_01,0\n0002_01,0\n", ("outcome differs within study 0001",)),
    ("name,outcome\n0001,1\n", ("neither patient nor image_id",)),
    ("patient,other\n0001,1\n", ("lacks the column(s) outcome",)),
    ("patient,outcome\n" + "".join(f"{n:04d},{n}.5\n" for n in range(1, 15)), ("different numbers", "--above N")),
])  # fmt: skip
def test_wrong_tables_are_refused(labels, work, tmp_path, content, words):
    toy.make(work, patients=14, slices=2)
    (tmp_path / "mine.csv").write_text(content)
    assert refused(labels("--table", tmp_path / "mine.csv", "--label", "outcome"), *words)
    assert not (Path(work.work) / "studies" / "outcome" / "study_labels.csv").exists()


@pytest.mark.parametrize(("columns", "flags", "words"), [
    ({"orientation_": 0}, ("--label", "side"), ("where the nose points is not known",)),
    ({}, ("--label", "side", "--orientation", "left"), ("toy has no boxes",)),
    ({"slice": pd.array([None] * 24, dtype="Int64")}, ("--label", "hemorrhage"), ("slices have no number",)),
    ({"slice": 1}, ("--label", "hemorrhage"), ("has slice 1 twice, so the order is unknown",)),
    ({"position": [0, 5, 0, 5] * 6}, ("--label", "hemorrhage"), ("of two series", "keep one series")),
    ({}, ("--label", "nothing"), ("no such label", "hemorrhage")),
    ({}, ("--label", "volume", "--above", "1"), ("study_volume is 0 of no patient", "two patients")),
])  # fmt: skip
def test_wrong_data_are_refused(labels, work, columns, flags, words):
    toy.make(work, patients=6, slices=4, masks=True)
    change(work, **columns)
    assert refused(labels(*flags), *words)


def test_labels_of_patients_say_nothing_of_parts(labels, work, tmp_path):
    toy.make(work, patients=6)
    (tmp_path / "mine.csv").write_text("patient,outcome\n0001,1\n0002,0\n")
    assert refused(labels("--table", tmp_path / "mine.csv", "--label", "outcome", "--parts", 2), "says nothing of the parts")
