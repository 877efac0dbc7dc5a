"""The report: what is in it, what is left out, and that it stands alone."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import evaluated, toy
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.evaluation import text
from hemoct.report import pages as report_pages, sections
from hemoct.report.front import Front

STEP = "scripts/90_make_report.py"


@pytest.fixture
def call(work: Workspace, run_step):
    return lambda *words: run_step(STEP, "--root", work.root, "--dataset", "toy", *words)


def pages(work: Workspace) -> tuple[str, str]:
    html, markdown = ((work.outputs / name).read_text(encoding="utf-8") for name in ("report.html", "report.md"))
    return html.replace("\N{NON-BREAKING HYPHEN}", "-"), markdown


def test_joins_tables_figures_and_commands(work: Workspace, call) -> None:
    toy.make(work)
    evaluated.make(work, "resnet18", accuracy=0.9)
    evaluated.make(work, "resnet18-slice", accuracy=0.95, protocol="slice")
    evaluated.compare(work)
    assert call().code == 0
    for page in pages(work):
        titles = ["Task 1: all experiments", "Task 1: differences between experiments",
                  "Task 1: resnet18", "Task 1: resnet18-slice", "Data", "Folds"]  # fmt: skip
        assert re.findall(r"(?:<h2>|^## )(.*?)(?:</h2>|$)", page, flags=re.MULTILINE) == titles
        assert "0.900 (0.850-0.950)" in page and "0.950 (0.900-1.000)" in page
        assert "no negative slice" in page, "an undefined metric says why"
        assert "0.877 (0.800-0.950)" in page, "operating points"
        assert "+0.050 (-0.010 to +0.110)" in page, "paired difference"
        assert "40 images of 10 patients; folds 0, 1 of 5, patient protocol" in page, "a part of the folds is named"
        assert "toy, from weights.pt" in page, "what it was trained on"
        assert (
            "resnet18 on toy, patient protocol, n = 40 images of 10 patients, 12 positive (hemorrhage), folds 0, 1 of 5" in page
        )
        assert "AUROC and AP are means of the folds" in page and "all folds" not in page
        assert page.count("python task1_classification/01_train.py --dataset toy") == 2, "the folds share one command"
        assert "commit 012345678, cpu, 3 min" in page, "the times of the folds add up"


GATE = """experiment,protocol,n,metric,value,low,high,difference,difference_low,difference_high,note
gate,patient,24,accuracy,0.9,0.85,0.95,,,,
detector alone,patient,24,accuracy,0.8,0.75,0.85,-0.1,-0.15,-0.05,
"""


def test_detectors_and_their_gates_of_any_name(work: Workspace, call) -> None:
    folder = work.task(2) / "yolov8n"
    content = evaluated.metrics_json(work, "yolov8n", {"map50": evaluated.metric(0.7)})
    files.write_json(folder / "metrics.json", content)
    files.write_json(folder / "fold0" / "metrics.json", content)
    files.write_text(folder / "error_types.csv", "kind,type,boxes\nmissed,faint,3\n")
    for name in ("gate", "narrow"):
        files.write_text(folder / name / "gate_comparison.csv", GATE)
        record = evaluated.record("task2_detection/06_gate_classifier.py", work)
        files.write_json(folder / name / "fold0" / "06_gate_classifier.run.json", record)
        Image.fromarray(np.zeros((8, 12), dtype=np.uint8)).save(folder / name / "gate_regions.png")
    assert call().code == 0
    for page in pages(work):
        titles = ["Task 2: all experiments", "Task 2: yolov8n", "Task 2: yolov8n/gate", "Task 2: yolov8n/narrow"]
        assert re.findall(r"(?:<h2>|^## )(.*?)(?:</h2>|$)", page, flags=re.MULTILINE) == titles
        assert page.count("0.700 (0.650-0.750)") == 3 and "faint" in page
        assert page.count("0.900 (0.850-0.950)") == 2 and page.count("-0.100 (-0.150 to -0.050)") == 2
        assert page.count("06_gate_classifier.py --dataset toy") == 2 and "Regions that the gate saw" in page


def test_masks_their_upper_bound_and_what_they_say_of_slices(work: Workspace, call) -> None:
    toy.make(work)
    for folder, dice, upper in (("u", 0.45, False), ("u/truth-boxes", 0.6, True)):
        metrics = {"dice_patient": evaluated.metric(dice)}
        content = evaluated.metrics_json(work, folder, metrics, upper_bound=upper, notes=["33 slices have no mask"])
        files.write_json(work.task(3) / folder / "metrics.json", content)
    rules = pd.DataFrame({"rule": ["true masks"], "recall": [0.935], "recall_low": [0.9], "recall_high": [0.96]})
    tables.write_csv(work.task(3) / "u/classification/slice_comparison.csv", rules)
    assert call().code == 0
    for page in pages(work):
        titles = re.findall(r"(?:<h2>|^## )(.*?)(?:</h2>|$)", page, flags=re.MULTILINE)
        assert titles[:-2] == ["Task 3: all experiments", "Task 3: u", "Task 3: u/truth-boxes, an upper bound",
                              "Task 3: u/classification"]  # fmt: skip
        assert "0.450 (0.400-0.500)" in page and "0.600 (0.550-0.650)" in page and "0.935 (0.900-0.960)" in page
        assert page.count("33 slices have no mask") == 2, "what the evaluation notes stands beside its numbers"


def test_html_stands_alone_and_markdown_links_what_exists(work: Workspace, call) -> None:
    toy.make(work)
    evaluated.make(work, "resnet18")
    call()
    html, markdown = pages(work)
    sources = re.findall(r'src="(.*?)"', html)
    assert len(sources) == len(evaluated.FIGURES)
    assert all(source.startswith("data:image/webp;base64,") for source in sources)
    assert "http" not in html and str(work.root) not in html.replace(f"--root {work.root}", "")
    links = re.findall(r"!\[.*?\]\((.*?)\)", markdown)
    assert len(links) == len(evaluated.FIGURES)
    assert all((work.outputs / unquote(link)).is_file() for link in links)


def test_a_model_of_few_patients_says_so_wherever_its_number_stands(work: Workspace, call) -> None:
    toy.make(work)
    evaluated.make(work, "resnet18-10patients", limit_patients=10, folds_done="folds 0, 1 of 5, trained with 10 patients alone")
    assert call().code == 0
    for page in pages(work):
        assert "10 patients of toy, from weights.pt" in page and "trained with 10 patients alone" in page


def test_missing_parts_are_left_out(work: Workspace, call) -> None:
    toy.make(work)
    assert call().code == 0
    html, _ = pages(work)
    assert "Folds" in html and "Task 1" not in html


def test_results_without_the_data_make_a_report(work: Workspace, call) -> None:
    evaluated.make(work, "resnet18")
    assert call().code == 0
    assert "<h2>Folds" not in pages(work)[0]


def test_an_empty_workspace_is_one_line(call) -> None:
    result = call()
    assert result.code == 2
    assert "03_make_labels.py --dataset toy" in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize(("layout", "said"), [("phe-sich", True), ("csv", False)])
def test_says_that_masks_are_edema_where_they_are(work: Workspace, call, layout: str, said: bool) -> None:
    toy.make(work)
    path = work.work / "dataset.json"
    files.write_json(path, files.read_json(path) | {"layout": layout})
    call()
    for page in pages(work):
        assert ("not the bleeding itself" in page) == said


def test_names_are_text_and_no_markup(work: Workspace, call) -> None:
    toy.make(work, labels=("<b>|x", "![](http://x/y.png)"))
    call()
    html, markdown = pages(work)
    assert "&lt;b&gt;|x" in html and "<b>|x" not in html
    assert "&lt;b>\\|x" in markdown and not re.search(r"<[A-Za-z/!?]", markdown) and "![](http" not in markdown


def test_commands_are_shown_as_they_were_typed() -> None:
    shown = report_pages.render(
        "report.md", name="n", labels_mean="", outputs=Path(), numbers={},
        front=Front("", "", "", text.Table([], []), [], "", [], []),
        parts=[report_pages.Part("t", [], [("step --rule '(?P<p>x)'", "1 s"), ("step `</code>`", "2 s")], [], [], [])],
    )  # fmt: skip
    assert "* `step --rule '(?P<p>x)'` (1 s)" in shown and "* `` step `</code>` `` (2 s)" in shown


def test_up_to_date_until_a_result_changes(work: Workspace, call) -> None:
    toy.make(work)
    folder = evaluated.make(work, "resnet18")
    call()
    assert "up to date" in call("--skip-if-done").out
    metrics = files.read_json(folder / "metrics.json")
    metrics["metrics"]["accuracy"]["value"] = 0.123
    files.write_json(folder / "metrics.json", metrics)
    assert "up to date" not in call("--skip-if-done").out
    assert "0.123" in pages(work)[0]


def test_a_section_more_is_all_that_a_task_needs(work: Workspace) -> None:
    files.write_text(work.task(2) / "yolov8n" / "boxes.csv", "class,n\na,3\n")

    def read(path: Path) -> text.Table:
        return text.Table(["text"], [[path.read_text().strip()]])

    section = sections.Section("Task 2: {folder}", "outputs/{name}/task2/*", (), (("boxes.csv", read, "Boxes."),))
    (part,) = report_pages.collect(work, [section])
    assert part.title == "Task 2: yolov8n"
    assert part.tables == [("Boxes.", text.Table(["text"], [["class,n\na,3"]]))]


def test_torch_is_not_imported() -> None:
    code = "import sys, hemoct.report.pages; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_is_damaged_is_left_out_and_said(work: Workspace, call) -> None:
    toy.make(work)
    for name in ("a", "b"):
        evaluated.make(work, name)
    picture, metrics = work.task(1) / "a" / "roc.png", work.task(1) / "b" / "metrics.json"
    picture.write_bytes(picture.read_bytes()[:40])
    files.write_json(metrics, files.read_json(metrics) | {"n": "many"})
    (work.task(1) / "a" / "operating_points.csv").write_bytes(b"\x00\xff\xfe")
    result = call()
    assert result.code == 0 and result.out.count(report_pages.LEFT_OUT) == 3
    for page in pages(work):
        assert "LEFT OUT: outputs/toy/task1/a/roc.png: no whole picture" in page
        assert len(re.findall("n is .{1,5}many", page)) == 2, "beside the other experiments, and in its own part"
        assert "LEFT OUT: outputs/toy/task1/a/operating_points.csv" in page and "0.900 (0.850-0.950)" in page
