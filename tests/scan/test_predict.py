"""What networks say of a scan, turned back to its own matrix, whatever it was; and files that lie where the scan lies."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import dicom_files, scan_networks
from helpers.scan_networks import around, is_blood, models, task
from hemoct.base.errors import UserError
from hemoct.ct import hounsfield, windows as ct_windows
from hemoct.scan import looking, write
from hemoct.scan.predict import How, predict
from hemoct.scan.runners import Models

SIZE = dicom_files.SIZE


def volume(path: Path, affine: np.ndarray, hu: np.ndarray) -> Path:
    """A volume of CT in a file."""
    nib.save(nib.Nifti1Image(hu, affine), path)
    return path


def rows_of(found: np.ndarray) -> list[int]:
    return np.flatnonzero(found).tolist()


def in_world(image: nib.Nifti1Image, mask: np.ndarray) -> np.ndarray:
    """Where the voxels of a mask lie, mm, sorted."""
    places = nib.affines.apply_affine(image.affine, np.argwhere(mask))
    return places[np.lexsort(places.round(3).T)]


def turned(axes: tuple[int, ...], signs: tuple[int, ...], tilt: float) -> np.ndarray:
    """An affine of voxel axes along world axes in any order, some of them backwards, turned by an angle about all three."""
    made, spacing = np.eye(4), (0.5, 0.5, 4.0)
    made[:3, :3] = 0
    for voxel, (world, sign) in enumerate(zip(axes, signs, strict=True)):
        made[world, voxel] = sign * spacing[world]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        one = np.eye(4)
        one[first, first] = one[second, second] = np.cos(tilt)
        one[first, second], one[second, first] = -np.sin(tilt), np.sin(tilt)
        made = one @ made
    made[:3, 3] = 12.0, -7.0, 30.0
    return made


@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
@pytest.mark.parametrize("tilt", [0.0, 0.2])
def test_masks_of_a_volume_lie_on_it_whatever_the_order_of_its_voxels(tmp_path, axes, signs, tilt):
    hu = dicom_files.head(6, size=32).transpose(2, 1, 0)[::-1, ::-1]  # to the right, the front and the head
    stored = np.transpose(hu, axes)[tuple(slice(None, None, sign) for sign in signs)]
    path = volume(tmp_path / "ct.nii.gz", turned(axes, signs, tilt), np.ascontiguousarray(stored))
    scan = predict(path, models(size=32))
    out = tmp_path / "out"
    out.mkdir()
    write.write(scan, out)
    given, edema = nib.load(path), nib.load(out / "edema.nii.gz")
    assert edema.shape == given.shape and np.allclose(edema.affine, given.affine)
    blood = is_blood(hounsfield.window(np.asarray(given.dataobj), ct_windows.WINDOWS["brain"]))
    assert np.array_equal(np.asarray(edema.dataobj) > 0, blood) and blood.any()
    assert np.allclose(in_world(edema, np.asarray(edema.dataobj) > 0), in_world(given, blood))
    back = nib.load(out / "scan.nii.gz")
    assert np.array_equal(np.asarray(back.dataobj), np.asarray(given.dataobj)) and np.allclose(back.affine, given.affine)


def test_masks_of_a_series_lie_where_its_headers_say(tmp_path):
    def edit(header, number):
        header.ImageOrientationPatient, header.PixelSpacing = [0.96, 0.28, 0.0, -0.28, 0.96, 0.0], [0.5, 0.5]
        header.ImagePositionPatient = [-10.0, 20.0 - number, 7.0 * number]  # a tilted gantry

    dicom_files.write_series(tmp_path / "ct", dicom_files.head(4), edit=edit)
    scan = predict(tmp_path / "ct", models())
    out = tmp_path / "out"
    out.mkdir()
    write.write(scan, out)
    edema = nib.load(out / "edema.nii.gz")
    column, row, number = np.argwhere(np.asarray(edema.dataobj))[7]
    assert is_blood(scan.source.grey[number, row, column])
    inside = column * np.array([0.96, 0.28, 0]) + row * np.array([-0.28, 0.96, 0])
    lps = np.array([-10.0, 20.0 - number, 7.0 * number]) + 0.5 * inside
    assert np.allclose(nib.affines.apply_affine(edema.affine, [column, row, number]), lps * [-1, -1, 1], atol=1e-4)


@pytest.mark.parametrize("knows", ["up", "left", "down", "right"])
def test_what_is_seen_turned_is_turned_back(tmp_path, knows):
    dicom_files.write_series(tmp_path, dicom_files.head(4))
    scan = predict(tmp_path, models(knows))
    blood = is_blood(scan.source.grey)
    assert np.array_equal(scan.masks.edema, blood)
    for number in range(4):
        (box,) = scan.boxes.each[number]
        rows, columns = np.nonzero(blood[number])
        assert box[:4].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.array_equal(scan.heat == 255, blood) and scan.bleeding.called.all() and scan.types[0].called.all()
    core = scan.masks.core  # with its holes filled
    assert (core & blood).sum() > 0.8 * core.sum() > 0
    assert any("turned" in note for note in scan.source.notes) == (knows != "up")


def test_a_scan_of_oblong_pixels_keeps_its_own_matrix(tmp_path):
    def edit(header, _):
        header.PixelSpacing = [1.0, 0.5]

    dicom_files.write_series(tmp_path, dicom_files.head(3), edit=edit)
    scan = predict(tmp_path, models(size=128))
    blood = is_blood(scan.source.grey)
    assert scan.masks.edema.shape == blood.shape == (3, SIZE, SIZE)
    common = (scan.masks.edema & blood).sum()
    assert common > 0.8 * scan.masks.edema.sum() and common > 0.6 * blood.sum()  # what is stretched lies between two values
    (box,) = scan.boxes.each[2]
    rows, columns = np.nonzero(blood[2])
    assert np.allclose(box[:4], [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], atol=1.5)


def test_windows_around_boxes_of_task_2_stand_in_for_a_detector_that_is_gone(tmp_path):
    dicom_files.write_series(tmp_path, dicom_files.head(4))
    tasks = [task(2), task(3, around=around())]
    scan = predict(tmp_path, Models(tasks, [], [], []))
    assert np.array_equal(scan.masks.edema, is_blood(scan.source.grey)) and scan.bleeding is None and not scan.types
    alone = predict(tmp_path, Models([task(3, around=around())], [], [], []))
    assert alone.masks is None and any("need boxes" in note for note in alone.source.notes)


def test_a_segmenter_whose_detector_sees_another_window(tmp_path):
    dicom_files.write_series(tmp_path, dicom_files.head(4))
    where = replace(around(), detector=task(2, window="bone"))
    scan = predict(tmp_path, Models([task(3, around=where)], [], [], []))
    assert scan.masks is not None and not scan.masks.edema.any()  # no blood is seen in the window of bone


def test_cores_are_bright_in_the_window_of_the_segmenter(tmp_path):
    dicom_files.write_series(tmp_path, dicom_files.head(4))
    expected = predict(tmp_path, Models([task(2), task(3)], [], [], []))
    among = predict(tmp_path, Models([task(1, window="bone"), task(2), task(3)], [], [], []))
    assert expected.masks.core.any() and np.array_equal(among.masks.core, expected.masks.core)


def test_three_windows_are_not_mixed_for_models_of_one_channel(tmp_path):
    dicom_files.write_series(tmp_path, dicom_files.head(3))
    with pytest.raises(UserError, match="task 1, 2 see slices of one channel"):
        predict(tmp_path, Models([task(1), task(2)], [], [], []), How(window="brain,subdural,bone"))


def test_models_that_do_not_know_what_they_learned_from_are_said(tmp_path):
    dicom_files.write_series(tmp_path, dicom_files.head(3))
    scan = predict(tmp_path, models(tasks=(1, 4)))
    assert "not known: whether models of task 1, 4 learned from slices of this scan" in scan.source.notes


def test_volumes_count_each_slice_by_its_own_thickness(tmp_path):
    places = [0.0, 4.0, 8.0, 20.0]

    def edit(header, number):
        header.ImagePositionPatient, header.PixelSpacing = [0.0, 0.0, places[number]], [0.5, 0.5]

    dicom_files.write_series(tmp_path, dicom_files.head(4), edit=edit)
    scan = predict(tmp_path, models())
    pixels = scan.masks.edema.sum(axis=(1, 2))
    value, unit = scan.volume(scan.masks.edema)
    assert unit == "ml" and np.isclose(value, pixels @ [4.0, 4.0, 8.0, 12.0] * 0.25 / 1000)
    assert any("gaps" in note for note in scan.source.notes)


def test_neighbours_are_those_of_the_scan(tmp_path):
    hu = dicom_files.head(5)
    hu[:3] = np.where(hu[:3] == dicom_files.BLOOD, dicom_files.BRAIN, hu[:3])
    seen = []

    class Sees(scan_networks.SeesBlood):
        def probabilities(self, pixels):
            seen.append(pixels)
            return super().probabilities(pixels)

    dicom_files.write_series(tmp_path, hu)
    scan = predict(tmp_path, Models([task(1, context=1, load=lambda: [Sees()])], [], [], []))
    planes, grey = np.concatenate(seen), scan.source.grey
    assert np.array_equal(planes[0], grey[[0, 0, 1]]) and np.array_equal(planes[3], grey[[2, 3, 4]])
    assert np.array_equal(planes[4], grey[[3, 4, 4]])


def test_no_output_holds_what_the_header_says_of_the_patient(tmp_path):
    secrets = {"PatientName": "Doe^Jane", "PatientID": "id-4711", "StudyDate": "20010203", "SeriesDescription": "<b>Jane</b>",
               "InstitutionName": "St. Mary", "PatientBirthDate": "19300405"}  # fmt: skip

    def edit(header, _):
        for name, value in secrets.items():
            setattr(header, name, value)

    dicom_files.write_series(tmp_path / "ct", dicom_files.head(3), edit=edit)
    scan = predict(tmp_path / "ct", models())
    out, asked = tmp_path / "out", tmp_path / "asked"
    out.mkdir(), asked.mkdir()
    for path in write.write(scan, out):
        content = path.read_bytes() if path.is_file() else b""
        content = nib.load(path).header.structarr.tobytes() if path.name.endswith(".nii.gz") else content
        assert not any(value.encode() in content for value in secrets.values()), path
    write.write(scan, asked, identifiers=True)
    assert json.loads((asked / "scan.json").read_text())["identifiers"]["patient"] == "id-4711"


def test_tables_hold_what_the_scan_holds(tmp_path):
    dicom_files.write_series(tmp_path / "ct", dicom_files.head(4))
    scan = predict(tmp_path / "ct", models(), How(heat=False))
    write.write(replace(scan, seen=np.array([True, False, False, True])), tmp_path)
    table, boxes = pd.read_csv(tmp_path / "slices.csv"), pd.read_csv(tmp_path / "boxes.csv")
    assert table["slice"].tolist() == [1, 2, 3, 4] and table["seen"].tolist() == [1, 0, 0, 1] and scan.heat is None
    assert (table["hemorrhage"] == 1).all() and (table["IPH"] == 1).all() and set(table["threshold_IPH"]) == {0.5}
    assert table["edema_px"].tolist() == scan.masks.edema.sum(axis=(1, 2)).tolist() and len(boxes) == 4
    for number in range(1, 5):
        mask = np.asarray(Image.open(tmp_path / "masks" / "edema" / f"{number:03d}.png"))
        assert np.array_equal(mask == 255, scan.masks.edema[number - 1]) and set(np.unique(mask)) <= {0, 255}
    assert Image.open(tmp_path / "montage.png").width > 224 and (tmp_path / "scan.html").stat().st_size > 10_000


@pytest.mark.parametrize("nose", ["up", "left", "down", "right"])
def test_slices_without_a_header_get_the_place_that_radiology_gives_them(tmp_path, nose):
    for number in range(3):
        Image.fromarray(np.full((8, 6), number, np.uint8)).save(tmp_path / f"{number}.png")
    scan = predict(tmp_path, models(size=8, tasks=(1,)), How(orientation=nose, spacing=(1.0, 1.0, 2.0)))
    forward = {"up": [0, -1], "left": [-1, 0], "down": [0, 1], "right": [1, 0]}[nose]
    affine = write.assumed_affine(scan)
    assert np.allclose(affine[:3, :2] @ forward, [0, 1, 0]) and affine[2, 2] == 2.0
    assert np.linalg.det(affine[:3, :3]) > 0  # columns to the left, rows to the back, slices to the head


@pytest.mark.parametrize(("k", "sides", "apart"), [(128, [150, 128, 256, 202], 0), (16, [16, 40, 26, 16], 1)])
def test_patches_are_pasted_as_in_training(k, sides, apart):
    from hemoct.segmentation import train
    from hemoct.segmentation.windows import Windows

    random = np.random.default_rng(0)
    rows, size = np.array([0, 0, 2, 5]), 4 * k
    places = np.column_stack([random.integers(-k // 2, 3 * k, (4, 2)), sides]).astype(float)
    patches = random.integers(0, 256, (4, k, k)).astype(np.uint8)
    expected = list(train.pasted(Windows(rows, places, np.ones(4)), patches, size))
    found = list(looking.pasted(rows, places, patches, size))
    assert [row for row, _ in found] == [row for row, _ in expected] == [0, 2, 5]
    for (_, one), (_, other) in zip(found, expected, strict=True):
        assert np.abs(one.astype(int) - other).max() <= apart and (one != other).mean() < 0.01


def test_a_network_without_maps_is_said_where_slices_are_called(tmp_path):
    class Blind(scan_networks.SeesBlood):
        def maps(self, pixels):
            return None

    dicom_files.write_series(tmp_path / "ct", dicom_files.head(4))
    blind = Models([task(1, load=lambda: [Blind()])], [], [], [])
    scan = predict(tmp_path / "ct", blind)
    assert scan.heat is None and any("its network gives no map" in note for note in scan.source.notes)
    assert not any("no map" in note for note in predict(tmp_path / "ct", blind, How(heat=False)).source.notes)
    assert not any("no map" in note for note in predict(tmp_path / "ct", models()).source.notes)
