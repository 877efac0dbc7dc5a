"""What the viewer lists of a data set, and the volumes that it makes, on toy data in which each mistake is known."""

import gzip
import json

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from helpers import viewed
from hemoct.base import files, tables
from hemoct.viewer import volumes
from hemoct.viewer.dataset import DatasetView
from hemoct.viewer.server import Content
from hemoct.viewer.volumes import BOX, EDGE, Frame, layer


@pytest.fixture
def content(work) -> Content:
    viewed.make(work)
    return DatasetView(work).content()


def read(content: Content, address: str):
    body = content.find(address)()
    return json.loads(body) if address.endswith("json") else nib.Nifti1Image.from_bytes(gzip.decompress(body))


def test_patients_and_mistakes_are_those_on_disk(content):
    index = read(content, "index.json")
    assert (
        index["cases"] == ["0001", "0002", "0003", "0004", "0005"]
        and index["counts"] == [4] * 5
        and index["truth"]
        and not index["hu"]
    )
    assert [(task["task"], task["experiments"]) for task in index["tasks"]] == [(1, ["e"]), (2, ["e"]), (3, ["e"])]
    first = read(content, "results/1/0.json")
    assert first["errors"][:3] == [[0, 1, "1 wrong"], [1, 2, "2 wrong"], [2, 0, "0 wrong"]] and first["rising"]
    assert [mistake[:3] for mistake in first["mistakes"]] == [[0, 0, "false alarm"], [1, 1, "missed"], [1, 3, "missed"]]
    assert first["mistakes"][0][3] == "hemorrhage 0.90, threshold 0.50"
    second = read(content, "results/2/0.json")
    assert [mistake[:3] for mistake in second["mistakes"]] == [[1, 1, "missed box"], [2, 0, "false box"]]
    assert second["mistakes"][0][3] == "9 x 9 px" and second["mistakes"][1][3] == "confidence 0.70"
    assert second["errors"][:3] == [[0, 0, "0 wrong"], [1, 1, "1 wrong"], [2, 1, "1 wrong"]]
    third = read(content, "results/3/0.json")
    assert [mistake[:3] for mistake in third["mistakes"]] == [[1, 1, "missed mask"]] and not third["rising"]
    assert third["errors"][1] == [1, 0.5, "Dice 0.50"]


def test_each_slice_has_its_truth_and_its_predictions(content):
    about = read(content, "case/1/slices.json")
    assert about["names"] == ["0002_00", "0002_01", "0002_02", "0002_03"] and about["truth"] == [
        [],
        ["hemorrhage"],
        [],
        ["hemorrhage"],
    ]
    assert (about["axis"], about["turned"], about["sides"]) == (2, False, False) and "spacing unknown" in about["about"]
    assert read(content, "case/1/1/0.json")[1]["labels"] == [["hemorrhage", 0.1, 0.5, False, 1.0]]
    assert read(content, "case/2/2/0.json")[0]["words"] == "boxes: 1 predicted, 0 true, confidence 0.70"


def test_volumes_hold_the_slices_from_the_base_up_and_layers_lie_on_them(content, work):
    grey = read(content, "case/0/grey.nii.gz")
    slices = np.stack([np.asarray(Image.open(work.raw / f"0001_{number:02d}.png")) for number in range(4)])
    # columns lead to the patient's left and rows to the back: the first pixel is the one furthest to the right and to the front
    assert nib.aff2axcodes(grey.affine) == ("R", "A", "S")
    assert (np.asarray(grey.dataobj) == slices[:, ::-1, ::-1].transpose(2, 1, 0)).all()
    truth, predicted = (np.asarray(read(content, f"case/1/{name}").dataobj) for name in ("truth.nii.gz", "prediction-0-0.nii.gz"))
    assert [{EDGE, BOX} <= set(np.unique(of_slice)) for of_slice in truth.transpose(2, 0, 1)] == [False, True] * 2
    assert not truth[..., [0, 2]].any()
    assert not predicted[..., :3].any() and (truth[..., 3] == BOX).any()
    assert ((predicted[..., 3] == BOX) == (truth[..., 3] == BOX)).all()
    boxes, masks = (np.asarray(read(content, f"case/1/prediction-{which}.nii.gz").dataobj) for which in ("0-x", "x-0"))
    assert set(np.unique(boxes)) == {0, BOX} and set(np.unique(masks)) <= {0, 200, EDGE} and EDGE in masks


