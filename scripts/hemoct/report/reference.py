"""The pages that are written from outputs/reference: its own README.md with every table, and the short table of README.md."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from hemoct.base import experiments, files
from hemoct.base.errors import UserError
from hemoct.evaluation import protocol, text
from hemoct.report import pages, results
from hemoct.report.commands import commands

BEST = re.compile(r"(<!-- best: (?P<of>[^>]*?) -->\n).*?(<!-- end best -->)", re.DOTALL)
"""in README.md: `<!-- best: NAME/task1 NAME/task2 -->`, a row for each"""
TASKS = {1: "Images with {positive}", 2: "Boxes around lesions", 3: "Masks of the edema", 4: "Types of bleeding"}
COMPARED = ("*/comparison.md", "label_curve/*/label_curve.md")
"""paired differences of experiments, below the folder of a task"""
WIDEST = 10  # columns of a table


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
    return pages.render("reference.md", sections=[_section(reference, folder, named) for folder in folders])


def _section(reference: Path, folder: Path, named: dict[str, str]) -> dict[str, Any]:
    """What the template shows of a task of a data set."""
    found, task = results.evaluated(folder), int(folder.name.removeprefix("task"))
    shown = [replace(one, name=f"[{_title(one, folder, named)}]({one.folder.relative_to(reference)})") for one in found]
    captioned = [(group.caption, results.table(shown, group)) for group in results.GROUPS[task]]
    captioned.append((results.BASELINES, results.beside_baselines(shown)))
    captioned.append((results.LOOKING, results.looked_at(shown)))
    made = []
    for one in found:
        paths = [path for pattern in ("fold*/*.run.json", "*.run.json") for path in sorted(one.folder.glob(pattern))]
        made.append((_title(one, folder, named), one, commands(map(files.read_json, paths))))
    dataset = folder.parent / "dataset.json"
    compared = [path for pattern in COMPARED for path in sorted(folder.glob(pattern))]
    return {
        "task": task, "dataset": folder.parent.name, "folder": experiments.FOLDERS[task], "made": made,
        "tables": [(caption, part) for caption, whole in captioned if whole.rows for part in _narrow(whole)],
        "patients": files.read_json(dataset)["patient_source"] if dataset.is_file() else None,
        "compared": [(str(path.parent.relative_to(folder)), path.relative_to(reference)) for path in compared],
    }  # fmt: skip


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
        data = f"{dataset}, {protocol.patients(first.content)}"
        how = f"{first.content['protocol']}, {protocol.folds_text(first.content)}"
        rows.append([name, data, how, f"{metric} {text.metric(first.headline)}", link, first.trained_on])
    return text.Table(["task", "data", "protocol", "result (95 % interval)", "model", "trained on"], rows)


def update_readme(readme: str, reference: Path) -> str:
    """README.md with the table between its markers written anew. Raises UserError for a marker alone."""
    whole = len(BEST.findall(readme))
    if readme.count("<!-- best: ") != whole or readme.count("<!-- end best -->") != whole:
        raise UserError("README.md: a '<!-- best: NAME/taskN -->' has no '<!-- end best -->' or the reverse; add it")
    return BEST.sub(lambda match: f"{match[1]}{best(reference, match['of'].split()).markdown()}\n{match[3]}", readme)
