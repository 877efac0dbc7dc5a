"""The real chain once: every step that run_all.sh lists for the demonstration, on a tiny phantom, one epoch a training."""

import base64
import os
import re
import shlex
import subprocess
from pathlib import Path

from lxml import html

from helpers import declared
from hemoct.base import files
from hemoct.workflow import profiles
from hemoct.workflow.plan import Plan

REPOSITORY = Path(__file__).resolve().parents[2]
EXPECTED = Path(__file__).with_name("chain_files.txt")
BRIEF = {
    "01_get_data.py --demo": "--patients 20",
    "task1_classification/01_train.py": "--epochs 1",
    "task2_detection/02_train.py": "--epochs 1",
    "task2_detection/06_gate_classifier.py": "--epochs 1",
    "task3_segmentation/02_train.py": "--epochs 1",
    "task4_multilabel/02_train.py": "--epochs 1",
}
"""flags that make a step of the chain brief; of a flag that is given twice the last one counts"""


def commands() -> list[str]:
    """What run_all.sh would run for the demonstration, without numbers and `python`."""
    settings = os.environ | {"VIRTUAL_ENV": os.environ.get("VIRTUAL_ENV", str(Path(os.__file__).parents[2]))}
    words = ["bash", str(REPOSITORY / "scripts" / "run_all.sh"), "--dataset", "demo", "--list"]
    listed = subprocess.run(words, env=settings, capture_output=True, text=True, check=True).stdout
    return [line.split("  python ")[1] for line in listed.splitlines()]


def test_every_step_of_the_demonstration_leaves_exactly_its_files_and_a_report_that_opens(tmp_path, run_step):
    for command in commands():
        step, *words = shlex.split(command)
        brief = next((flags for start, flags in BRIEF.items() if start in command), "")
        words = [str(tmp_path / word) if word.startswith(("data/raw/", "outputs/")) else word for word in words]
        result = run_step(step, *words, *brief.split(), "--root", tmp_path)
        assert result.code == 0, f"{command}\n{result.err}"
    (tmp_path.parent / EXPECTED.name).write_text(summary(tmp_path), encoding="utf-8")
    assert summary(tmp_path) == EXPECTED.read_text(encoding="utf-8"), (
        f"when that is right: cp {tmp_path.parent / EXPECTED.name} {EXPECTED}"
    )
    stop_unless_it_opens(tmp_path / "outputs" / "demo" / "report.html", ["Task 1", "Task 2", "Task 3"])
    stop_unless_it_opens(tmp_path / "outputs" / "demo-types" / "report.html", ["Task 1", "Task 4"])
    records = [files.read_json(path) for path in tmp_path.rglob("*.run.json")]
    assert len(records) > 30 and {record["status"] for record in records} == {"ok"}
    plan = Plan("demo", profiles.read("demo"), tmp_path)
    assert declared.differences(plan, tmp_path) == [], "what a step reads and writes stands in scripts/hemoct/workflow"


def summary(root: Path) -> str:
    """Every file below `root`, a line a folder; names of images and hashes are shortened to one each."""
    folders: dict[str, set[str]] = {}
    for path in files.walk(root):
        place, name = str(path.parent), path.name
        name = re.sub(r"^(\d{3,4}_\d\d|T\d{3}_\d)", "IMAGE", name)
        name = re.sub(r"[0-9a-f]{12,}", "HASH", name)
        place = re.sub(r"(image|label|annotation|fold)\d+(?=/|$)", r"\1N", place)
        folders.setdefault(place, set()).add(name)
    return "".join(f"{place}: {' '.join(sorted(names))}\n" for place, names in sorted(folders.items()))


def stop_unless_it_opens(page: Path, headings: list[str]) -> None:
    """A page that a browser can show: its headings are there, and every picture in it is one."""
    tree = html.parse(str(page)).getroot()
    text = tree.text_content()
    assert [heading for heading in headings if heading not in text] == []
    pictures = [image.get("src") for image in tree.iter("img")]
    assert len(pictures) > 5
    for source in pictures:
        kind, _, content = source.partition(",")
        assert kind == "data:image/webp;base64" and base64.b64decode(content).startswith(b"RIFF")
    for link in (anchor.get("href") for anchor in tree.iter("a")):
        assert link.startswith(("http", "#")) or (page.parent / link).exists(), link
