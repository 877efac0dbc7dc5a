"""The pages tell the truth: commands, flags, links and files exist, tables and numbers are those of the published results."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from hemoct.base import files
from hemoct.report import panel, reference

REPOSITORY = Path(__file__).resolve().parents[2]
KEPT = REPOSITORY / "outputs" / "reference"
GENERATED = KEPT / "README.md"
WRITTEN = [REPOSITORY / "README.md", REPOSITORY / "data" / "README.md", *sorted(REPOSITORY.glob("task*/README.md"))]
PAGES = [*WRITTEN, GENERATED]
README = WRITTEN[0].read_text(encoding="utf-8")
STEPS = sorted(
    [*REPOSITORY.glob("scripts/[0-9]*.py"), *REPOSITORY.glob("scripts/benchmark_*.py"), *REPOSITORY.glob("task*/[0-9]*.py")]
)
REMEDY = "write the pages again: python scripts/91_publish_results.py --readme-only"
BLOCK = re.compile(r"^```(?:\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def by_name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def text_of(page: Path) -> str:
    """What people wrote: without the tables that are generated."""
    return reference.BEST.sub("", page.read_text(encoding="utf-8"))


def spans(page: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", BLOCK.sub("", text_of(page)))


def commands() -> list[list[str]]:
    """Every command in code blocks and spans as words without `python`; flags of labels as a command of that step."""
    lines = []
    for page in WRITTEN:
        lines += [line for block in BLOCK.findall(text_of(page)) for line in block.splitlines()]
        lines += [span for span in spans(page) if span.startswith(("python ", "bash "))]
        lines += [
            f"python scripts/03_make_labels.py {span}" for span in spans(page) if span.startswith(("--layout", "--patient"))
        ]
    lines += [f"python scripts/03_make_labels.py {line.split(' -- ')[1]}" for line in lines if " -- " in line]
    words = [shlex.split(line.split(" -- ")[0], comments=True) for line in lines if line.startswith(("python ", "bash "))]
    return [line[1:] for line in words]


def test_there_are_commands() -> None:
    called = {words[0] for words in commands()}
    assert {"scripts/demo.sh", "scripts/test.sh", "scripts/run_all.sh", "scripts/03_make_labels.py"} <= called
    tasks = {by_name(step) for step in REPOSITORY.glob("task*/[0-9]*.py")}
    assert tasks - called == set(), "each step of a task stands in its README"


@pytest.mark.parametrize("script", sorted({words[0] for words in commands()}))
def test_commands_and_flags_exist(script: str, run_step) -> None:
    assert (REPOSITORY / script).is_file()
    known = (REPOSITORY / script).read_text(encoding="utf-8") if script.endswith(".sh") else run_step(script, "--help").out
    flags = {word.split("=")[0] for words in commands() if words[0] == script for word in words[1:] if word.startswith("--")}
    assert {flag for flag in flags if not re.search(rf"{flag}\b", known)} == set()


def test_flags_in_the_text_exist(run_step) -> None:
    known = "".join(path.read_text(encoding="utf-8") for path in REPOSITORY.glob("scripts/*.sh"))
    known += "".join(run_step(by_name(step), "--help").out for step in STEPS)
    flags = {flag for page in WRITTEN for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text_of(page))}
    assert flags and {flag for flag in flags if not re.search(rf"{flag}\b", known)} == set()


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")) if "://" not in link]
    missing = [link for link in links if not (page.parent / link.split("#")[0]).exists()]
    assert links and missing == []
    for name, _, anchor in (link.partition("#") for link in links if "#" in link):
        headings = re.findall(r"^#+ (.+)$", (page.parent / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, f"{name}#{anchor}"


@pytest.mark.parametrize("page", WRITTEN, ids=by_name)
def test_files_named_in_the_text_exist(page: Path) -> None:
    named = {name for span in spans(page) for name in re.findall(r"(?:[\w]+/)*\w+\.(?:py|sh)\b", span)}
    places = [REPOSITORY, page.parent, *(REPOSITORY / "scripts").rglob("*/")]
    assert {name for name in named if not any((place / name).is_file() for place in places)} == set()


def test_the_readme_is_a_door() -> None:
    assert len(README.encode()) <= 8192, "long things belong to the README of a task, of data/ or of outputs/reference"
    rows = reference.BEST.search(README)[0].splitlines()[3:-1]
    assert 1 <= len(rows) <= 5
    assert README.index("panel.png") < README.index("## "), "the panel comes first"


@pytest.mark.parametrize("page", PAGES, ids=by_name)
def test_tables_have_ten_columns_at_most(page: Path) -> None:
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert max((len(re.findall(r"(?<!\\)\|", row)) - 1 for row in rows), default=0) <= reference.WIDEST


def test_generated_tables_are_those_of_the_reference_results() -> None:
    assert reference.update_readme(README, KEPT) == README, REMEDY
    assert reference.page(KEPT) == GENERATED.read_text(encoding="utf-8"), REMEDY


def test_every_published_experiment_has_a_title() -> None:
    published = {str(path.parent.relative_to(KEPT)) for pattern in ("*/task*/*", "*/task*/*/truth-boxes")
                 for path in KEPT.glob(f"{pattern}/metrics.json")}  # fmt: skip
    assert published == set(reference.titles(KEPT)), "python scripts/91_publish_results.py --experiment NAME --title TEXT"


def test_numbers_in_the_text_are_published_ones() -> None:
    """Our own results stand in generated tables alone; counts of images and minutes are those of the results."""
    counts = {(content["n"], content["patients"]) for content in map(files.read_json, KEPT.rglob("metrics.json"))}
    for page in WRITTEN:
        others = False
        for line in BLOCK.sub("", text_of(page)).splitlines():
            others = line.startswith("|") and (others or "not ours" in line)
            if not others and "not by us" not in line and "above 0.001" not in line:
                assert re.findall(r"\b0\.\d{3,}", line) == [], f"{by_name(page)}: {line}"
            for images, patients in re.findall(r"(\d+) (?:images|slices) of (\d+) patients", line):
                assert (int(images), int(patients)) in counts or "SAH" in line, line
    minutes = re.findall(r"\b\d+ min\b", README)
    assert minutes and [time for time in minutes if f"cpu, {time})" not in GENERATED.read_text(encoding="utf-8")] == []


def test_the_panel_is_what_is_drawn(tmp_path: Path) -> None:
    pictures = panel.draw(tmp_path / "p.png"), KEPT / "panel.png"
    drawn, kept = (np.asarray(Image.open(path).convert("RGB"), float) for path in pictures)
    assert drawn.shape == kept.shape and abs(drawn - kept).mean() < 2, "python scripts/91_publish_results.py --panel"


@pytest.mark.parametrize("path", sorted(KEPT.glob("*/dataset.json")), ids=by_name)
def test_the_data_set_is_the_one_that_models_were_trained_on(path: Path) -> None:
    name = f"data/work/{path.parent.name}/dataset.json"
    records = [files.read_json(record) for record in path.parent.glob("task*/*/fold*/*_train.run.json")]
    of_it = [
        record for record in records if name in record["inputs"]
    ]  # another one, compared with these, may have learned elsewhere
    hashes = {record["inputs"][name] for record in of_it}
    assert hashes == {files.sha256(path)}


def test_reference_results_hold_no_weights_and_no_path_of_a_machine() -> None:
    kept = [path for path in KEPT.rglob("*") if path.is_file()]
    assert [path for path in kept if path.suffix in (".pt", ".npy") or path.name.startswith("worst_mistakes")] == []
    texts = [path for path in kept if path.suffix in (".json", ".csv", ".md", ".txt")]
    assert [path for path in texts if re.search(r'["\s=]/(?:home|root|tmp|Users|work|mnt|data)/', path.read_text())] == []


def test_licence_and_citation_are_whole() -> None:
    licence = (REPOSITORY / "LICENSE").read_text(encoding="utf-8")
    assert "GNU AFFERO GENERAL PUBLIC LICENSE" in licence and "END OF TERMS AND CONDITIONS" in licence
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["license"] == "AGPL-3.0-or-later"
    values = [entry["value"] for entry in citation["references"][0]["identifiers"]]
    assert values == ["arXiv:2308.10521", "10.6084/m9.figshare.23957937"]
    assert citation["references"][0]["title"].split(":")[0] in README, "the data are cited"
