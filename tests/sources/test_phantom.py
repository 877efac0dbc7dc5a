"""The drawn data set: the real layout, the real defects, the same every time, and pictures that show what the labels say."""

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import openpyxl
import pandas as pd
import pydicom
import pytest
from lxml import etree
from PIL import Image

from hemoct.ct import hounsfield
from hemoct.ingest import layouts
from hemoct.sources import phantom, phantom_dataset

PATIENTS, SLICES, SIZE = 7, 6, 64


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    phantom_dataset.draw_dataset(folder, PATIENTS, SLICES, SIZE)
    return folder


def grey(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "L"
        return np.asarray(image)


def boxes(folder: Path) -> dict[str, list[int]]:
    """The box of each annotated slice by the stem of its XML file."""
    found = {}
    for path in sorted(folder.glob("SubdatasetC_PNG/annotation/*/*.xml")):
        for corner in etree.parse(path).iter("bndbox"):
            found[path.stem] = [int(value.text) for value in corner]
    return found


def test_layout_is_that_of_the_real_set(drawn: Path) -> None:
    base = drawn / "SubdatasetC_PNG"
    numbers = phantom_dataset.patient_numbers(PATIENTS)
    assert sorted(path.name for path in (base / "set").iterdir()) == sorted(f"image{n}" for n in numbers)
    assert 13 in numbers and len(numbers) == PATIENTS
    assert len(list(base.glob("set/image*/*.png"))) == len(list(base.glob("annotation/annotation*/*.xml"))) == PATIENTS * SLICES
    assert grey(base / "set" / "image2" / "0002_03.png").shape == (SIZE, SIZE)
    assert layouts.recognise(drawn).layout == "phe-sich"


def test_defects_of_the_real_set_are_there(drawn: Path) -> None:
    base = drawn / "SubdatasetC_PNG"
    assert sorted(path.name for path in (base / "annotation" / "annotation13").iterdir())[0] == "013_00.xml"
    assert (base / "set" / "image1" / f"0001_{SLICES - 1 + 40:02d}.png").exists(), "a slice number that jumps"
    assert etree.parse(base / "annotation" / "annotation2" / "0002_01.xml").findtext("filename") == "1.png"
    assert not (base / "label" / "label3").exists()
    assert not (base / "label" / "label4" / "0004_01.png").exists()
    assert np.count_nonzero(grey(base / "label" / "label5" / "0005_01.png")) == 1 and "0005_01" not in boxes(drawn)
    black = [path for path in base.glob("set/*/*.png") if not grey(path).any()]
    assert len(black) >= 2 and len({path.read_bytes() for path in black}) == 1
    assert any(0 < (grey(path) > 0).mean() < 0.03 for path in base.glob("set/*/*_00.png")), "a near-black first slice"
    masks = {path.stem: grey(path) for path in base.glob("label/*/*.png")}
    assert set(np.unique(np.stack(list(masks.values())))) == {0, 255}
    assert any(not masks[stem].any() for stem in boxes(drawn) if stem in masks), "a box whose mask is empty"


def test_size_is_given_only_with_a_lesion(drawn: Path) -> None:
    for path in drawn.glob("SubdatasetC_PNG/annotation/*/*.xml"):
        tree = etree.parse(path)
        assert (tree.find("size") is None) == (tree.find("object") is None)
    assert {tree.text for path in drawn.rglob("*.xml") for tree in etree.parse(path).iter("name")} == {"a"}


def test_mask_is_the_dark_edema_and_the_box_holds_the_bright_bleeding_too() -> None:
    head = phantom.make_head((1, 2), 7)
    head = replace(head, lesion=replace(head.lesion, radius=0.25, hu=65, rim=0.1))
    volume = phantom.draw_volume(head, np.array([head.lesion.level]), 128)
    assert volume.hu.shape == volume.edema.shape == (1, 128, 128)
    assert volume.hu[volume.edema].mean() < 30 < 55 < volume.hu[volume.bleeding].mean()
    assert not (volume.edema & volume.bleeding).any()
    rows, columns = np.nonzero(volume.edema[0] | volume.bleeding[0])
    box = phantom_dataset.box_around(volume.edema[0] | volume.bleeding[0], margin=0)
    assert box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_every_patient_bleeds_and_not_on_every_slice(drawn: Path) -> None:
    patients = [int(stem.split("_")[0]) for stem in boxes(drawn)]
    assert set(patients) == set(phantom_dataset.patient_numbers(PATIENTS))
    assert max(patients.count(patient) for patient in set(patients)) < SLICES - 1


def test_side_in_medinfo_is_where_the_box_lies(drawn: Path) -> None:
    rows = list(openpyxl.load_workbook(drawn / "MedInfo.xlsx").active.values)
    assert rows[0] == ("number", "sex", "age", "side") and len(rows) == PATIENTS + 1
    sides = {row[0]: row[3] for row in rows[1:]}
    middle: dict[int, list[float]] = {}
    for stem, (_, ymin, _, ymax) in boxes(drawn).items():
        middle.setdefault(int(stem.split("_")[0]), []).append((ymin + ymax) / 2)
    for number, found in middle.items():
        assert sides[number] == ("left" if np.mean(found) < SIZE / 2 else "right")


def test_same_seed_same_pixels_other_seed_other_pixels(drawn: Path, tmp_path: Path) -> None:
    phantom_dataset.draw_dataset(tmp_path / "again", PATIENTS, SLICES, SIZE)
    phantom_dataset.draw_dataset(tmp_path / "other", PATIENTS, SLICES, SIZE, seed=7)
    names = sorted(path.relative_to(drawn) for path in drawn.rglob("*") if path.is_file() and path.suffix != ".xlsx")
    assert len(names) > 3 * PATIENTS * SLICES
    assert [name for name in names if (drawn / name).read_bytes() != (tmp_path / "again" / name).read_bytes()] == []
    first = Path("SubdatasetC_PNG/set/image1/0001_03.png")
    assert (drawn / first).read_bytes() != (tmp_path / "other" / first).read_bytes()


def test_types_show_what_their_labels_say(drawn: Path) -> None:
    labels = pd.read_csv(drawn / "types" / "labels.csv")
    assert list(labels.columns) == ["image", "patient", *phantom_dataset.TYPES]
    assert (
        len(labels)
        == len(list((drawn / "types" / "images").glob("*.png")))
        == phantom_dataset.TYPES_FACTOR * PATIENTS * len(phantom_dataset.TYPE_LEVELS)
    )
    kinds = labels[list(phantom_dataset.TYPES)].sum(axis=1)
    assert (kinds == 0).any() and (kinds >= 2).any()
    assert 0 < labels["SAH"].sum() < min(labels["IVH"].sum(), labels["IPH"].sum())
    # Blood is 160 to 250 grey; tissue, fluid and bone are not: each type makes more such pixels than none does.
    blood = {name: np.mean((grey(drawn / "types" / "images" / name) > 160) & (grey(drawn / "types" / "images" / name) < 250))
             for name in labels["image"]}  # fmt: skip
    amount = labels["image"].map(blood)
    for label in phantom_dataset.TYPES:
        assert amount[labels[label] == 1].mean() > 1.5 * amount[kinds == 0].mean(), label


def test_types_do_not_follow_from_the_level() -> None:
    for level in range(len(phantom_dataset.TYPE_LEVELS)):
        bleeding = [bool(phantom_dataset.types_of(patient, level)) for patient in range(24)]
        assert 0.2 < np.mean(bleeding) < 0.8


def test_dicom_series_gives_the_slices_back_in_hu(drawn: Path) -> None:
    series = [pydicom.dcmread(path) for path in sorted((drawn / "dicom").glob("*.dcm"))]
    assert len(series) == SLICES
    assert len({each.SeriesInstanceUID for each in series}) == len({each.StudyInstanceUID for each in series}) == 1
    assert len({each.SOPInstanceUID for each in series}) == SLICES
    heights = [float(each.ImagePositionPatient[2]) for each in series]
    assert heights == sorted(heights) and np.diff(heights).min() > 0
    hu = series[3].pixel_array * float(series[3].RescaleSlope) + float(series[3].RescaleIntercept)
    assert (series[3].RescaleSlope, series[3].RescaleIntercept) == (1, -1024)
    expected = grey(drawn / "SubdatasetC_PNG" / "set" / "image1" / "0001_03.png")
    assert np.abs(np.rot90(hounsfield.window(hu, phantom.BRAIN)).astype(int) - expected).max() <= 2  # rounding to whole HU


def test_a_patient_of_no_split_bleeds_too(drawn: Path) -> None:
    series = [pydicom.dcmread(path) for path in sorted((drawn / "unseen" / "dicom").glob("*.dcm"))]
    assert len(series) == SLICES and {each.PatientID for each in series} == {"1000"}
    assert not (drawn / "SubdatasetC_PNG" / "set" / "image1000").exists()
    blood = [int(((each.pixel_array - 1024 > 55) & (each.pixel_array - 1024 < 85)).sum()) for each in series]
    assert max(blood) > 5 * np.median(blood)


def test_nifti_mask_fits_its_volume(drawn: Path) -> None:
    volume, mask = (nib.load(drawn / "nifti" / name) for name in ("0001.nii.gz", "0001_edema.nii.gz"))
    assert volume.shape == mask.shape == (SIZE, SIZE, SLICES)
    assert np.allclose(volume.affine, mask.affine)
    assert nib.aff2axcodes(volume.affine) == ("L", "P", "S")
    inside = np.asarray(volume.dataobj)[np.asarray(mask.dataobj) > 0]
    assert inside.size > 10 and 0 < np.median(inside) < 35
