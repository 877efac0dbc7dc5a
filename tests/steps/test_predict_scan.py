"""80_predict_scan.py: one folder with everything, the same numbers as the predicting steps, and one line for what is none."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import dicom_files, scan_networks, simulated_boxes, trained
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.detection import torchvision_models
from hemoct.scan import choose, write

STEP = "scripts/80_predict_scan.py"
REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    """A DICOM series."""
    dicom_files.write_series(tmp_path / "ct", dicom_files.head(4))
    return tmp_path / "ct"


@pytest.fixture
def step(work, run_step, monkeypatch):
    """Run the step with networks that see blood."""
    monkeypatch.setattr(choose, "models", lambda *_: scan_networks.models())
    (work.outputs / "task1").mkdir(parents=True)
    return lambda *words: run_step(STEP, *words, "--root", work.root, "--dataset", "toy")


def test_one_call_writes_everything_and_says_the_answer(step, ct, work):
    result = step(ct)
    out = work.root / "outputs" / "scans" / "ct"
    assert result.code == 0, result.err
    assert {path.name for path in out.iterdir()} == {*write.OUTPUTS, "80_predict_scan.run.json"}
    assert "hemorrhage: yes, on 4 of 4 slices" in result.out and "No diagnosis" in result.out and "axial" in result.out
    assert files.read_json(out / "80_predict_scan.run.json")["status"] == "ok"
    answer = json.loads((out / "scan.json").read_text())
    assert answer["labels"][0]["slices"] == [1, 2, 3, 4] and answer["volumes"]["edema"]["unit"] == "ml"


def test_a_second_call_writes_over_nothing_unasked(step, ct, work):
    step(ct)
    out = work.root / "outputs" / "scans" / "ct"
    again = step(ct)
    assert again.code == 0 and "up to date" in again.out
    assert refused(step(ct, "--no-maps"), "earlier call", "--overwrite")
    (ct / "dicom" / "04.dcm").unlink(missing_ok=True)
    sorted(ct.rglob("*.dcm"))[0].unlink()
    assert refused(step(ct), "earlier call")
    assert step(ct, "--overwrite").code == 0 and len(pd.read_csv(out / "slices.csv")) < 4


def test_nothing_of_others_and_no_scan_is_replaced(step, ct, work, tmp_path):
    theirs = tmp_path / "theirs" / "masks" / "a.png"
    theirs.parent.mkdir(parents=True)
    theirs.write_bytes(b"drawn by hand")
    assert refused(step(ct, "--out", tmp_path / "theirs", "--overwrite"), "masks", "not of this step") and theirs.exists()
    out = work.root / "outputs" / "scans" / "ct"
    step(ct)
    scan = (out / "scan.nii.gz").read_bytes()
    assert refused(step(out / "scan.nii.gz", "--out", out, "--overwrite"), "would be replaced")
    assert (out / "scan.nii.gz").read_bytes() == scan


def test_a_call_that_was_killed_is_begun_again(step, ct, work):
    step(ct)
    record = work.root / "outputs" / "scans" / "ct" / "80_predict_scan.run.json"
    files.write_json(record, files.read_json(record) | {"status": "unfinished"})
    assert step(ct).code == 0 and files.read_json(record)["status"] == "ok"


def test_what_cannot_be_predicted_stops_in_one_line(step, ct, work, tmp_path):
    assert refused(step(tmp_path / "nowhere"), "neither a file nor a folder")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.docx").write_text("no scan")
    assert refused(step(tmp_path / "empty"), "no image, DICOM file or NIfTI volume")
    assert refused(step(ct, "--out", ct / "out"), "lies in")
    assert refused(step(ct, "--series", "9"), "--series 9")
    assert not (work.root / "outputs" / "scans").exists()


def test_models_that_are_not_there_stop_in_one_line(work, run_step, ct):
    def run(*words):
        return run_step(STEP, ct, *words, "--root", work.root, "--dataset", "toy")

    assert refused(run(), "no models", "--models")
    assert refused(run("--models", ct), "neither outputs/NAME", "bundle.json")
    assert refused(run("--models", work.outputs), "neither outputs/NAME") or not work.outputs.exists()
    assert run("--experiment", "7=a").code == 2


def test_help_and_refusals_wait_for_no_torch():
    code = f"""
import runpy, sys
sys.path.insert(0, {str(REPOSITORY / "scripts")!r})
sys.argv = [{STEP!r}, *{{words}}]
try:
    runpy.run_path({str(REPOSITORY / STEP)!r}, run_name="__main__")
except SystemExit as stop:
    assert stop.code == {{code}}, stop.code
assert "torch" not in sys.modules
"""
    for words, status in ((["--help"], 0), (["nowhere"], 2)):
        subprocess.run([sys.executable, "-c", code.format(words=words, code=status)], check=True, capture_output=True)


def one_patient(work, folder: Path) -> Path:
    """The images of patient 0001, copied to a folder of their own."""
    folder.mkdir()
    for path in work.raw.glob("0001_0[0-9].png"):
        shutil.copy(path, folder)
    return folder


def test_types_are_those_of_the_predicting_step(work, run_step, tmp_path):
    trained.types(work)
    images, where = one_patient(work, tmp_path / "one"), ("--root", work.root, "--dataset", "toy", "--device", "cpu")
    assert run_step(STEP, images, *where, "--out", tmp_path / "scan").code == 0
    assert run_step("task4_multilabel/05_predict.py", images, *where, "--experiment", "e", "--out", tmp_path / "step").code == 0
    scan, step = pd.read_csv(tmp_path / "scan" / "slices.csv"), pd.read_csv(tmp_path / "step" / "predicted.csv")
    names = [name for name in step if name.startswith("p_")]
    assert len(names) == 3 and np.array_equal(scan[names], step[names])
    labels = [name.removeprefix("p_") for name in names]
    assert np.array_equal(scan[labels], step[labels]) and not scan["seen"].any()


def test_boxes_are_those_of_the_predicting_step_and_slices_of_training_are_said(work, run_step, tmp_path, monkeypatch):
    trained.disks(work)
    monkeypatch.setattr(torchvision_models, "get_model", simulated_boxes.tiny_detector)
    where = ("--root", work.root, "--dataset", "toy", "--device", "cpu")
    result = run_step(STEP, work.raw, "--series", "0001", *where, "--out", tmp_path / "scan")
    assert result.code == 0, result.err
    one = sorted(work.raw.glob("0001_*.png"))
    assert run_step("task2_detection/05_predict.py", *one, *where, "--experiment", "e", "--out", tmp_path / "step").code == 0
    scan, step = pd.read_csv(tmp_path / "scan" / "boxes.csv"), pd.read_csv(tmp_path / "step" / "predicted.csv").dropna()
    names = ["class", "confidence", "xmin", "ymin", "xmax", "ymax"]
    assert np.array_equal(scan[names], step[names]) and len(scan)
    split = tables.read_splits(work).set_index("image_id")["fold"]
    seen = pd.read_csv(tmp_path / "scan" / "slices.csv")["seen"]
    assert seen.all() == (split["0001_00"] != 0) and ("in training" in result.out) == bool(seen.all())
