"""Evaluate multi-label networks on the test images of their folds: each label, all labels, and what the weakest one lacks.

Each label has its own threshold in each fold: that of the highest F1 on the validation images (--threshold-from val), or a
quantile of the probabilities of the training images (train:q90); which one is recorded. Test is only read. With --on the mean of
the fold models, with the mean of their thresholds, is evaluated on another data set, for the labels that it knows.

Reads   outputs/NAME/task4/EXPERIMENT/foldK/{predictions.csv,train_predictions.csv,history.csv,model.json}
                                                                        task4_multilabel/02_train.py
        outputs/NAME/task4/EXPERIMENT/on-OTHER/predictions.csv          task4_multilabel/05_predict.py --on OTHER
        data/work/NAME/{labels,splits}.csv, dataset.json                scripts/03_make_labels.py, 05_make_splits.py
Writes  outputs/NAME/task4/EXPERIMENT/foldK/metrics.json
        outputs/NAME/task4/EXPERIMENT/    predictions.csv (out-of-fold, with called_LABEL), metrics.json, per_label.csv,
                                          by_epoch.csv, cooccurrence.csv, confusions.csv, diagnosis.{json,md},
                                          classification_report.txt, confusion_matrices.png, roc.png, pr.png, by_epoch.png,
                                          cooccurrence.png, loss_curves.png
        (--on OTHER writes to EXPERIMENT/on-OTHER/, without what depends on training; --limit-patients N to first-N-patients/)
Next    python task4_multilabel/04_cascade.py, task4_multilabel/07_compare.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hemoct.base import cli, experiments, figure, files, tables
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.classification import figures as classification_figures
from hemoct.evaluation import bootstrap, external
from hemoct.evaluation import predictions as evaluation_predictions
from hemoct.evaluation import protocol as evaluation_protocol
from hemoct.multilabel import cascade, diagnosis, predictions, working_set
from hemoct.multilabel import evaluate as multilabel_evaluate
from hemoct.multilabel import figures as multilabel_figures
from hemoct.multilabel import tables as multilabel_tables
from hemoct.multilabel.evaluate import MultiLabel
from hemoct.training import histories as training_histories

TABLES = ("labels.csv", "dataset.json", "splits.csv")
OF_A_FOLD = ("predictions.csv", "train_predictions.csv", "history.csv", "model.json")


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    evaluation_predictions.add_flags(parser)
    parser.add_argument("--threshold-from", type=multilabel_evaluate.threshold_source, default=multilabel_evaluate.VAL,
                        metavar="val|train:qNN",
                        help="maximum F1 on validation, or a quantile of the training probabilities")  # fmt: skip
    args = cli.parse(parser, argv, __file__)
    work = Workspace.of(args)
    for experiment in args.experiment or (external.predicted(work, 4, args.on) if args.on else experiments.trained(work, 4)):
        evaluate(work, experiment, args)


def evaluate(work: Workspace, experiment: str, args: argparse.Namespace) -> None:
    """Evaluate one experiment and write all its files."""
    folders = evaluation_predictions.fold_folders(work, 4, experiment)
    data, folder = external.place(work, 4, experiment, args)
    made_from = [fold / name for fold in folders for name in OF_A_FOLD]
    inputs = [path for path in made_from if path.exists()] + [work.work / name for name in TABLES]
    if args.on:
        cascade.stop_if_cascade(work.task(4) / experiment)
        models = experiments.with_model(work, 4, experiment)
        inputs += [external.predictions_csv(work, 4, experiment, args.on, models), *(data.work / name for name in TABLES[:2])]
    run = Run(__file__, args, folder, inputs)
    if run.up_to_date():
        return
    with run:
        frame, protocol = predictions.read(work, experiment, None if args.on else args.limit_patients)
        training = None if args.threshold_from == multilabel_evaluate.VAL else predictions.read_training(work, folders)
        evaluation = multilabel_evaluate.evaluate(frame, args.threshold_from, training)
        if args.on:
            frame = predictions.read_external(work, experiment, data, evaluation.labels, args.limit_patients, models)
            evaluation, protocol = multilabel_evaluate.evaluate_external(frame, evaluation), "external"
        about = evaluation_protocol.describe(work, 4, experiment, data, protocol, folders)
        histories = {} if args.on else training_histories.read_histories(folders)
        if not args.on or args.limit_patients:  # else they are there already, as they were read
            run.wrote(tables.write_predictions(folder, multilabel_tables.predictions_table(evaluation)))
        content = multilabel_evaluate.report(evaluation, about, bootstrap.RESAMPLES, args.seed)
        run.wrote(*write_tables(folder, evaluation, content))
        if not args.on:
            run.wrote(*diagnose(work, folder, folders, evaluation, content))
        for fold in folders if folder == folders[0].parent else []:
            run.wrote(*write_fold(fold, evaluation, about, args.seed))
        run.wrote(*draw(folder, evaluation, content, histories))
    table = tables.read_csv(folder / "per_label.csv", ["label"])
    print(multilabel_tables.summary(content, table, evaluation_protocol.headline(content), work.show(folder)))
    if not args.on:
        diagnosed = files.read_json(folder / "diagnosis.json")
        print(f"{diagnosis.headline(diagnosed)}\nwhat to try next: {work.show(folder / 'diagnosis.md')}")


def write_tables(folder: Path, evaluation: MultiLabel, content: dict) -> list[Path]:
    """Write the tables of an evaluation. `content`: metrics.json."""
    report = multilabel_tables.text_report(evaluation, evaluation_protocol.headline(content))
    return [
        tables.write_csv(folder / "per_label.csv", multilabel_tables.per_label(evaluation, content)),
        tables.write_csv(folder / "cooccurrence.csv", multilabel_tables.together(evaluation)),
        tables.write_csv(folder / "confusions.csv", multilabel_tables.mistaken(evaluation)),
        files.write_json(folder / "metrics.json", content),
        files.write_text(folder / "classification_report.txt", report),
    ]


def diagnose(work: Workspace, folder: Path, folders: list[Path], evaluation: MultiLabel, content: dict) -> list[Path]:
    """Write what training says beside the test images. `folders`: those of the folds; `content`: metrics.json."""
    with_training = [fold for fold in folders if (fold / "train_predictions.csv").exists()]
    training = predictions.read_training(work, with_training) if with_training else None
    histories = training_histories.read_histories(folders)
    diagnosed = diagnosis.diagnose(evaluation, content, histories, training, flags_of(folders))
    written = [
        files.write_json(folder / "diagnosis.json", diagnosed),
        files.write_text(folder / "diagnosis.md", diagnosis.as_markdown(diagnosed)),
    ]
    if histories:
        written.append(tables.write_csv(folder / "by_epoch.csv", multilabel_tables.by_epoch(histories, evaluation.labels)))
    return written


def flags_of(folders: list[Path]) -> dict | None:
    """The flags that the folds were trained with; None where no run record tells them."""
    records = [path for path in (folder / "02_train.run.json" for folder in folders) if path.exists()]
    return files.read_json(records[0])["arguments"] if records else None


def write_fold(fold: Path, evaluation: MultiLabel, about: dict, seed: int) -> list[Path]:
    """Write metrics.json of one fold alone, where it has test images."""
    of_fold = evaluation.of_fold(experiments.fold_of(fold))
    if not len(of_fold.table):
        return []
    return [files.write_json(fold / "metrics.json", multilabel_evaluate.report(of_fold, about, bootstrap.RESAMPLES, seed))]


def draw(folder: Path, evaluation: MultiLabel, content: dict, histories: dict) -> list[Path]:
    """Draw and save every figure that is not empty."""
    heading = evaluation_protocol.headline(content)[0]
    whole = evaluation.known.all(axis=1)
    counts = [working_set.cooccurrence(values[whole]) for values in (evaluation.truth, evaluation.called)]
    figures = {
        "confusion_matrices": multilabel_figures.confusion_matrices(evaluation, heading),
        "roc": multilabel_figures.roc(evaluation, content, heading),
        "pr": multilabel_figures.precision_recall(evaluation, content, heading),
        "by_epoch": multilabel_figures.by_epoch(histories, evaluation.labels, heading),
        "loss_curves": classification_figures.losses(histories, heading),
        "cooccurrence": multilabel_figures.cooccurrence(*counts, evaluation.labels, heading),
    }
    return figure.save_all(figures, folder)


if __name__ == "__main__":
    cli.exit_cleanly(main)
