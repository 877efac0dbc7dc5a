"""Set what networks that learned labels of studies say of single slices beside the labels of slices, which taught them nothing.

A slice is known by its own logit (--score slice), or by the attention that its study pays it (--score attention: 0.5 is the mean
of the study's slices). Each becomes an experiment of its own, EXPERIMENT-SCORE, which 02_evaluate.py evaluates as any other:
AUROC and average precision rest on test slices alone; thresholds, as always, on the labels of validation slices.

Reads   outputs/NAME/task1/EXPERIMENT/foldK/slice_scores.csv, model.json    task1_classification/11_train_volume.py
        data/work/NAME/labels.csv, dataset.json                             scripts/03_make_labels.py
Writes  outputs/NAME/task1/EXPERIMENT-SCORE/foldK/predictions.csv, model.json
Next    python task1_classification/02_evaluate.py

    python task1_classification/12_score_slices.py --experiment tf_efficientnet_lite0-attention-hemorrhage-parts2
"""

from __future__ import annotations

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, runs
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace

SCORES = {"slice": "its own logit", "attention": "how much it counts in its study"}


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--experiment", required=True, metavar="NAME", help="of 11_train_volume.py: gru, attention or mean")
    parser.add_argument("--score", nargs="+", choices=tuple(SCORES), default=list(SCORES), help="what a slice is known by")
    parser.add_argument("--label", metavar="NAME", help="of slices; default: the only one, or any of several")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished run of the same name that had other flags")
    args = cli.parse(parser, argv, __file__)
    work = Workspace.of(args)
    folders = experiments.with_model(work, 1, args.experiment)
    without = [folder for folder in folders if not (folder / "slice_scores.csv").exists()]
    if without:
        remedy = "name an experiment of 11_train_volume.py whose --network is gru, attention or mean"
        raise UserError(f"{work.show(without[0])} says nothing of slices; {remedy}")
    tables = [work.need(work.work / name, "scripts/03_make_labels.py") for name in ("labels.csv", "dataset.json")]
    inputs = {
        work.task(1) / f"{args.experiment}-{score}" / folder.name: [*tables, folder / "slice_scores.csv", folder / "model.json"]
        for score in args.score for folder in folders
    }  # fmt: skip
    for run in runs.due(__file__, args, inputs, "--overwrite to replace it"):
        from hemoct.volumes import slice_scores  # what computes is not imported at the top: --help shall be quick

        with run:
            of = work.task(1) / args.experiment / run.folder.name
            run.wrote(*slice_scores.write(work, of, run, run.folder.parent.name.rpartition("-")[2], args.label))
    names = [f"{args.experiment}-{score}" for score in args.score]
    cli.say_next(work, experiments.evaluate_step(1), "--experiment", *names)


if __name__ == "__main__":
    cli.exit_cleanly(main)
