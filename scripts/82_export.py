"""Put trained networks into a folder that works without PyTorch and without the code that trained them: a bundle.

Of each task the experiment that is best on validation; or those that you name, and no others: as folders, or by task
(--experiment 1=resnet18,3=unet). Every fold becomes an ONNX graph, with normalisation, windows and the decoding of boxes inside,
and is compared with PyTorch before it is kept. Each experiment has to be evaluated: the bundle holds its thresholds. Experiments
of several data sets may go into one bundle: name their folders, or give several --models.

Reads   outputs/NAME/taskN/EXPERIMENT/foldK/{best.pt,model.json}    the training steps of the four tasks
        outputs/NAME/taskN/EXPERIMENT/metrics.json                  their evaluating steps
        data/work/NAME/dataset.json                                 scripts/03_make_labels.py (counts and licence, if there)
Writes  outputs/NAME/bundle/ (or --out DIR)   *.onnx, one a network; bundle.json: preparation, orientation, window, sizes,
            thresholds, classes, calibration, results; MODEL_CARD.md; SHA256SUMS
Next    python scripts/80_predict_scan.py SCAN --models outputs/NAME/bundle

    python scripts/82_export.py outputs/phe-sich/task1/resnet18 outputs/demo-types/task4/resnet18 --out bundle
"""

import argparse
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, files
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import REPOSITORY, Workspace

if TYPE_CHECKING:
    from hemoct.scan.runners import Models


def main(argv: list[str] | None = None) -> None:
    args = cli.parse(make_parser(), argv, __file__)
    from hemoct.scan import bundle, export  # not at the top: --help shall be quick

    work = Workspace.of(args)
    models = chosen(work, args)
    out = args.out or export.default_out(models)
    run = Run(__file__, args, out, models.files)
    stop_if_taken(out, {bundle.BUNDLE, bundle.CARD, bundle.SUMS, run.path.name})
    if run.up_to_date():
        return
    new = not out.exists()
    for line in models.said:
        print(line)
    try:
        with run:
            with files.replacing_folder(out) as folder:
                names = export.export(models, folder)
            run.wrote(*(out / name for name in names))
    except BaseException:
        if new:
            shutil.rmtree(out, ignore_errors=True)
        raise
    size = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    told = ", ".join(f"task {task.model.task} {task.model.experiment} ({len(task.model.folds)})" for task in models.tasks)
    print(f"{work.show(out)}: {told}; {size:.0f} MB")
    print(f"Next: python scripts/80_predict_scan.py SCAN --models {work.show(out) if args.root == REPOSITORY else out}")


def make_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    parser.add_argument("folders", nargs="*", type=Path, metavar="EXPERIMENT", help="outputs/NAME/taskN/EXPERIMENT, one a task")
    parser.add_argument("--experiment", type=cli.by_task, action="append", default=[], metavar="TASK=NAME[,...]",
                        help="experiments by task, of --models or --dataset: 1=resnet18,3=unet")  # fmt: skip
    parser.add_argument("--models", type=Path, action="append", default=[], metavar="DIR",
                        help="outputs/NAME of a data set; several: of each task the first that knows it; default: that of "
                        "--dataset, else the only one with models")  # fmt: skip
    parser.add_argument("--fold", type=cli.whole_number, metavar="K", help="the networks of one fold; default: all")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the bundle goes; an older bundle there is replaced")
    return parser


def named_by(args: argparse.Namespace) -> dict[Path, dict[int, str]]:
    """The experiments that were named, by task, in each outputs/NAME; None stands for that of --models or --dataset."""
    named: dict[Path | None, dict[int, str]] = {}
    pairs = [(None, task, name) for given in args.experiment for task, name in given.items()]
    for folder in args.folders:
        resolved = folder.resolve()
        task = {f"task{task}": task for task in experiments.FOLDERS}.get(resolved.parent.name)
        if task is None or resolved.parents[2].name != "outputs":
            raise UserError(f"{folder} is no experiment; name outputs/NAME/taskN/EXPERIMENT")
        if not resolved.is_dir():
            raise UserError(f"{folder} is not there")
        pairs.append((resolved.parents[1], task, resolved.name))
    for place, task, name in pairs:
        if earlier := next((of[task] for of in named.values() if task in of), None):
            raise UserError(f"two experiments of task {task} are named, {earlier} and {name}; take one")
        named.setdefault(place, {})[task] = name
    return named


def chosen(work: Workspace, args: argparse.Namespace) -> "Models":
    """The models that go into the bundle: those that were named, else the best of each task; of one fold or of all."""
    from hemoct.scan import choose
    from hemoct.scan.runners import Models

    named = named_by(args)
    usual = args.models or ([] if named and None not in named else choose.default(work))
    if any((place / choose.BUNDLE).is_file() for place in usual):
        raise UserError("--models names a bundle, which is exported already; name outputs/NAME of a data set")
    wanted = [([place], of) for place, of in named.items() if place is not None]
    wanted += [(usual, named.get(None, {}))] if usual else []
    found = [choose.models(places, choose.Which(
        experiments=of, tasks=tuple(sorted(of)) or choose.TASKS, device="cpu", fold=args.fold,
    )) for places, of in wanted]  # fmt: skip
    tasks = {task.model.task: task for one in reversed(found) for task in one.tasks}
    joined = ([each for one in found for each in getattr(one, name)] for name in ("said", "learned", "files"))
    return Models([tasks[task] for task in sorted(tasks)], *joined)


def stop_if_taken(out: Path, names: set[str]) -> None:
    """Stop rather than replace a folder that is no bundle, or that holds more. `names`: files of a bundle, even a begun one."""
    there = {path.name for path in out.iterdir() if not path.name.startswith(".")} if out.is_dir() else set()
    if out.is_file() or (there and not there & names):
        raise UserError(f"--out {out} is there and is no bundle; name another folder")
    if others := [name for name in sorted(there - names) if not name.endswith(".onnx")]:
        raise UserError(f"--out {out} also holds {others[0]}, which is of no bundle; move it, or name another folder")


if __name__ == "__main__":
    cli.exit_cleanly(main)
