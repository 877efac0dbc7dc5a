"""The README tells the truth: its commands and flags exist, its links lead somewhere, its tables are those of the results."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from hemoct.report import publish

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "data" / "README.md"]
README = PAGES[0].read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """Every command in code blocks and table cells as words without `python`; flags of labels as a command of that step."""
    written = publish.MARKED.sub("", README)  # results quote the commands of their time
    blocks = re.findall(r"^```bash\n(.*?)^```", written, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", written, flags=re.DOTALL | re.MULTILINE))
    lines += [span for span in spans if span.startswith(("python ", "bash "))]
    lines += [f"python scripts/03_make_labels.py {span}" for span in spans if span.startswith("--layout")]
    lines += [f"python scripts/03_make_labels.py {line.split(' -- ')[1]}" for line in lines if " -- " in line]
    words = [shlex.split(line.split(" -- ")[0], comments=True) for line in lines]
    return [line[1:] for line in words if line[0] in ("python", "bash")]


def test_there_are_commands() -> None:
    called = {words[0] for words in commands()}
    assert {"scripts/demo.sh", "scripts/test.sh", "scripts/run_all.sh", "scripts/03_make_labels.py"} <= called


@pytest.mark.parametrize("script", sorted({words[0] for words in commands()}))
def test_commands_and_flags_exist(script: str, run_step) -> None:
    assert (REPOSITORY / script).is_file()
    known = (REPOSITORY / script).read_text(encoding="utf-8") if script.endswith(".sh") else run_step(script, "--help").out
    flags = {word.split("=")[0] for words in commands() if words[0] == script for word in words[1:] if word.startswith("--")}
    assert {flag for flag in flags if not re.search(rf"{flag}\b", known)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert links and missing == []


def test_scripts_named_in_the_text_exist() -> None:
    named = set(re.findall(r"\b(?:scripts|task\d_[a-z]+)/[\w./]+\.(?:py|sh)\b", README))
    assert named and {path for path in named if not (REPOSITORY / path).is_file()} == set()


def test_tables_are_those_of_the_reference_results() -> None:
    remedy = "python scripts/91_publish_results.py --readme-only"
    assert publish.update_readme(README, REPOSITORY / "outputs") == README, f"write the tables again: {remedy}"


def test_reference_results_hold_no_weights_and_no_path_of_a_machine() -> None:
    kept = [path for path in (REPOSITORY / "outputs" / "reference").rglob("*") if path.is_file()]
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
