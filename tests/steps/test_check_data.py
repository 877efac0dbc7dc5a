"""Step 04 as a user calls it: files, exit codes, one line per check, figures only where they have content."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import toy
from hemoct.audit import checks, figures, reading
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.report import tables as report_tables

STEP = "scripts/04_check_data.py"
ALWAYS = {"class_balance", "image_size"}
BINARY = {"contact_sheet_hemorrhage", "contact_sheet_no_hemorrhage", "mean_variance"}


def drawn_figures(work: Workspace) -> set[str]:
    return {path.stem for path in (work.work / "figures").iterdir()}


def words(work: Workspace) -> list[object]:
    return ["--root", work.root, "--dataset", work.dataset]


@pytest.fixture
def lesions(work: Workspace) -> Workspace:
    """A toy set in the meaning of PHE-SICH: masks, boxes, a patient table, repairs."""
    labels = toy.make(work, patients=5, slices=2)
    for name in labels["image"]:
        bright = np.asarray(Image.open(work.raw / name)) > 200
        Image.fromarray(bright.astype(np.uint8) * 255).save(work.raw / f"mask_{name}")
    dataset = tables.read_dataset(work)
    dataset.layout, dataset.patient_source = "phe-sich", "folder"
    tables.write_dataset(work, dataset)
    tables.write_labels(work, labels.assign(mask="mask_" + labels["image"]), dataset)
    positive = labels.loc[labels["hemorrhage"] == 1, "image_id"]
    tables.write_boxes(work, pd.DataFrame({"image_id": positive, "class": "a", "xmin": 2, "ymin": 4, "xmax": 20, "ymax": 28}))
    known = {"patient": sorted(set(labels["patient"])), "sex": list("fmfmf"), "age": [41, 52, 63, 74, None], "note": None}
    tables.write_csv(work.work / "patients.csv", pd.DataFrame(known))
    problems = ["wrong <filename>: 1.jpg", "wrong <filename>: 2.jpg", "no <size>"]
    tables.write_csv(work.work / "repairs.csv", pd.DataFrame({"file": list("abc"), "problem": problems, "repair": "set"}))
    return work


def test_a_whole_data_set(lesions: Workspace, run_step: Callable) -> None:
    result = run_step(STEP, *words(lesions))
    assert result.code == 0, result.err
    assert "5 patients" in result.out
    assert result.out.splitlines()[-1] == f"Next: python scripts/05_make_splits.py --dataset toy --root {lesions.root}"
    assert "perihematomal edema, not bleeding" in result.out
    assert "ceiling: 100.0%" in result.out
    assert drawn_figures(lesions) == ALWAYS | BINARY | {"slices_per_patient", "patients", "lesion_size", "lesion_position"}
    summary = files.read_json(lesions.work / "audit.json")
    assert (summary["images"], summary["patients"], summary["positives"]) == (10, 5, {"hemorrhage": 5})
    assert summary["patient_source"] == "folder"
    assert summary["repairs"] == {"wrong <filename>": 2, "no <size>": 1}
    assert summary["statistics"]["box_area_px"]["median"] == 18 * 24
    assert summary["statistics"]["boxes_per_slice"] == {"1": 5}
    assert set(summary["checks"]) == set(checks.CHECKS)
    assert (lesions.work / "audit.csv").read_text() == "image_id,patient,check,fatal,detail\n"
    record = files.read_json(lesions.work / "04_check_data.run.json")
    assert record["status"] == "ok"
    assert len(record["outputs"]) == 2 + len(drawn_figures(lesions))


def test_annotations_that_were_dropped_are_found(lesions: Workspace, run_step: Callable) -> None:
    repairs = [
        ("x/0001_00.xml", "no <size>", "<size> set to 32 x 32 x 1"),
        ("x/0001_01.xml", "object 1 is reversed: xmax 1 < xmin 5", "dropped: not in merged_annotation"),
        ("x/9.xml", "no image that matches", "dropped: not in merged_annotation"),
    ]
    tables.write_csv(lesions.work / "repairs.csv", pd.DataFrame(repairs, columns=["file", "problem", "repair"]))
    result = run_step(STEP, *words(lesions))
    assert result.code == 0, result.err
    assert "2       dropped_annotation" in result.out
    found = tables.read_csv(lesions.work / "audit.csv", checks.AUDIT_COLUMNS)
    assert found[["image_id", "patient", "check", "fatal", "detail"]].to_numpy().tolist() == [
        ["0001_01", "0001", "dropped_annotation", False, "x/0001_01.xml: object 1 is reversed: xmax 1 < xmin 5"],
        ["", "", "dropped_annotation", False, "x/9.xml: no image that matches"],
    ]


def test_images_and_labels_alone_then_a_changed_image(work: Workspace, run_step: Callable) -> None:
    toy.make(work, slices=2)
    assert run_step(STEP, *words(work)).code == 0
    assert drawn_figures(work) == ALWAYS | BINARY | {"slices_per_patient"}
    first = (work.work / "audit.json").read_bytes()
    assert files.read_json(work.work / "audit.json")["ceiling"]["value"] is None
    assert "up to date" in run_step(STEP, *words(work), "--skip-if-done").out
    Image.fromarray(np.zeros((32, 32), dtype=np.uint8)).save(work.raw / "0001_00.png")
    assert "near_black" in run_step(STEP, *words(work), "--skip-if-done").out
    assert (work.work / "audit.json").read_bytes() != first


def test_fatal_problem_is_written_and_ends_in_two(work: Workspace, run_step: Callable) -> None:
    toy.make(work)
    cut = work.raw / "0002_01.png"
    cut.write_bytes(cut.read_bytes()[:300])
    (work.raw / "0003_00.png").unlink()
    result = run_step(STEP, *words(work))
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "audit.csv lists 2 fatal" in result.err
    assert "1 FATAL unreadable_image" in result.out
    record = files.read_json(work.work / "04_check_data.run.json")
    assert record["status"] == "unfinished"  # so that --skip-if-done never passes over it
    found = tables.read_csv(work.work / "audit.csv", checks.AUDIT_COLUMNS)
    assert found[["image_id", "check", "fatal"]].to_numpy().tolist() == [
        ["0003_00", "missing_image", True],
        ["0002_01", "unreadable_image", True],
    ]
    assert drawn_figures(work) >= ALWAYS


def test_no_image_at_all(work: Workspace, run_step: Callable) -> None:
    toy.make(work)
    for path in work.raw.iterdir():
        path.unlink()
    result = run_step(STEP, *words(work))
    assert result.code == 2
    assert "lists 40 fatal" in result.err
    assert drawn_figures(work) == {"class_balance", "slices_per_patient"}


def test_missing_tables_name_the_step_that_makes_them(work: Workspace, run_step: Callable) -> None:
    assert "scripts/01_get_data.py" in run_step(STEP, *words(work)).err
    work.raw.mkdir(parents=True)
    result = run_step(STEP, *words(work))
    assert result.code == 2
    assert "scripts/03_make_labels.py" in result.err


def test_two_exclusive_classes_are_compared_with_each_other(work: Workspace) -> None:
    toy.make(work, labels=("NORMAL", "ILL"), exclusive=True)
    drawings = figures.figures(reading.read(work), seed=1)
    assert list(drawings)[7:] == ["contact_sheet_NORMAL", "contact_sheet_ILL", "mean_variance"]
    titles = [axis.get_title() for axis in drawings["mean_variance"]().axes]
    assert titles[:3] == ["NORMAL: mean, n = 20", "NORMAL: variance", "mean of ILL\nminus mean of NORMAL"]


def test_figures_per_label_stop_at_eight(work: Workspace) -> None:
    labels = toy.make(work, labels=("none", "any"))
    names = [f"L{number:02d}" for number in range(10)]
    dataset = tables.Dataset(work.dataset, "csv", names)
    tables.write_dataset(work, dataset)
    tables.write_labels(work, labels.assign(**dict.fromkeys(names, labels["any"])), dataset)
    expected = {f"{kind}_{name}" for kind in ("contact_sheet", "mean_variance") for name in names[:8]}
    drawings = list(figures.figures(reading.read(work), seed=1))
    assert set(drawings[7:]) == expected | {"contact_sheet_none"}


def test_no_image_of_a_class_no_figure(work: Workspace) -> None:
    labels = toy.make(work)
    tables.write_labels(work, labels.assign(hemorrhage=1), tables.read_dataset(work))
    drawings = figures.figures(reading.read(work), seed=1)
    assert drawings["contact_sheet_no_hemorrhage"]() is None
    assert drawings["mean_variance"]() is None


def test_unknown_is_no_class(work: Workspace) -> None:
    labels = toy.make(work, labels=("EDH", "SDH"), exclusive=False)
    dataset = tables.read_dataset(work)
    tables.write_labels(work, labels.assign(EDH=0, SDH=labels["SDH"].replace(0, None)), dataset)
    sizes = {name: int(rows.sum()) for name, rows in figures.classes(reading.read(work)).items()}
    assert sizes == {"none": 0, "EDH": 0, "SDH": 20}


def test_boxes_lie_where_the_padded_image_shows_them(lesions: Workspace) -> None:
    """A 32 x 32 image at 128 px: the box 2..20 x 4..28 covers columns 8..79 and rows 16..111, five times."""
    cover = figures.box_cover(reading.read(lesions))
    expected = np.zeros((reading.SIZE, reading.SIZE), dtype=int)
    expected[16:112, 8:80] = 5
    np.testing.assert_array_equal(cover, expected)
    for path in lesions.raw.glob("0*.png"):  # twice as wide: the box keeps its place below a border of 32 px
        Image.fromarray(np.full((32, 64), 90, dtype=np.uint8)).save(path)
    cover = figures.box_cover(reading.read(lesions))
    expected = np.zeros((reading.SIZE, reading.SIZE), dtype=int)
    expected[40:88, 4:40] = 5
    np.testing.assert_array_equal(cover, expected)


def test_only_classes_of_several_sizes_have_a_line(work: Workspace) -> None:
    toy.make(work)
    assert figures.image_size(reading.read(work)).axes[0].get_lines() == []
    Image.fromarray(np.full((64, 32), 90, dtype=np.uint8)).save(work.raw / "0001_00.png")
    (line,) = figures.image_size(reading.read(work)).axes[0].get_lines()
    assert line.get_label().startswith("no hemorrhage: height = 1.0") and line.get_label().endswith("n = 20")


def test_contact_sheet_takes_different_patients_first(work: Workspace) -> None:
    toy.make(work, patients=16, slices=4)
    table = reading.read(work).images
    first, again, other = (figures._sample(table, seed) for seed in (1, 1, 2))
    assert len(first) == first["patient"].nunique() == figures.SHEET_ROWS * figures.SHEET_COLUMNS
    assert first["image_id"].tolist() == again["image_id"].tolist() != other["image_id"].tolist()


def test_a_sample_is_said_to_be_one(lesions: Workspace, run_step: Callable) -> None:
    first = tables.read_labels(lesions, tables.read_dataset(lesions))["image"]
    (lesions.raw / first[0]).unlink()  # whether a file is there is looked up for all of them
    result = run_step(STEP, *words(lesions), "--sample", 4)
    assert result.code == 2 and "SAMPLE: the pixels of 4 of 10 images were read" in result.out
    summary = files.read_json(lesions.work / "audit.json")
    assert summary["sample"]["images"] == 4 and summary["checks"]["missing_image"]["count"] == 1
    assert summary["ceiling"]["boxed_slices"] < 5 == summary["positives"]["hemorrhage"]
    assert summary["checks"]["unreadable_image"]["count"] == summary["checks"]["unreadable_mask"]["count"] == 0
    assert "unreadable_image*" in result.out and "slice_gap*" not in result.out
    assert any("4" in row and "a sample" in row for row in report_tables.audit_checks(lesions.work / "audit.json").rows)


def test_bars_of_many_patients_are_one_area(lesions: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    data = reading.read(lesions)
    bars = len(figures.slices_per_patient(data).axes[0].patches)
    monkeypatch.setattr(figures, "BARS", 4)
    axis = figures.slices_per_patient(data).axes[0]
    assert bars == 10 and not axis.patches and len(axis.collections) == 2
