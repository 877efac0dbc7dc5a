"""Results follow the data: other pixels, other labels or missing rows never pass for what was measured before."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import quick, toy
from helpers.refusals import refused
from hemoct.base import files, tables

TRAIN = ("task1_classification/01_train.py", "--weights", "none", "--backbone", "test_resnet", "--image-size", 32,
         "--batch-size", 8, "--device", "cpu", "--fold", 0, "--experiment", "e", "--epochs", 1, "--skip-if-done",
         "--resume")  # fmt: skip
EVALUATE = ("task1_classification/02_evaluate.py", "--skip-if-done")


@pytest.fixture
def chain(work, run_step, monkeypatch):
    """The steps from labels to evaluation, as run_all.sh calls them, on images with a table of labels."""
    quick.evaluations(monkeypatch)
    labels = toy.make(work)
    shutil.rmtree(work.work)
    table = pd.DataFrame({"image": labels["image"], "patient": labels["patient"], "any": labels["hemorrhage"]})
    table.to_csv(work.raw / "labels.csv", index=False)

    def run(*steps):
        results = []
        for step, *flags in steps:
            results.append(run_step(step, *flags, "--root", work.root, "--dataset", work.dataset))
        return results

    whole = (
        ("scripts/03_make_labels.py", "--patient-column", "patient", "--skip-if-done"),
        ("scripts/05_make_splits.py", "--skip-if-done"),
        TRAIN,
        EVALUATE,
    )
    return lambda *steps: run(*(steps or whole))


def invert(work) -> None:
    """Other pixels; names, and times of writing, stay."""
    for path in work.raw.glob("*.png"):
        before, grey = path.stat(), np.asarray(Image.open(path))
        Image.fromarray(255 - grey).save(path)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_inverted_images_are_trained_and_measured_anew(work, chain):
    first = chain()
    assert [result.code for result in first] == [0] * 4, first
    assert all("up to date" in result.out for result in chain())
    folder = work.task(1) / "e"
    mean, metrics = files.read_json(folder / "fold0" / "model.json")["mean"], (folder / "metrics.json").read_bytes()
    invert(work)
    assert refused(*chain(TRAIN[:-2]), ".png is not the file that images.csv was made of")
    again = chain()
    assert [result.code for result in again] == [0] * 4, again
    assert "up to date" not in again[2].out + again[3].out and "the tables have changed since" in again[2].out
    assert abs(files.read_json(folder / "fold0" / "model.json")["mean"] - (1 - mean)) < 1e-6
    assert (folder / "metrics.json").read_bytes() != metrics


def test_the_report_marks_what_other_pixels_have_made_old(work, chain, run_step):
    assert [result.code for result in chain()] == [0] * 4
    invert(work)
    chain(("scripts/03_make_labels.py", "--patient-column", "patient"))
    assert run_step("scripts/90_make_report.py", "--root", work.root, "--dataset", work.dataset).code == 0
    page = (work.outputs / "report.md").read_text()
    assert "OUT OF DATE" in page and "images.csv" in page


def test_a_truth_that_was_put_back_under_its_old_time_stops(work, chain):
    chain()
    path = work.work / "labels.csv"
    before, frame = path.stat(), tables.read_labels(work, tables.read_dataset(work))
    frame["any"] = 1 - frame["any"]
    tables.write_labels(work, frame, tables.read_dataset(work))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert refused(*chain(EVALUATE), "another truth than labels.csv for 16 image(s)", "correct them")


def test_predictions_that_lost_rows_stop(work, chain):
    chain()
    path = work.task(1) / "e" / "fold0" / "predictions.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-3]))
    assert refused(*chain(EVALUATE), "predictions.csv is not as the training left it", "--resume")
    for name in ("best.pt", "model.json", "01_train.run.json"):  # as of another program
        (path.parent / name).unlink()
    assert refused(*chain(EVALUATE), "predictions.csv lacks 3 of 16 slices", "add a row")


def test_a_result_that_was_changed_by_hand_is_no_longer_up_to_date(work, chain):
    chain()
    path = work.task(1) / "e" / "metrics.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b"0.", b"1.", 1))
    assert "up to date" not in chain(EVALUATE)[0].out
    assert path.read_bytes() == content
    (work.work / "labels.csv").write_text((work.work / "labels.csv").read_text() + "\n")
    result = chain(("scripts/03_make_labels.py", "--patient-column", "patient", "--skip-if-done"))[0]
    assert refused(result, "labels.csv is not as scripts/03_make_labels.py left it", "restore it, or delete it")
