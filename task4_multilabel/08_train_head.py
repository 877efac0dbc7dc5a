"""Train a head for several labels on the features of slices, one a fold: each slice by itself, or a scan's slices in their order.

The features are made once and kept in data/work/NAME/cache/: those of an experiment's models, the one of the same fold
(--features EXPERIMENT), or of a backbone with the weights that it came with (--backbone). A head then takes seconds.

Reads   data/work/NAME/task4/working_set.csv                task4_multilabel/01_prepare_labels.py
        data/work/NAME/{labels,splits}.csv, dataset.json    scripts/03_make_labels.py, scripts/05_make_splits.py
        outputs/NAME/task4/EXPERIMENT/foldK/{best.pt,model.json}    task4_multilabel/02_train.py (--features EXPERIMENT)
Writes  outputs/NAME/task4/EXPERIMENT-HEAD/foldK/           best.pt, model.json, last.pt, history.csv, predictions.csv,
                                                            train_predictions.csv
Next    python task4_multilabel/03_evaluate.py

    python task4_multilabel/08_train_head.py --head linear
    python task4_multilabel/08_train_head.py --features resnet18 --head gru
"""

from pathlib import Path

import environment  # noqa: F401 (first: without the environment it says how to activate it)
import torch

from hemoct.base import cli, experiments, options as base_options, runs
from hemoct.base.workspace import Workspace
from hemoct.multilabel import data as multilabel_data, networks, working_set
from hemoct.multilabel.options import Network, View
from hemoct.training import device
from hemoct.training.batches import Stacks, Store
from hemoct.volumes import features, options, train

TABLES = ("labels.csv", "dataset.json", "splits.csv")


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    chosen = base_options.read(args, options.Options)
    work = Workspace.of(args)
    experiment = work.task(4) / cli.experiment_name(parser, args, chosen.base)
    tables = [working_set.folder(work) / "working_set.csv", *(work.work / name for name in TABLES)]
    made_from = {folder: features.inputs(work, 4, chosen, folder) for folder in chosen.selection.folders(experiment)}
    due = runs.due(__file__, args, {folder: [*tables, *paths] for folder, paths in made_from.items()})
    if not due:
        return
    where = device.pick(args.device, args.threads)
    for run in due:
        print(f"{work.show(run.folder)}: {args.head}, {args.protocol} protocol")
        network, view = seen(made_from[run.folder], chosen)
        data = multilabel_data.load(work, network, view, args.limit_patients)
        maker = features.maker(made_from[run.folder], chosen, data.planes.shape[1], networks.load, where)
        with run:
            run.note(device=str(where))
            source = Stacks(Store(data.pixels, where), torch.as_tensor(data.planes))
            found = features.kept(work, data.table, maker, source, args.precision)
            run.wrote(*train.train_fold(run, chosen, data, found, maker, task=4))
    cli.say_next(work, experiments.evaluate_step(4))


def seen(made_from: list[Path], chosen: options.Options) -> tuple[Network, View]:
    """What the network that makes features sees of an image, and which labels are learned: those that it was trained on."""
    if chosen.features.features:
        return networks.seen_by(networks.MultiLabelSpec.read(made_from[0].parent))
    return Network(backbone=chosen.features.backbone, image_size=chosen.features.image_size), View()


def make_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    cli.add_experiment_flags(parser)
    base_options.add_all(parser, options.Options)
    return parser


if __name__ == "__main__":
    cli.exit_cleanly(main)
