"""Decide in two stages: a binary model says whether there is any bleeding; only where it does, a multi-label model says which.

Stage 1 is an experiment of task 1 (--binary), or the output `any` of the multi-label model itself. Below its threshold, which is
chosen on the validation images of each fold, every type gets probability 0. The result is an experiment like any other: the
thresholds of its types are chosen after stage 1. A comparison with one stage on the same images goes along.

--pool makes one prediction of each study: the mean over the images of a view group (column `group` of labels.csv), the maximum
over the groups; a study is a patient. Stage 1 decides before that, on images. --view lets another experiment answer for the
images of a group; a type that it does not know gets probability 0 there, which needs --pool. --threshold-from train:q90 calls a
type of a study from the quantile 0.90 of what stage 2 says of the training studies.

The label `any` keeps the probability of stage 1, and 03_evaluate.py chooses its threshold by max F1 like that of any label. With
--rule median or qNN that differs from the threshold of stage 1: an image may have a type called and `any` not, or the reverse.

Reads   outputs/NAME/task4/TYPES/foldK/{predictions.csv,model.json}     task4_multilabel/02_train.py, also those of --view
        outputs/NAME/task1/BINARY/foldK/{predictions.csv,model.json}    task1_classification/02_evaluate.py (with --binary)
        data/work/NAME/{labels,splits}.csv, dataset.json                scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  outputs/NAME/task4/EXPERIMENT/foldK/    model.json (names the stages and the threshold),
                                                predictions.csv (val, test; not with --pool)
        outputs/NAME/task4/EXPERIMENT/          stage_one.csv, comparison.csv, comparison.md, comparison.png
        (with --pool)                           pooled_predictions.csv (val, test), predictions.csv (out-of-fold), metrics.json
Next    python task4_multilabel/03_evaluate.py --experiment EXPERIMENT  (without --pool)

    python task4_multilabel/04_cascade.py --types resnet18-two-heads --rule q50
    python task4_multilabel/04_cascade.py --types shared --binary resnet18 --rule median --pool --threshold-from train:q90
"""

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, options, runs
from hemoct.base.workspace import Workspace
from hemoct.multilabel.options import VAL, Stages

TABLES = ("labels.csv", "dataset.json", "splits.csv")


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    from hemoct.multilabel import cascade, compare, predictions  # what computes is not imported at the top: --help shall be quick

    work = Workspace.of(args)
    stages = options.read(args, Stages)
    experiment = work.task(4) / cli.experiment_name(parser, args, f"{args.types}-cascade")
    cascade.stop_if_taken(work, experiment)
    inputs = [folder / name for folder in cascade.folders(work, stages) for name in read_of(stages)]
    for run in runs.due(__file__, args, {experiment: [*inputs, *(work.work / name for name in TABLES)]}):
        group = predictions.groups(work) if args.pool else None
        decided = cascade.decide(work, stages)
        with run:
            run.wrote(*cascade.write_folds(work, experiment, decided))
            run.wrote(*compare.two_stages(work, experiment, decided, group, args.seed))
        print((experiment / "comparison.md").read_text(encoding="utf-8"))
        print(f"{work.show(experiment)}: {len(decided.thresholds)} fold(s)")
    if args.pool:  # studies are evaluated already
        cli.say_next(work, "scripts/90_make_report.py")
    else:
        cli.say_next(work, experiments.evaluate_step(4), "--experiment", experiment.name)


def read_of(stages: Stages) -> tuple[str, ...]:
    """The files of a stage's fold that a cascade is made from."""
    learned = ("train_predictions.csv",) if stages.threshold_from != VAL else ()
    return "predictions.csv", "model.json", *learned


def make_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    cli.add_experiment_flags(parser)
    options.add(parser, Stages, "stages")
    return parser


if __name__ == "__main__":
    cli.exit_cleanly(main)
