"""What the steps of tasks 1, 3 and 4 do that make ensembles: flags, inputs, the folds that are not up to date."""

import argparse
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hemoct.base import cli, experiments, runs
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace

RULES = ("mean", "weights", "stacking")
Write = Callable[[Path, list[Path]], list[Path]]
"""writes the files of a fold to a folder, from the folders of its members; returns them"""


@dataclass(frozen=True)
class Ensemble:
    """An experiment that is made of others."""

    task: int
    name: str
    by_fold: dict[str, list[Path]]
    """see ensemble.folds"""


def run(step: str, doc: str | None, argv: list[str] | None, task: int) -> None:
    """A step that makes an ensemble, whole. `step`: its file, `doc`: its help."""
    parser = cli.parser(doc)
    parser.add_argument("members", nargs="+", metavar="MEMBER", help="experiments of the task, two or more")
    parser.add_argument("--rule", choices=RULES, default="mean", help="how probabilities are put together")
    parser.add_argument("--experiment", metavar="NAME", help="name of the folder; default: RULE-MEMBER-MEMBER...")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished run of the same name that had other members")
    args = cli.parse(parser, argv, step)
    from hemoct.classification import ensemble  # what computes is not imported at the top: --help shall be quick

    by_fold = ensemble.folds(Workspace.of(args), task, args.members)
    inputs = [path / file for paths in by_fold.values() for path in paths for file in ("model.json", "predictions.csv")]

    def prepare() -> Write:
        found = {fold: ensemble.read(paths, several=task == 4) for fold, paths in by_fold.items()}
        return lambda folder, paths: ensemble.write_fold(folder, paths, found[folder.name], args.rule, runs.step_name(step))

    name = args.experiment or "-".join([args.rule, *dict.fromkeys(args.members)])
    make(step, args, Ensemble(task, name, by_fold), inputs, prepare)


def make(step: str, args: argparse.Namespace, made: Ensemble, inputs: list[Path], prepare: Callable[[], Write]) -> None:
    """Write the folds of an ensemble where they are not up to date. `prepare` reads and checks what the members say."""
    work = Workspace.of(args)
    experiments.new_name("--experiment", made.name.removesuffix("/truth-boxes"))
    folder = work.task(made.task) / made.name
    if experiments.folds(folder, "best.pt"):
        raise UserError(f"{work.show(folder)} holds a trained model; give the ensemble another --experiment")
    for one in runs.due(step, args, {folder: inputs}):
        write = prepare()
        with one:
            for old in experiments.folds(folder, "model.json"):  # of earlier members, which had more folds
                if old.name not in made.by_fold:
                    shutil.rmtree(old)
            for fold, paths in made.by_fold.items():
                one.wrote(*write(folder / fold, paths))
        print(f"{work.show(folder)}: made of {', '.join(dict.fromkeys(args.members))}; {len(made.by_fold)} fold(s)")
    cli.say_next(work, experiments.evaluate_step(made.task), "--experiment", made.name)
