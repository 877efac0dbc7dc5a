"""Average the probability maps of several segmentation experiments, fold by fold.

No member of a fold has learned from its test patients. The result is an experiment like any other: 03_evaluate.py chooses its
threshold on validation. Its members may differ in network, size of windows, loss, seed ...; not in protocol, folds, boxes,
context or the value of a mask.

Reads   outputs/NAME/task3/MEMBER/foldK/{model.json,predictions.csv,probability/}       task3_segmentation/02_train.py
        data/work/NAME/{labels,splits}.csv, dataset.json    scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  outputs/NAME/task3/EXPERIMENT/foldK/    model.json (names the members), predictions.csv (val, test),
                                                probability/IMAGE_ID.png (8 bit)
Next    python task3_segmentation/03_evaluate.py --experiment EXPERIMENT

    python task3_segmentation/07_ensemble.py unet-resnet34 unet-resnet34-seed1 --experiment both
"""

import shutil

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, runs
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.segmentation import data as segmentation_data, predictions

TABLES = ("labels.csv", "dataset.json", "splits.csv")


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "members", nargs="+", metavar="MEMBER", help="experiments of task 3, two or more; the first one's patients validate"
    )
    parser.add_argument("--experiment", required=True, help="name of the folder; NAME/truth-boxes for upper bounds")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished run of the same name that had other members")
    args = cli.parse(parser, argv, __file__)
    members = list(dict.fromkeys(args.members))  # named twice it would count twice
    work = Workspace.of(args)
    experiment = work.task(3) / args.experiment
    trained = experiments.folds(experiment, "best.pt")
    if trained:
        raise UserError(f"{work.show(trained[0])} holds a trained model; give the ensemble another --experiment")
    folds = predictions.member_folds(work, members)
    inputs = [folder / name for folders in folds.values() for folder in folders for name in predictions.NEEDED]
    inputs += [work.work / name for name in TABLES]
    for run in runs.due(__file__, args, {experiment: inputs}):
        data = segmentation_data.load(work)
        for member in members:
            predictions.read(work, member, data)  # stops when they are stale, incomplete or of other patients
        with run:
            for old in experiments.folds(experiment, "model.json"):
                if old.name not in folds:  # of earlier members, which had more folds
                    shutil.rmtree(old)
            for name, folders in folds.items():
                run.wrote(*predictions.write_mean(work, experiment / name, folders, members, data))
        print(f"{work.show(experiment)}: the mean of {', '.join(members)}; {len(folds)} fold(s)")
    cli.say_next(work, experiments.evaluate_step(3), "--experiment", args.experiment)


if __name__ == "__main__":
    cli.exit_cleanly(main)
