"""DICOM series and NIfTI volumes to slices: order, spacing, series; bad files, a kill in the middle, memory."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
from conftest import REPOSITORY
from PIL import Image

from helpers.dicom_files import head, write_series
from helpers.refusals import refused
from hemoct.base import files
from hemoct.ct import hounsfield, series, windows as ct_windows
from hemoct.ingest import conversion
from hemoct.sources import phantom_dataset

STEP = "scripts/01_get_data.py"
BRAIN = ct_windows.WINDOWS["brain"]


def convert(run_step, source: Path, root: Path, *words: object):
    return run_step(STEP, "--from", source, "--root", root, "--dataset", "ct", "--workers", 1, *words)


def slices_of(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / "data/raw/ct/slices.csv", dtype={"patient": str})


def pixels(root: Path, image: str) -> np.ndarray:
    return np.asarray(Image.open(root / "data/raw/ct" / image))


def shuffled(folder: Path, hu: np.ndarray) -> list[int]:
    """Write a series whose file names and instance numbers say nothing of its order; returns where each slice went."""
    places = list(range(len(hu)))
    random.Random(3).shuffle(places)

    def edit(header, index):
        header.InstanceNumber = places[index]

    for path, place in zip(write_series(folder, hu, edit=edit), places, strict=True):
        path.rename(folder / f"ID_{place:04x}.dcm")
    (folder / "dicom").rmdir()
    return places


def test_slices_are_in_the_order_of_their_position_not_of_their_names(run_step, tmp_path):
    hu = head(9)
    places = shuffled(tmp_path / "in", hu)
    assert places != sorted(places)
    done = convert(run_step, tmp_path / "in", tmp_path)
    assert done.code == 0 and "9 slices of 1 patients in 1 series" in done.out and "layout" not in done.err
    table = slices_of(tmp_path)
    assert list(table["image"]) == [f"images/ID_{place:04x}.png" for place in places]
    assert list(table["slice"]) == list(range(9)) and table["position"].is_monotonic_increasing
    assert (table["patient"] == "0001").all() and (table["group"] == table["study"]).all()
    np.testing.assert_allclose(table["spacing_z"], phantom_dataset.HEAD_HEIGHT_MM / 8, atol=1e-3)
    np.testing.assert_allclose(table["spacing_row"], phantom_dataset.FIELD_OF_VIEW_MM / 64, atol=1e-6)
    for index, image in enumerate(table["image"]):
        np.testing.assert_array_equal(pixels(tmp_path, image), hounsfield.window(hu[index], BRAIN))
    left = sorted(os.listdir(tmp_path / "data/raw")), sorted(os.listdir(tmp_path / "data/raw/ct/conversion"))
    assert left == (["ct"], ["bad_files.csv", "headers.csv"])


def test_labels_that_lie_beside_the_files_come_along_and_step_03_reads_all(run_step, tmp_path):
    shuffled(tmp_path / "in", head(4))
    names = sorted(path.stem for path in (tmp_path / "in").iterdir())
    pd.DataFrame({"image": names, "bleeding": [0, 1, 1, 0]}).to_csv(tmp_path / "in" / "labels.csv", index=False)
    assert convert(run_step, tmp_path / "in", tmp_path).code == 0
    made = run_step("scripts/03_make_labels.py", "--root", tmp_path, "--dataset", "ct", "--csv", "labels.csv")
    assert made.code == 0, made.err
    assert (pd.read_csv(tmp_path / "data/work/ct/labels.csv")["bleeding"]).sum() == 2


def test_slices_without_labels_lead_to_prediction(run_step, tmp_path):
    """With the newest models of tasks 1 and 4 below the root; without any, to data on which some can be trained."""
    write_series(tmp_path, head(2))
    source, lines = tmp_path / "dicom", lambda result: [line for line in result.out.splitlines() if line.startswith("Next: ")]
    done = convert(run_step, source, tmp_path)
    assert f"  python scripts/03_make_labels.py --dataset ct --root {tmp_path}" in done.out.splitlines(), "the way with labels"
    assert lines(done) == [f"Next: python scripts/01_get_data.py --figshare --dataset phe-sich --root {tmp_path}"]
    for age, name in enumerate(("phe-sich/task1/resnet50", "types/task4/resnet18", "old/task1/resnet18")):
        model = tmp_path / "outputs" / name / "fold0" / "best.pt"
        model.parent.mkdir(parents=True)
        model.touch()
        os.utime(model, (1e9 - age, 1e9 - age))
    images = tmp_path / "data/raw/ct/images"
    expected = [
        ("task1_classification/04_predict.py", "resnet50", "phe-sich"),
        ("task4_multilabel/05_predict.py", "resnet18", "types"),
    ]
    assert lines(convert(run_step, source, tmp_path)) == [
        f"Next: python {step} {images} --experiment {experiment} --dataset {name} --root {tmp_path}"
        for step, experiment, name in expected
    ]
    assert all((REPOSITORY / step).is_file() for step, _, _ in expected)
    table = slices_of(tmp_path).assign(bleeding=1)
    table.to_csv(tmp_path / "data/raw/ct/slices.csv", index=False)
    assert lines(convert(run_step, source, tmp_path)) == [
        f"Next: python scripts/03_make_labels.py --dataset ct --root {tmp_path}"
    ]


def test_the_table_itself_with_a_label_column_is_read_by_step_03(run_step, tmp_path):
    shuffled(tmp_path / "in", head(4))
    convert(run_step, tmp_path / "in", tmp_path)
    table = slices_of(tmp_path).assign(bleeding=[0, 1, 1, 0])
    table.to_csv(tmp_path / "data/raw/ct/slices.csv", index=False)
    made = run_step("scripts/03_make_labels.py", "--root", tmp_path, "--dataset", "ct")
    assert made.code == 0, made.err
    labels = pd.read_csv(tmp_path / "data/work/ct/labels.csv", dtype={"patient": str}).sort_values("slice", ignore_index=True)
    for column in ("patient", "slice", "spacing_row", "spacing_col", "spacing_z", "position", "group"):
        assert list(labels[column]) == list(table[column]), column


def test_a_volume_gives_the_slices_that_its_dicom_series_gives_however_it_is_stored(run_step, tmp_path):
    hu = head(5)
    turned = np.rot90(hu, 1, axes=(1, 2))  # phantoms lie on their side, see dicom_files
    write_series(tmp_path / "dicom", hu)
    phantom_dataset.write_nifti(tmp_path, 1, turned, turned > 40)
    stored = nib.load(tmp_path / "nifti" / "0001.nii.gz")
    (tmp_path / "other").mkdir()
    axes = nib.orientations.axcodes2ornt(("S", "A", "L"))
    other = stored.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(stored.affine), axes))
    nib.save(nib.Nifti1Image(np.asanyarray(other.dataobj).astype(np.float32), other.affine), tmp_path / "other" / "0001.nii")
    found = {}
    for kind in ("dicom", "nifti", "other"):
        assert convert(run_step, tmp_path / kind, tmp_path / f"root-{kind}").code == 0
        table = slices_of(tmp_path / f"root-{kind}")
        found[kind] = np.stack([pixels(tmp_path / f"root-{kind}", image) for image in table["image"]]), table
    for kind in ("nifti", "other"):
        np.testing.assert_array_equal(found[kind][0], found["dicom"][0])
        assert list(found[kind][1]["image"]) == [f"images/0001_{number:03d}.png" for number in range(5)]
        assert list(found[kind][1]["patient"]) == ["0001"] * 5
        for column in ("slice", "spacing_row", "spacing_col", "spacing_z", "position"):
            np.testing.assert_allclose(found[kind][1][column], found["dicom"][1][column], atol=1e-3)


def test_masks_and_broken_volumes_are_passed_over(run_step, tmp_path):
    phantom_dataset.write_nifti(tmp_path, 1, head(5), head(5) > 40)
    (tmp_path / "nifti" / "cut.nii.gz").write_bytes((tmp_path / "nifti" / "0001.nii.gz").read_bytes()[:2000])
    (tmp_path / "nifti" / "text.nii").write_text("no volume")
    done = convert(run_step, tmp_path / "nifti", tmp_path)
    assert done.code == 0 and "5 slices" in done.out and "3 files were skipped" in done.out
    bad = pd.read_csv(tmp_path / "data/raw/ct/conversion/bad_files.csv").set_index("file")["problem"]
    assert sorted(bad.index) == ["0001_edema.nii.gz", "cut.nii.gz", "text.nii"]
    assert "a mask, no CT" in bad["0001_edema.nii.gz"] and "cannot be read" in bad["cut.nii.gz"]


def test_bad_files_are_listed_and_passed_over(run_step, tmp_path):
    first, second, third, fourth = write_series(tmp_path, head(4))
    (tmp_path / "dicom" / "README.txt").write_text("not a slice, not a problem")
    first.write_bytes(first.read_bytes()[:3000])
    second.write_bytes(b"")
    header = pydicom.dcmread(third)
    header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    header.save_as(third)
    done = convert(run_step, tmp_path / "dicom", tmp_path)
    assert done.code == 0 and "1 slices" in done.out and "3 files were skipped" in done.out and "01.dcm" in done.out
    bad = pd.read_csv(tmp_path / "data/raw/ct/conversion/bad_files.csv").set_index("file")["problem"]
    assert list(bad.index) == ["01.dcm", "02.dcm", "03.dcm"] and bad["02.dcm"].startswith("is empty")
    assert list(slices_of(tmp_path)["file"]) == [fourth.name]
    fourth.write_bytes(b"")
    failed = convert(run_step, tmp_path / "dicom", tmp_path / "none")
    assert refused(failed, "none of 4 files could be converted", "01.dcm")
    assert not (tmp_path / "none/data/raw/ct").exists()


def test_tags_that_cannot_be_read_are_counted_and_listed(run_step, tmp_path):
    first, _ = write_series(tmp_path, head(2), edit=lambda header, _: setattr(header, "SliceThickness", 7.25))
    first.write_bytes(first.read_bytes().replace(b"7.25", b"thin"))
    done = convert(run_step, tmp_path / "dicom", tmp_path)
    assert done.code == 0 and "  1 slices with tags that cannot be read" in done.out
    headers = pd.read_csv(tmp_path / "data/raw/ct/conversion/headers.csv")
    assert headers["unreadable"].fillna("").tolist() == ["SliceThickness", ""]


def test_names_with_dots_and_names_that_would_be_one(run_step, tmp_path):
    first, second, third = write_series(tmp_path, head(3))
    for path, name in ((first, "1.2.840.77"), (second, "1.2.840.78"), (third, "1.2.840.77.dcm")):
        path.rename(tmp_path / "dicom" / name)
    assert convert(run_step, tmp_path / "dicom", tmp_path).code == 0
    assert list(slices_of(tmp_path)["image"]) == [f"images/1.2.840.{end}.png" for end in ("77", "78", "77.dcm")]


def test_channels_and_windows(run_step, tmp_path):
    hu = head(2)
    write_series(tmp_path, hu)
    assert convert(run_step, tmp_path / "dicom", tmp_path / "rgb", "--window", "brain,subdural,bone").code == 0
    expected = hounsfield.to_grey(hu[0], ct_windows.parse_windows("brain,subdural,bone"))
    np.testing.assert_array_equal(pixels(tmp_path / "rgb", "images/01.png"), expected)
    assert convert(run_step, tmp_path / "dicom", tmp_path / "own", "--window", "file").code == 0
    np.testing.assert_array_equal(pixels(tmp_path / "own", "images/01.png"), hounsfield.window(hu[0], BRAIN))
    assert refused(convert(run_step, tmp_path / "dicom", tmp_path / "no", "--window", "brian"), "brian", "LEVEL/WIDTH")
    assert refused(run_step(STEP, "--demo", "--window", "bone", "--root", tmp_path), "go with --from")


def test_a_folder_with_images_is_registered_unless_it_is_told_to_convert(run_step, tmp_path):
    write_series(tmp_path / "in", head(2))
    Image.new("L", (8, 8)).save(tmp_path / "in" / "preview.png")
    pd.DataFrame({"image": ["preview.png"], "any": [0]}).to_csv(tmp_path / "in" / "labels.csv", index=False)
    convert(run_step, tmp_path / "in", tmp_path / "a")
    assert (tmp_path / "a/data/raw/ct").is_symlink()
    assert convert(run_step, tmp_path / "in", tmp_path / "b", "--convert").code == 0
    assert len(slices_of(tmp_path / "b")) == 2
    (tmp_path / "empty").mkdir()
    assert refused(convert(run_step, tmp_path / "empty", tmp_path / "c", "--convert"), "no DICOM file")
    assert refused(convert(run_step, tmp_path / "empty", tmp_path / "c"), "no DICOM or NIfTI")


def row(position: float | None, instance: int = 1, sop: str | None = None, **more: object) -> dict:
    made = {"image": f"{position}-{instance}", "sop": sop or f"{position}-{instance}", "position": position, "instance": instance}
    return made | {"acquisition": None, "thickness": 5.0, "spacing_between": None, "series": "S", "study": "T"} | more


def test_spacing_by_hand():
    """Slices of 4 mm, then of 7 mm: the one in between stands for half of both gaps."""
    assert series.spacings([0, 4, 8, 15, 22]) == [4, 4, 5.5, 7, 7]
    assert series.spacings([3]) == [None]


def test_two_images_at_one_position_are_two_passes_through_the_head():
    rows = [row(5 * (number % 3), number) for number in range(6)]
    first, second = series.arrange(rows).passes
    assert [each["instance"] for each in first] == [0, 1, 2] and [each["instance"] for each in second] == [3, 4, 5]
    assert {each["spacing_z"] for each in first + second} == {5}, "never 0, or volumes would stop"


def test_the_same_image_twice_counts_once_but_equal_identifiers_alone_do_not():
    assert [len(each) for each in series.arrange([row(0), row(0) | {"image": "copy"}, row(5)]).passes] == [2]
    assert [len(each) for each in series.arrange([row(0, sop="9"), row(5, sop="9")]).passes] == [2]


def test_without_a_position_the_instance_number_counts():
    (only,) = series.arrange([row(7.0, 3), row(None, 1), row(1.0, 2)]).passes
    assert [each["instance"] for each in only] == [1, 2, 3]
    assert {each["position"] for each in only} == {None} and {each["spacing_z"] for each in only} == {5}


def test_series_of_a_patient_stay_apart(run_step, tmp_path):
    """Slice numbers of two series may never be neighbours; a copied file counts once; patients without an ID are told of."""
    for name in ("thick", "thin"):
        (tmp_path / name).mkdir()

        def edit(header, index, name=name):
            header.SeriesInstanceUID = f"1.2.{len(name)}"
            header.SOPInstanceUID = f"1.2.{len(name)}.{index}"
            header.SeriesNumber = 3 if name == "thin" else 2
            header.PatientID = ""

        write_series(tmp_path / "in" / name, head(3), edit=edit)
    (tmp_path / "in" / "zcopy.dcm").write_bytes((tmp_path / "in/thin/dicom/01.dcm").read_bytes())
    done = convert(run_step, tmp_path / "in", tmp_path)
    assert "6 slices of 1 patients in 2 series" in done.out and "6 slices without a PatientID" in done.out
    table = slices_of(tmp_path)
    assert list(table["slice"]) == [0, 1, 2, 100, 101, 102]
    assert list(table["series"]) == ["1.2.5"] * 3 + ["1.2.4"] * 3 and (table["patient"] == table["study"]).all()
    bad = pd.read_csv(tmp_path / "data/raw/ct/conversion/bad_files.csv")
    assert list(bad["file"]) == ["zcopy.dcm"] and not (tmp_path / "data/raw/ct/images/zcopy.png").exists()


def test_an_unfinished_conversion_is_not_mixed_with_other_flags(run_step, tmp_path, monkeypatch):
    write_series(tmp_path, head(20))
    convert_one = conversion.convert_one

    def stop(source, settings):
        if source.path == "12.dcm":
            raise KeyboardInterrupt
        return convert_one(source, settings)

    with monkeypatch.context() as patch:
        patch.setattr(conversion, "convert_one", stop)
        assert convert(run_step, tmp_path / "dicom", tmp_path).code == 130
    assert refused(convert(run_step, tmp_path / "dicom", tmp_path, "--window", "bone"), "unfinished conversion", "other flags")
    asked = []
    monkeypatch.setattr(conversion, "convert_one", lambda *words: asked.append(words[0].path) or convert_one(*words))
    done = convert(run_step, tmp_path / "dicom", tmp_path)
    assert done.code == 0 and "8 of 20 files are already converted" in done.out
    assert asked == [f"{number:02d}.dcm" for number in range(9, 21)] and len(slices_of(tmp_path)) == 20


def many(folder: Path, number: int) -> None:
    """Small files in no time: one is drawn, its numbers are replaced in its bytes. 20 slices a patient."""
    (path,) = write_series(folder, head(), edit=lambda header, _: mark(header))
    content = path.read_bytes()
    path.unlink()
    for index in range(number):
        made = content.replace(b"777777", b"%06d" % (index // 20)).replace(b"888.888", b"%07.3f" % (index % 20 * 5))
        (folder / "dicom" / f"{index:06d}.dcm").write_bytes(made.replace(b"1.999999", b"1.9%05d" % index))


def mark(header) -> None:
    header.PatientID = "777777"
    header.ImagePositionPatient = [0, 0, "888.888"]
    header.SOPInstanceUID = "1.999999"


def start(source: Path, root: Path, workers: int) -> subprocess.Popen:
    words = [sys.executable, REPOSITORY / STEP, "--from", source, "--root", root, "--dataset", "ct", "--workers", workers]
    return subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finished(root: Path) -> dict[str, int]:
    """The images that the journal of an unfinished conversion holds, and when each was written."""
    folder = root / "data/raw/.converting-ct"
    with closing(sqlite3.connect(folder / "conversion/journal.sqlite")) as base:
        names = [name for (name,) in base.execute("SELECT image FROM slices")]
    return {name: (folder / name).stat().st_mtime_ns for name in names}


def test_a_killed_conversion_goes_on_without_redoing_what_is_finished(tmp_path):
    many(tmp_path, 400)
    running = start(tmp_path / "dicom", tmp_path, 2)
    images = tmp_path / "data/raw/.converting-ct/images"
    while running.poll() is None and (not images.is_dir() or len(os.listdir(images)) < 60):
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    before = finished(tmp_path)
    assert 0 < len(before) < 400
    again = start(tmp_path / "dicom", tmp_path, 2)
    assert again.wait() == 0, again.stderr.read()
    table = slices_of(tmp_path)
    assert len(table) == 400 and table["patient"].nunique() == 20 and (table["spacing_z"] == 5).all()
    assert {name: (tmp_path / "data/raw/ct" / name).stat().st_mtime_ns for name in before} == before
    assert sorted(os.listdir(tmp_path / "data/raw/ct/images")) == [f"{index:06d}.png" for index in range(400)]
    record = json.loads((tmp_path / "data/work/ct/01_get_data.run.json").read_text())
    assert record["status"] == "ok" and record["converted"]["slices"] == 400


def peak(folder: Path, number: int) -> int:
    """The most memory that converting this many files takes, of the process or its workers."""
    many(folder, number)
    running = start(folder / "dicom", folder, 1)
    _, status, usage = os.wait4(running.pid, 0)
    assert status == 0, running.stderr.read()
    assert len(slices_of(folder)) == number
    return usage.ru_maxrss


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_files(tmp_path):
    assert peak(tmp_path / "more", 2000) <= 1.1 * peak(tmp_path / "less", 500)


def test_real_series(run_step, tmp_path, real_data):
    done = convert(run_step, real_data / "head-ct-dicom", tmp_path)
    assert done.code == 0 and "28 slices of 1 patients in 1 series" in done.out and "28 slices of a tilted gantry" in done.out
    assert "without any air" not in done.out, "slope 1 and intercept 0 are right here"
    table = slices_of(tmp_path)
    assert list(table["file"]) == [f"{number:02d}.dcm" for number in range(1, 29)]
    np.testing.assert_allclose(table["spacing_z"].iloc[:13], 4, atol=0.01)
    np.testing.assert_allclose(table["spacing_z"].iloc[15:], 7, atol=0.01)
    assert 0.05 < (pixels(tmp_path, "images/18.png") > 60).mean() < 0.6, "a head on black"


def test_what_an_older_version_converted_is_kept_with_a_word(run_step, tmp_path):
    write_series(tmp_path / "in", head(3, size=16))
    assert convert(run_step, tmp_path / "in", tmp_path / "root").code == 0
    origin = next((tmp_path / "root").rglob("hemoct_origin.json"))
    files.write_json(origin, files.read_json(origin) | {"version": conversion.VERSION - 1})
    result = convert(run_step, tmp_path / "in", tmp_path / "root")
    assert result.code == 0 and "converted by another version of this step and is kept" in result.out, result.err
    result = convert(run_step, tmp_path / "in", tmp_path / "root", "--window", "bone")
    assert result.code == 2 and "holds something else" in result.err


def write_pages(path: Path, pages: list[np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    first, *others = map(Image.fromarray, pages)
    first.save(path, save_all=True, append_images=others)


def test_pages_of_a_tiff_are_slices(run_step, tmp_path):
    grey = [np.full((8, 8), 10 * number, np.uint8) for number in range(12)]
    hu = [np.full((8, 8), -1000 + 20 * number, np.int32) for number in range(100)]
    write_pages(tmp_path / "in" / "grey.tif", grey)
    write_pages(tmp_path / "in" / "hu.TIFF", hu)
    write_pages(tmp_path / "in" / "raw.tif", [np.full((8, 8), 900, np.int32)] * 2)
    write_pages(tmp_path / "in" / "colour.tif", [np.zeros((8, 8, 3), np.uint8)] * 2)
    write_pages(tmp_path / "in" / "masks" / "grey.tif", grey[:2])
    result = convert(run_step, tmp_path / "in", tmp_path / "root")
    assert result.code == 0, result.err
    found = slices_of(tmp_path / "root").set_index("image")
    assert found["patient"].value_counts().to_dict() == {"grey": 12, "hu": 100}
    assert found.loc["images/grey_003.png", "slice"] == 3 and (pixels(tmp_path / "root", "images/grey_003.png") == 30).all()
    assert (pixels(tmp_path / "root", "images/hu_052.png") == 128).all(), "40 HU is the middle of the brain window"
    bad = pd.read_csv(next((tmp_path / "root").rglob("bad_files.csv"))).set_index("file")["problem"]
    assert "neither 8-bit grey nor HU" in bad["raw.tif"] and "in colour" in bad["colour.tif"]
    assert "a mask in several pages" in bad["masks/grey.tif"] and len(bad) == 3
