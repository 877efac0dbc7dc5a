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

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.classification import ensemble_step
from hemoct.classification.ensemble_step import Ensemble

TABLES = ("labels.csv", "dataset.json", "splits.csv")


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument(
        "members", nargs="+", metavar="MEMBER", help="experiments of task 3, two or more; the first one's patients validate"
    )
    parser.add_argument("--experiment", required=True, help="name of the folder; NAME/truth-boxes for upper bounds")
    parser.add_argument("--overwrite", action="store_true", help="replace a finished run of the same name that had other members")
    args = cli.parse(parser, argv, __file__)
    from hemoct.classification import ensemble  # what computes is not imported at the top: --help shall be quick
    from hemoct.segmentation import data as segmentation_data, predictions

    work, members = Workspace.of(args), list(dict.fromkeys(args.members))
    for name in members:
        if own := predictions.members(work.task(3) / name):
            raise UserError(f"{name} is an ensemble itself; name its members: {' '.join(own)}")
    by_fold = ensemble.folds(work, 3, members, predictions.SHARED)
    inputs = [folder / name for folders in by_fold.values() for folder in folders for name in predictions.NEEDED]
    inputs += [work.work / name for name in TABLES]

    def prepare() -> ensemble_step.Write:
        data = segmentation_data.load(work)
        for member in members:
            predictions.read(work, member, data)  # stops when they are stale, incomplete or of other patients
        return lambda folder, folders: predictions.write_mean(work, folder, folders, members, data)

    ensemble_step.make(__file__, args, Ensemble(3, args.experiment, by_fold), inputs, prepare)


if __name__ == "__main__":
    cli.exit_cleanly(main)
