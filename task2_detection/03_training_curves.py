"""Draw how detectors were trained: losses and mAP on validation by epoch, the best epoch and the end of each fold marked.

Reads   outputs/NAME/task2/EXPERIMENT/foldK/{history.csv,02_train.run.json}     task2_detection/02_train.py
Writes  outputs/NAME/task2/EXPERIMENT/training_performance_summary.png          the folds in one figure
        outputs/NAME/task2/EXPERIMENT/training_summary.csv                      fold, epochs, epochs_asked, ended, best_epoch,
                                                                                map50, map50_95, seconds_per_epoch
Next    python task2_detection/04_evaluate.py

Both families of detectors have the same history.csv; a loss that a family does not have is left out. An unfinished training is
drawn up to its last epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace

if TYPE_CHECKING:
    from hemoct.detection.tables import Training


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--experiment", nargs="+", metavar="NAME", help="default: all of the data set")
    args = cli.parse(parser, argv, __file__)
    # what computes is not imported at the top: --help shall be quick
    from hemoct.base import figure as base_figure, tables
    from hemoct.detection import figures, tables as detection_tables

    work = Workspace.of(args)
    for experiment in args.experiment or experiments.with_history(work, 2):
        folder = work.task(2) / experiment
        trainings = detection_tables.trainings(work, experiment)
        run = Run(
            __file__,
            args,
            folder,
            [folder / fold.fold / name for fold in trainings for name in ("history.csv", detection_tables.RECORD)],
        )
        if run.up_to_date():
            continue
        with run:
            summary = detection_tables.training_summary(trainings)
            figure = figures.training(trainings, f"{experiment} on {work.dataset}: training of {folds_in_words(trainings)}")
            run.wrote(
                tables.write_csv(folder / "training_summary.csv", summary),
                base_figure.save(figure, folder / "training_performance_summary.png"),
            )
        print(f"{work.show(folder)}:\n{summary.to_string(index=False, na_rep='-', float_format='{:.4g}'.format)}")
    cli.say_next(work, experiments.evaluate_step(2))


def folds_in_words(trainings: list[Training]) -> str:
    """`fold 2`, `folds 0, 1`."""
    numbers = [training.fold.removeprefix("fold") for training in trainings]
    return f"fold{'s' * (len(numbers) > 1)} {', '.join(numbers)}"


if __name__ == "__main__":
    cli.exit_cleanly(main)
