"""The first half page of the report: the answer, and what it cannot mean."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import browser, evaluated, toy
from helpers.browser import needs_browser
from hemoct.base import files
from hemoct.base.workspace import Workspace
from hemoct.report import pages
from hemoct.report.front import front

STEP = "scripts/90_make_report.py"
POSITION = {"metrics": {"auroc": evaluated.metric(0.8)}, "difference": {"auroc": {"value": 0.1, "ci95": [0.02, 0.2]}}}


@pytest.fixture
def call(work: Workspace, run_step):
    return lambda *words: run_step(STEP, "--root", work.root, "--dataset", "toy", *words)


def scan(folder: Path, dataset: str = "toy") -> Path:
    files.write_json(folder / "scan.json", {"models": [{"task": 1, "dataset": dataset}]})
    return files.write_text(folder / "scan.html", "<!doctype html><title>scan</title>")


def test_the_best_row_of_each_task_with_its_interval_and_its_baseline(work: Workspace) -> None:
    toy.make(work)
    evaluated.make(work, "good", accuracy=0.9, baselines={"position": POSITION}, folds=(0, 1, 2, 3, 4), complete=True)
    evaluated.make(work, "better-but-slices", accuracy=0.99, protocol="slice")
    content = evaluated.metrics_json(work, "u", {"dice_patient": evaluated.metric(0.5)})
    files.write_json(work.task(3) / "u" / "metrics.json", content)
    found = front(work)
    first, third = found.best.rows
    assert first[:4] == ["1: which images show hemorrhage", "good (best of 2)", "AUROC 0.900 (0.850-0.950)",
                         "place of the slice: AUROC 0.800 (0.750-0.850), beaten"]  # fmt: skip
    assert third[:4] == [
        "3: which pixels are lesion",
        "u (the only one)",
        "Dice by patient 0.500 (0.450-0.550)",
        "none is defined",
    ]
    assert found.asked.startswith("Can networks tell which images show hemorrhage (task 1), which pixels are lesion (task 3)")
    assert found.data == "40 images of 10 patients" and found.how.startswith("Folds by patient")
    assert "Task 3: some folds, or few patients, alone: a first look." in found.means
    assert any("flattered by the choice" in line for line in found.means) and "Research use" in found.means[-1]


def test_what_does_not_beat_a_guess_says_so(work: Workspace) -> None:
    toy.make(work)
    worse = POSITION | {"difference": {"auroc": {"value": 0.1, "ci95": [-0.01, 0.2]}}}
    evaluated.make(work, "a", baselines={"position": worse}, patient_level={"patients_negative": 0})
    found = front(work)
    assert found.best.rows[0][3].endswith("NOT beaten")
    assert any(line.startswith("Task 1 does not beat a guess") for line in found.means)
    assert any("how often a healthy patient would be called is not known" in line for line in found.means)


def test_phantoms_are_called_so(work: Workspace) -> None:
    toy.make(work)
    path = work.work / "dataset.json"
    files.write_json(path, files.read_json(path) | {"licence": "drawn by code, no patient"})
    assert front(work).means[0].startswith("The images are drawn phantoms")


def test_dates_and_versions_are_those_of_the_records(work: Workspace) -> None:
    toy.make(work)
    folder = evaluated.make(work, "a")
    for name, day in (("01_train", "2026-01-02"), ("02_evaluate", "2026-01-04")):
        record = evaluated.record(f"task1_classification/{name}.py", work)
        record |= {"started": f"{day}T10:00:00+0000", "python": "3.11.7", "packages": {"torch": "2.15.0", "monai": None}}
        files.write_json(folder / f"{name}.run.json", record)
    assert front(work).made == "2026-01-02 to 2026-01-04, Python 3.11.7, torch 2.15.0, commit 012345678"


def test_two_scans_of_these_models_are_linked(work: Workspace, call) -> None:
    toy.make(work)
    evaluated.make(work, "a")
    for name in ("one", "two words", "three"):
        scan(work.outputs.parent / "scans" / name)
    scan(work.outputs.parent / "scans" / "elsewhere", dataset="other")
    assert [link for _, link in front(work).scans] == ["../scans/one/scan.html", "../scans/three/scan.html"]
    scan(work.outputs / "scans" / "zero")
    assert call().code == 0
    for name in ("report.html", "report.md"):
        page = (work.outputs / name).read_text()
        assert "scans/zero/scan.html" in page and "../scans/one/scan.html" in page and "elsewhere" not in page
    scan(work.outputs / "scans" / "another")
    assert (
        "up to date" not in call("--skip-if-done").out and "scans/another/scan.html" in (work.outputs / "report.html").read_text()
    )


def test_damaged_files_leave_the_rest_of_the_first_page(work: Workspace, call) -> None:
    toy.make(work)
    evaluated.make(work, "a")
    files.write_text(evaluated.make(work, "b") / "metrics.json", "{")
    files.write_text(work.outputs / "scans" / "x" / "scan.json", "no json")
    (work.work / "dataset.json").write_text("[")
    result = call()
    page = (work.outputs / "report.md").read_text()
    assert result.code == 0 and "1: which images show hemorrhage" in page and "b is left out: a file of it is damaged" in page


def test_figures_have_numbers_and_the_size_of_the_page(work: Workspace, call) -> None:
    toy.make(work)
    folder = evaluated.make(work, "a")
    large = np.random.default_rng(0).integers(0, 255, (1500, 3000), dtype=np.uint8)
    Image.fromarray(large).save(folder / "roc.png")
    assert call().code == 0
    html, markdown = ((work.outputs / name).read_text() for name in ("report.html", "report.md"))
    numbers = list(range(1, len(evaluated.FIGURES) + 1))
    assert [int(number) for number in re.findall(r"<figcaption>Figure (\d+)\. ", html)] == numbers
    assert [int(number) for number in re.findall(r"^\*Figure (\d+)\. ", markdown, flags=re.MULTILINE)] == numbers
    assert len(html) < 0.5 * (folder / "roc.png").stat().st_size
    assert pages.SHOWN == (800, 1240)


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, False), (390, True)])
def test_the_page_fits_its_window_and_opens_what_a_link_leads_to(work: Workspace, call, width, dark) -> None:
    toy.make(work)
    evaluated.make(work, "a", baselines={"position": POSITION})
    call()
    with browser.opened() as page:
        page.show((work.outputs / "report.html").as_uri(), width, dark=dark)
        assert page.overflow == 0 and page.errors == []
        assert page.run("document.querySelector('.front').getBoundingClientRect().bottom") < 1600
        assert not page.run("document.querySelector('details.part').open")
        page.run("location.hash = 'part2'")
        page.wait("document.querySelector('details.part').open")
        assert page.run("[...document.images].every(image => image.alt)")
