"""Train a head on the features of slices, one a fold: each slice by itself, or all slices of a scan in their order.

The features are made once and kept in data/work/NAME/cache/: those of an experiment's models, the one of the same fold
(--features EXPERIMENT), or of a backbone with the weights that it came with (--backbone). A head then takes seconds.

Reads   data/work/NAME/{labels,splits}.csv, dataset.json    scripts/03_make_labels.py, scripts/05_make_splits.py
        outputs/NAME/task1/EXPERIMENT/foldK/{best.pt,model.json}    task1_classification/01_train.py (--features EXPERIMENT)
Writes  outputs/NAME/task1/EXPERIMENT-HEAD/foldK/           best.pt, model.json, last.pt, history.csv, predictions.csv,
                                                            train_predictions.csv
Next    python task1_classification/02_evaluate.py

    python task1_classification/05_train_head.py --head linear
    python task1_classification/05_train_head.py --features tf_efficientnet_lite0-5ep --head gru
"""

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, options as base_options, runs
from hemoct.base.workspace import Workspace
from hemoct.classification import networks
from hemoct.data import slices
from hemoct.training import device
from hemoct.training.batches import Store
from hemoct.volumes import features, options, train

TABLES = ("labels.csv", "dataset.json", "splits.csv")


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    chosen = base_options.read(args, options.Options)
    work = Workspace.of(args)
    experiment = work.task(1) / cli.experiment_name(parser, args, chosen.base)
    tables = [work.work / name for name in TABLES]
    made_from = {folder: features.inputs(work, 1, chosen, folder) for folder in chosen.selection.folders(experiment)}
    due = runs.due(__file__, args, {folder: [*tables, *paths] for folder, paths in made_from.items()})
    if not due:
        return
    where = device.pick(args.device, args.threads)
    for run in due:
        print(f"{work.show(run.folder)}: {args.head}, {args.protocol} protocol")
        maker = features.maker(made_from[run.folder], chosen, 1, networks.load, where)
        data = slices.load(work, maker.about["image_size"], maker.about["label"], args.limit_patients, known_only=False)
        with run:
            run.note(device=str(where))
            found = features.kept(work, data.table, maker, Store(data.pixels, where), args.precision)
            run.wrote(*train.train_fold(run, chosen, data, found, maker, task=1))
    cli.say_next(work, experiments.evaluate_step(1))


def make_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    cli.add_experiment_flags(parser)
    base_options.add_all(parser, options.Options)
    return parser


if __name__ == "__main__":
    cli.exit_cleanly(main)
