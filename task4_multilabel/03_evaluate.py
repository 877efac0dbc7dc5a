"""Evaluate multi-label networks on the test images of their folds: each label, all labels, and what the weakest one lacks.

Each label has its own threshold in each fold, chosen on its validation images (--threshold-from val), or a quantile of the
probabilities of its training images (train:q90); which one is recorded. Test is only read. With --on the mean of the fold models
and the mean of their thresholds, frozen, meet another data set, in the labels that it knows.

Reads   outputs/NAME/task4/EXPERIMENT/foldK/{predictions.csv,train_predictions.csv,history.csv,model.json}
                                                                        task4_multilabel/02_train.py
        outputs/NAME/task4/EXPERIMENT/on-OTHER/predictions.csv          task4_multilabel/05_predict.py --on OTHER
        data/work/NAME/{labels,splits}.csv, dataset.json                scripts/03_make_labels.py, 05_make_splits.py
Writes  outputs/NAME/task4/EXPERIMENT/foldK/metrics.json
        outputs/NAME/task4/EXPERIMENT/    predictions.csv (out-of-fold, with called_LABEL), metrics.json, per_label.csv,
                                          by_epoch.csv, cooccurrence.csv, confusions.csv, diagnosis.{json,md},
                                          classification_report.txt, confusion_matrices.png, roc.png, pr.png, by_epoch.png,
                                          cooccurrence.png, loss_curves.png
        (--on OTHER writes to EXPERIMENT/on-OTHER/, without what tells of training; --limit-patients N to first-N-patients/)
Next    python task4_multilabel/04_cascade.py, task4_multilabel/07_compare.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hemoct.base import cli, experiments, files, tables
from hemoct.base import figure as base_figure
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.classification import figures as classification_figures
from hemoct.evaluation import bootstrap, external, predictions
from hemoct.evaluation import protocol as evaluation_protocol
from hemoct.multilabel import cascade_stages, diagnosis, working_set
from hemoct.multilabel import evaluate as multilabel_evaluate
from hemoct.multilabel import figures as multilabel_figures
from hemoct.multilabel import tables as multilabel_tables
from hemoct.multilabel.evaluate import MultiLabel
from hemoct.training import histories as training_histories

TABLES = ("labels.csv", "dataset.json", "splits.csv")


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    predictions.add_flags(parser)
    parser.add_argument("--threshold-from", type=multilabel_evaluate.threshold_source, default=multilabel_evaluate.VAL,
                        metavar="val|train:qNN",
                        help="maximum F1 on validation, or a quantile of the training probabilities")  # fmt: skip
    args = cli.parse(parser, argv, __file__)
    work = Workspace.of(args)
    for experiment in args.experiment or (external.predicted(work, 4, args.on) if args.on else experiments.trained(work, 4)):
        evaluate(work, experiment, args)


def evaluate(work: Workspace, experiment: str, args: argparse.Namespace) -> None:
    """Evaluate one experiment and write all its files."""
    folders = predictions.fold_folders(work, 4, experiment)
    seen, folder = external.place(work, 4, experiment, args)
    made_from = [
        fold / name for fold in folders for name in ("predictions.csv", "train_predictions.csv", "history.csv", "model.json")
    ]
    inputs = [path for path in made_from if path.exists()] + [work.work / name for name in TABLES]
    if args.on:
        cascade_stages.stop_if_cascade(work.task(4) / experiment)
        models = experiments.with_model(work, 4, experiment)
        inputs += [external.predictions_csv(work, 4, experiment, args.on, models), *(seen.work / name for name in TABLES[:2])]
    run = Run(__file__, args, folder, inputs)
    if run.up_to_date():
        return
    with run:
        frame, protocol = multilabel_evaluate.read(work, experiment, None if args.on else args.limit_patients)
        training = None if args.threshold_from == multilabel_evaluate.VAL else multilabel_evaluate.read_training(work, folders)
        found = multilabel_evaluate.evaluate(frame, args.threshold_from, training)
        if args.on:
            frame = multilabel_evaluate.read_external(work, experiment, seen, found.labels, args.limit_patients, models)
            protocol = "external"
            found = multilabel_evaluate.evaluate_external(frame, found)
        about = evaluation_protocol.describe(work, 4, experiment, seen, protocol, folders)
        histories = {} if args.on else training_histories.read_histories(folders)
        if not args.on or args.limit_patients:  # else they stand there already, as they were read
            run.wrote(tables.write_predictions(folder, multilabel_tables.predictions_table(found)))
        content = write_tables(run, folder, found, about, args.seed)
        if not args.on:
            diagnose(run, work, folder, found, content, histories, folders)
        for fold in folders if folder == folders[0].parent else []:
            write_fold(run, fold, found, about, args.seed)
        draw(run, folder, found, content, histories)
    table = tables.read_csv(folder / "per_label.csv", ["label"])
    print(multilabel_tables.summary(content, table, evaluation_protocol.headline(content), work.show(folder)))
    if not args.on:
        diagnosed = files.read_json(folder / "diagnosis.json")
        print(f"{diagnosis.headline(diagnosed)}\nwhat to try next: {work.show(folder / 'diagnosis.md')}")


def write_tables(run: Run, folder: Path, found: MultiLabel, about: dict, seed: int) -> dict:
    """Write the tables of an evaluation; returns the content of metrics.json."""
    content = multilabel_evaluate.report(found, about, bootstrap.RESAMPLES, seed)
    run.wrote(
        tables.write_csv(folder / "per_label.csv", multilabel_tables.per_label(found, content)),
        tables.write_csv(folder / "cooccurrence.csv", multilabel_tables.together(found)),
        tables.write_csv(folder / "confusions.csv", multilabel_tables.mistaken(found)),
        files.write_json(folder / "metrics.json", content),
        files.write_text(
            folder / "classification_report.txt", multilabel_tables.text_report(found, evaluation_protocol.headline(content))
        ),
    )
    return content


def diagnose(
    run: Run, work: Workspace, folder: Path, found: MultiLabel, content: dict, histories: dict, folders: list[Path]
) -> None:
    """Write what the course of the training and the training images tell beside the test images."""
    seen = [fold for fold in folders if (fold / "train_predictions.csv").exists()]
    training = multilabel_evaluate.read_training(work, seen) if seen else None
    diagnosed = diagnosis.diagnose(found, content, histories, training, flags_of(folders))
    run.wrote(
        files.write_json(folder / "diagnosis.json", diagnosed),
        files.write_text(folder / "diagnosis.md", diagnosis.as_markdown(diagnosed)),
    )
    if histories:
        run.wrote(tables.write_csv(folder / "by_epoch.csv", multilabel_tables.by_epoch(histories, found.labels)))


def flags_of(folders: list[Path]) -> dict | None:
    """The flags that the folds were trained with; None where nothing tells them."""
    records = [path for path in (folder / "02_train.run.json" for folder in folders) if path.exists()]
    return files.read_json(records[0])["arguments"] if records else None


def write_fold(run: Run, fold: Path, found: MultiLabel, about: dict, seed: int) -> None:
    """metrics.json of one fold alone, where it has test images."""
    of_fold = found.of_fold(int(fold.name.removeprefix("fold")))
    if len(of_fold.table):
        run.wrote(files.write_json(fold / "metrics.json", multilabel_evaluate.report(of_fold, about, bootstrap.RESAMPLES, seed)))


def draw(run: Run, folder: Path, found: MultiLabel, content: dict, histories: dict) -> None:
    """Draw and save every figure that is not empty."""
    heading = evaluation_protocol.headline(content)[0]
    whole = found.known.all(axis=1)
    counts = [working_set.cooccurrence(values[whole]) for values in (found.truth, found.called)]
    figures = {
        "confusion_matrices": multilabel_figures.confusion_matrices(found, heading),
        "roc": multilabel_figures.roc(found, content, heading),
        "pr": multilabel_figures.precision_recall(found, content, heading),
        "by_epoch": multilabel_figures.by_epoch(histories, found.labels, heading),
        "loss_curves": classification_figures.losses(histories, heading),
        "cooccurrence": multilabel_figures.cooccurrence(*counts, found.labels, heading),
    }
    run.wrote(*(base_figure.save(figure, folder / f"{name}.png") for name, figure in figures.items() if figure is not None))


if __name__ == "__main__":
    cli.exit_cleanly(main)
