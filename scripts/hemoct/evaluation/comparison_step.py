"""What the steps of all tasks do that set experiments side by side: flags, inputs, tables, figure."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hemoct.base import cli, experiments, files
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from hemoct.evaluation.comparison import Evaluated


@dataclass(frozen=True)
class Kind:
    """What is other from task to task."""

    task: int
    read: Callable[[Workspace, str], Evaluated]
    """reads an evaluated experiment by its name"""
    needed: tuple[str, ...]
    """the files of an experiment that are read"""
    compared: tuple[str, ...]
    """metrics of comparison.md; comparison.csv has all"""
    shares: tuple[str, ...]
    """those from 0 to 1, which are drawn"""
    of_label: tuple[str, ...] = ()
    """metrics that each label of an experiment has, as METRIC_LABEL; compared and drawn too"""
    cases: str = "test images"
    title: str = "experiments side by side"
    apart: Callable[[Workspace, str], str] = lambda work, experiment: ""
    """why an experiment is compared only where it is named; "" where it is compared by default"""


def parser(doc: str | None) -> argparse.ArgumentParser:
    made = cli.parser(doc)
    made.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="the first is what others are compared with; "
                      "default: all that are evaluated")  # fmt: skip
    return made


def run(step: str, args: argparse.Namespace, kind: Kind) -> None:
    """Compare the experiments that `args` names; writes comparison.csv, .md and .png to outputs/NAME/taskN/comparison."""
    work = Workspace.of(args)
    names, remarks = list(dict.fromkeys(args.experiments)), []
    if not names:
        why = {name: kind.apart(work, name) for name in experiments.evaluated(work, kind.task)}
        names = [name for name in why if not why[name]] or list(why)
        remarks = [f"{name} is left out: {why[name]}" for name in why if name not in names]
    folder = work.task(kind.task) / "comparison"
    record = Run(step, args, folder, [work.task(kind.task) / name / file for name in names for file in kind.needed])
    if record.up_to_date():
        return
    from hemoct.evaluation import baselines, protocol  # what computes is not imported at the top: --help shall be quick

    evaluated = [kind.read(work, name) for name in names]
    said = [(one.name, baselines.sentence(one.content.get("baselines", {}), key)) for one in evaluated for key in HEADLINES]
    remarks += [f"{name} {words}" for name, words in said if words]
    for name in names:
        remarks += [f"{name} started from {words}" for words in protocol.initial_weights(work.task(kind.task) / name)]
    with record:
        record.wrote(*write(folder, evaluated, kind, work.dataset, args.seed, remarks=tuple(remarks)))
    print((folder / "comparison.md").read_text(encoding="utf-8"))
    print(f"{work.show(folder)}: {len(names)} experiment(s)")
    cli.say_next(work, "scripts/90_make_report.py")


def write(
    folder: Path, evaluated: list[Evaluated], kind: Kind, dataset: str, seed: int, remarks: tuple[str, ...] = (),
) -> list[Path]:  # fmt: skip
    """Write comparison.csv, comparison.md, with `remarks` below, and comparison.png to `folder`; returns them."""
    from hemoct.base import figure as base_figure, tables
    from hemoct.evaluation import bootstrap, comparison

    table = comparison.table(evaluated, bootstrap.RESAMPLES, seed)
    labels = dict.fromkeys(label for one in evaluated for label in one.content["labels"]) if kind.of_label else ()
    more = tuple(f"{metric}_{label}" for metric in kind.of_label for label in labels)
    text = comparison.markdown(table, f"Task {kind.task}: {kind.title}", kind.compared + more)
    drawn = side_by_side(table, f"{dataset}: {kind.cases} out of fold", kind.shares + more)
    return [
        tables.write_csv(folder / "comparison.csv", table),
        files.write_text(folder / "comparison.md", text + "".join(["\n", *(f"* {line}\n" for line in remarks)] * bool(remarks))),
        base_figure.save(drawn, folder / "comparison.png"),
    ]


HEADLINES = ("auroc", "f1_macro")
"""the metrics by which an experiment is compared with a baseline, each where it has it"""
MEASURED = ("auroc", "ap", "accuracy", "balanced_accuracy", "recall", "specificity", "precision", "f1", "f1_macro", "mcc")
ACRONYMS = {"auroc", "ap", "f1", "mcc"}
LEAST_DIFFERENCE = 0.005  # that an axis of differences spans: rounding errors of equal experiments would fill it


def side_by_side(table: pd.DataFrame, heading: str, measured: tuple[str, ...] = MEASURED) -> Figure:
    """Left: value and interval of each metric and experiment. Right: paired differences to the first experiment.

    `table` is that of `comparison.table`; of its metrics those that are `measured` are drawn.
    """
    import numpy as np
    from matplotlib.ticker import MaxNLocator

    from hemoct.base import figure as base_figure
    from hemoct.evaluation import comparison

    names = [name for name in measured if name in set(table["metric"])]
    shown = list(table["shown"].unique())
    differ = table["difference"].notna().any()
    height = 1.6 + 0.16 * len(names) * (len(shown) + 1) + 0.2 * len(shown)
    figure, axes = base_figure.figure(
        1, 1 + differ, width=5.2, height=max(3.6, height), sharey=True, squeeze=False, heading=heading
    )
    for number, name in enumerate(shown):
        rows = table[table["shown"] == name].set_index("metric").reindex(names)
        place = np.arange(len(names)) + (number - (len(shown) - 1) / 2) * 0.8 / len(shown)
        for axis, columns in zip(axes[0, : 1 + bool(number)], (comparison.VALUE, comparison.DIFFERENCE), strict=False):
            value, low, high = rows[list(columns)].to_numpy(dtype=float).T
            axis.plot(value, place, "o", markersize=5, color=f"C{number}", label=name)
            axis.hlines(place, low, high, color=f"C{number}", linewidth=1.6)
    axes[0, 0].set(xlabel="value and 95 % interval", ylim=(len(names) - 0.4, -0.6))
    ticks = [name.upper() if name in ACRONYMS else comparison.named(name).replace("_", " ") for name in names]
    axes[0, 0].set_yticks(range(len(names)), ticks)
    if differ:
        axes[0, 1].axvline(0, color="grey", linestyle=":")
        axes[0, 1].xaxis.set_major_locator(MaxNLocator(5))
        low, high = axes[0, 1].get_xlim()
        axes[0, 1].set_xlim(min(low, -LEAST_DIFFERENCE), max(high, LEAST_DIFFERENCE))
        axes[0, 1].set(xlabel=f"difference to {table['experiment'].iloc[0]}\n(paired, 95 % interval)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=1, frameon=False)
    return figure
