"""The pages that are written from outputs/reference: its own README.md with every table, and the short table of README.md."""

import re
from dataclasses import replace
from pathlib import Path

from hemoct.base import experiments, files
from hemoct.base.errors import UserError
from hemoct.evaluation import protocol, text
from hemoct.report import results
from hemoct.report.commands import commands

BEST = re.compile(r"(<!-- best: (?P<of>[^>]*?) -->\n).*?(<!-- end best -->)", re.DOTALL)
"""in README.md: `<!-- best: NAME/task1 NAME/task2 -->`, a row for each"""
TASKS = {1: "Images with {positive}", 2: "Boxes around lesions", 3: "Masks of the edema", 4: "Types of bleeding"}
WIDEST = 10  # columns of a table
INTRODUCTION = """# Published results

Written by `python scripts/91_publish_results.py` from the files beside this page; do not edit it. A test compares the two.

* Best row first, by the first metric. Rows that cannot be compared with it come after: those of some folds or of few training
  patients, then those that are flattered: the slice protocol (slices of one patient on both sides), upper bounds.
* 'All 5 folds': each image was tested once, by the one of five models that had not seen its patient. 'Fold 0 of 5': one model.
* Intervals: 2,000 bootstrap resamples of patients. One seed a row; what lies near the edge of an interval may be chance.
* Below each table: the commands, what they took, and what the evaluation notes.
"""


def titles(reference: Path) -> dict[str, str]:
    """The plain titles of published experiments, by NAME/taskN/EXPERIMENT; an experiment without one keeps its name."""
    path = reference / "titles.json"
    return files.read_json(path) if path.is_file() else {}


def add_title(reference: Path, experiment: str, title: str) -> Path:
    """`experiment`: NAME/taskN/EXPERIMENT."""
    return files.write_json(reference / "titles.json", dict(sorted((titles(reference) | {experiment: title}).items())))


def page(reference: Path) -> str:
    """The text of outputs/reference/README.md."""
    named = titles(reference)
    folders = sorted(reference.glob("*/task*"), key=lambda folder: (folder.name, folder.parent.name))
    return "\n".join([INTRODUCTION, *(_section(reference, folder, named) for folder in folders)])


def _section(reference: Path, folder: Path, named: dict[str, str]) -> str:
    found = results.evaluated(folder)
    task, dataset = int(folder.name.removeprefix("task")), folder.parent.name
    lines = [f"## Task {task}: {dataset}", "", _about(folder, task), ""]
    shown = [replace(one, name=f"[{_title(one, folder, named)}]({one.folder.relative_to(reference)})") for one in found]
    captioned = [(group.caption, results.table(shown, group)) for group in results.GROUPS[task]]
    for caption, whole in (*captioned, (results.BASELINES, results.beside_baselines(shown))):
        for table in _narrow(whole) if whole.rows else ():
            lines += [caption, "", table.markdown(), ""]
    lines += ["<details><summary>Commands and notes</summary>", ""]
    for one in found:
        paths = [path for pattern in ("fold*/*.run.json", "*.run.json") for path in sorted(one.folder.glob(pattern))]
        lines += [f"**{_title(one, folder, named)}** (`{one.name}`)", ""]
        lines += [f"* `{command}` ({how})" for command, how in commands(map(files.read_json, paths))]
        lines += [f"* {note}" for note in one.content["notes"]] + [""]
    return "\n".join([*lines, "</details>", ""])


def _about(folder: Path, task: int) -> str:
    """Where the findings stand, how patients were told apart, where paired differences stand."""
    words = [f"Findings: [{experiments.FOLDERS[task]}](../../{experiments.FOLDERS[task]}/README.md)."]
    path, differences = folder.parent / "dataset.json", folder / "comparison" / "comparison.md"
    if path.is_file():
        words.append(f"Patients are told apart by `{files.read_json(path)['patient_source']}`.")
    if differences.is_file():
        words.append(f"Paired differences: [comparison.md]({differences.relative_to(folder.parents[1])}).")
    return " ".join(words)


def _title(experiment: results.Experiment, folder: Path, named: dict[str, str]) -> str:
    return named.get(f"{folder.parent.name}/{folder.name}/{experiment.name}", experiment.name)


def _narrow(table: text.Table) -> list[text.Table]:
    """A table in parts of WIDEST columns at most, the first column in each."""
    step = WIDEST - 1
    return [
        text.Table([row[0] for row in [table.columns]] + table.columns[start : start + step],
                   [row[:1] + row[start : start + step] for row in table.rows])
        for start in range(1, len(table.columns), step)
    ]  # fmt: skip


def best(reference: Path, of: list[str]) -> text.Table:
    """The best row of each NAME/taskN with its headline metric, as README.md shows them."""
    rows = []
    for place in of:
        dataset, _, number = place.partition("/task")
        task = int(number)
        found = results.evaluated(reference / place)
        positive = found[0].content.get("positive") if found else None
        name = f"[{TASKS[task].format(positive=positive or 'a finding')}]({experiments.FOLDERS[task]}/README.md)"
        if not found:
            rows.append([name, dataset, "", "", "no results yet", ""])
            continue
        first = found[0]
        metric = next(iter(results.GROUPS[task][0].metrics.values()))
        link = f"[{_title(first, reference / place, titles(reference))}](outputs/reference/README.md#task-{task}-{dataset})"
        data = f"{dataset}, {first.content['patients']} patients"
        how = f"{first.content['protocol']}, {protocol.folds_text(first.content)}"
        rows.append([name, data, how, f"{metric} {text.metric(first.headline)}", link, first.trained_on])
    return text.Table(["task", "data", "protocol", "result (95 % interval)", "model", "trained on"], rows)


def update_readme(readme: str, reference: Path) -> str:
    """README.md with the table between its markers written anew. Raises UserError for a marker alone."""
    whole = len(BEST.findall(readme))
    if readme.count("<!-- best: ") != whole or readme.count("<!-- end best -->") != whole:
        raise UserError("README.md: a '<!-- best: NAME/taskN -->' has no '<!-- end best -->' or the reverse; add it")
    return BEST.sub(lambda match: f"{match[1]}{best(reference, match['of'].split()).markdown()}\n{match[3]}", readme)