def test_a_head_that_lies_on_its_side_is_shown_with_the_nose_up(content, work):
    files.write_json(work.work / "dataset.json", files.read_json(work.work / "dataset.json") | {"orientation": "left"})
    turned = np.asarray(read(DatasetView(work).content(), "case/0/grey.nii.gz").dataobj)
    stored = np.asarray(Image.open(work.raw / "0001_00.png"))
    assert (turned[:, ::-1, 0].T[:, ::-1] == np.rot90(stored, -1)).all()  # the left edge comes to the top


def test_spacing_that_is_known_is_that_of_the_volume(work):
    frame = viewed.make(work)
    tables.write_labels(work, frame.assign(spacing_row=0.5, spacing_col=0.4, spacing_z=6.0), tables.read_dataset(work))
    content = DatasetView(work).content()
    assert np.allclose(read(content, "case/0/grey.nii.gz").header.get_zooms(), (0.4, 0.5, 6.0))
    assert read(content, "case/0/slices.json")["about"] == "4 slices"


def test_slices_of_other_sizes_and_without_a_mask_are_shown_beside_the_others(content, work):
    Image.fromarray(np.full((20, 30), 77, np.uint8)).save(work.raw / "0003_00.png")
    frame = tables.read_labels(work, tables.read_dataset(work))
    tables.write_labels(
        work, frame.assign(mask=frame["mask"].where(frame["image_id"] != "0003_00", "")), tables.read_dataset(work)
    )
    content = DatasetView(work).content()
    grey = np.asarray(read(content, "case/2/grey.nii.gz").dataobj)[::-1, ::-1, 0].T
    assert grey.shape == (48, 48) and (grey[:20, :30] == 77).all() and not grey[20:].any() and not grey[:, 30:].any()
    assert read(content, "case/2/truth.nii.gz").shape == (48, 48, 4)


def test_a_data_set_without_results_is_shown_alone(work):
    viewed.toy.make(work, patients=5)
    content = DatasetView(work).content()
    index = read(content, "index.json")
    assert index["tasks"] == [] and not index["truth"] and content.find("case/0/truth.nii.gz") is None
    assert read(content, "case/0/prediction-x-x.nii.gz").shape[2] == 4


def test_a_damaged_experiment_is_named_and_the_others_are_shown(work):
    viewed.make(work)
    (work.task(1) / "e" / "metrics.json").write_text("{")
    index = read(DatasetView(work).content(), "index.json")
    assert [task["task"] for task in index["tasks"]] == [2, 3] and any("not shown: e: " in note for note in index["notes"])


def test_frames_of_boxes_stay_in_the_slice_and_outlines_in_the_mask():
    shape = (2, 10, 12)
    masks = np.zeros(shape, dtype=bool)
    masks[0, 2:6, 3:8] = True
    drawn = layer(masks, [np.array([[-5.0, -5.0, 50.0, 50.0, 0.9, 0.0]]), np.zeros((0, 4))], shape)
    assert (drawn[0, 0] == BOX).all() and (drawn[0, :, -1] == BOX).all() and not drawn[1].any()
    assert (drawn[0, 2, 3:8] == EDGE).all() and 0 < drawn[0, 3, 4] < EDGE and not drawn[0, 7, 4]
    probable = layer(masks, [np.zeros((0, 4))] * 2, shape, np.full(shape, 255, np.uint8))
    assert probable[1].max() == EDGE - 1 and probable[0, 2, 3] == EDGE


def test_slices_of_an_oblique_series_are_counted_along_the_axis_that_is_nearest():
    angle = np.deg2rad(20)
    tilted = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    affine = np.eye(4)
    affine[:3, :3] = tilted @ np.diag([-0.5, -0.5, -4.0])
    assert Frame(affine).along() == (2, True)
    coronal = np.eye(4)[[0, 2, 1, 3]]  # columns to the right, rows to the head, slices to the front
    assert Frame(coronal).along() == (1, False)
    made = nib.Nifti1Image.from_bytes(gzip.decompress(Frame(coronal).nifti(np.zeros((3, 5, 7), np.int16))))
    assert made.shape == (7, 3, 5) and made.get_data_dtype() == np.int16
    assert volumes.Frame.of_images(100, None, "unknown").affine[0, 0] == -2.3
