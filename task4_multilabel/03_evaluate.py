"""Evaluate multi-label networks on the test images of their folds: each label, all labels, and what the weakest one lacks.

Each label has its own threshold in each fold: that of the highest F1 on the validation images (--threshold-from val), or a
quantile of the probabilities of the training images (train:q90); which one is recorded. Test is only read. Baselines that see no
pixel (the place of a slice in its scan, the prevalence) go along. With --on the mean of the fold models, with the mean of their
thresholds, is evaluated on another data set, for the labels that it knows.

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
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, files
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.evaluation import subjects
from hemoct.evaluation.subjects import Subject
from hemoct.multilabel import options

if TYPE_CHECKING:
    from hemoct.multilabel.evaluate import MultiLabel

TABLES = ("labels.csv", "images.csv", "dataset.json")


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    subjects.add_flags(parser)
    parser.add_argument("--threshold-from", type=options.threshold_source, default=options.VAL,
                        metavar="val|train:qNN",
                        help="maximum F1 on validation, or a quantile of the training probabilities")  # fmt: skip
    args = cli.parse(parser, argv, __file__)
    for subject in subjects.chosen(args, 4):
        evaluate(subject, args)
    cli.say_next(Workspace.of(args), "task4_multilabel/07_compare.py")


def evaluate(subject: Subject, args: argparse.Namespace) -> None:
    """Evaluate one experiment and write all its files."""
    # what computes is not imported at the top: --help shall be quick
    from hemoct.base import figure, tables
    from hemoct.evaluation import bootstrap, protocol
    from hemoct.multilabel import cascade, compare, diagnosis, evaluate as multilabel_evaluate, tables as multilabel_tables

    work, folder = subject.work, subject.folder
    if subject.on_other_data:
        cascade.stop_if_cascade(work.task(4) / subject.experiment)
    learned = [path for path in (fold / "train_predictions.csv" for fold in subject.folders) if path.exists()]
    run = Run(__file__, args, folder, subject.inputs(TABLES) + learned)
    if run.up_to_date():
        return
    with run:
        evaluation, followed = multilabel_evaluate.decide(subject, args.threshold_from)
        about = subject.about(followed)
        if not subject.on_other_data or args.limit_patients:  # else they are there already, as they were read
            run.wrote(tables.write_predictions(folder, multilabel_tables.predictions_table(evaluation)))
        content = multilabel_evaluate.report(evaluation, about, bootstrap.RESAMPLES, args.seed)
        content["baselines"] = compare.beside_baselines(subject, evaluation, followed, args.seed)
        run.wrote(*write_tables(folder, evaluation, content))
        if not subject.on_other_data:
            run.wrote(*diagnose(subject, evaluation, content))
        for fold in subject.folders if subject.is_whole else []:
            run.wrote(*write_fold(fold, evaluation, about, args.seed))
        run.wrote(*figure.save_all(drawn(subject, evaluation, content), folder))
    table = tables.read_csv(folder / "per_label.csv", ["label"])
    print(multilabel_tables.summary(content, table, protocol.headline(content), work.show(folder)))
    if not subject.on_other_data:
        diagnosed = files.read_json(folder / "diagnosis.json")
        print(f"{diagnosis.headline(diagnosed)}\nwhat to try next: {work.show(folder / 'diagnosis.md')}")


def write_tables(folder: Path, evaluation: MultiLabel, content: dict) -> list[Path]:
    """Write the tables of an evaluation. `content`: metrics.json."""
    from hemoct.base import tables
    from hemoct.evaluation import protocol
    from hemoct.multilabel import tables as multilabel_tables

    report = multilabel_tables.text_report(evaluation, protocol.headline(content))
    return [
        tables.write_csv(folder / "per_label.csv", multilabel_tables.per_label(evaluation, content)),
        tables.write_csv(folder / "cooccurrence.csv", multilabel_tables.together(evaluation)),
        tables.write_csv(folder / "confusions.csv", multilabel_tables.mistaken(evaluation)),
        files.write_json(folder / "metrics.json", content),
        files.write_text(folder / "classification_report.txt", report),
    ]


def diagnose(subject: Subject, evaluation: MultiLabel, content: dict) -> list[Path]:
    """Write what training says beside the test images. `content`: metrics.json."""
    from hemoct.base import tables
    from hemoct.multilabel import diagnosis, predictions, tables as multilabel_tables

    with_training = [fold for fold in subject.folders if (fold / "train_predictions.csv").exists()]
    training = predictions.read_training(subject.work, with_training) if with_training else None
    histories = subject.histories()
    diagnosed = diagnosis.diagnose(evaluation, content, histories, training, flags_of(subject.folders))
    written = [
        files.write_json(subject.folder / "diagnosis.json", diagnosed),
        files.write_text(subject.folder / "diagnosis.md", diagnosis.as_markdown(diagnosed)),
    ]
    if histories:
        table = multilabel_tables.by_epoch(histories, evaluation.labels)
        written.append(tables.write_csv(subject.folder / "by_epoch.csv", table))
    return written


def flags_of(folders: list[Path]) -> dict | None:
    """The flags that the folds were trained with; None where no run record tells them."""
    records = [path for path in (folder / "02_train.run.json" for folder in folders) if path.exists()]
    return files.read_json(records[0])["arguments"] if records else None


def write_fold(fold: Path, evaluation: MultiLabel, about: dict, seed: int) -> list[Path]:
    """Write metrics.json of one fold alone, where it has test images."""
    from hemoct.evaluation import bootstrap
    from hemoct.multilabel import evaluate as multilabel_evaluate

    of_fold = evaluation.of_fold(experiments.fold_of(fold))
    if not len(of_fold.table):
        return []
    return [files.write_json(fold / "metrics.json", multilabel_evaluate.report(of_fold, about, bootstrap.RESAMPLES, seed))]


def drawn(subject: Subject, evaluation: MultiLabel, content: dict) -> dict:
    """The figures by name; None where there is nothing to show."""
    from hemoct.classification import figures as classification_figures
    from hemoct.evaluation import protocol
    from hemoct.multilabel import figures as multilabel_figures

    heading, histories = protocol.headline(content)[0], subject.histories()
    return {
        "confusion_matrices": multilabel_figures.confusion_matrices(evaluation, heading),
        **multilabel_figures.curves(evaluation, content, heading),
        "by_epoch": multilabel_figures.by_epoch(histories, evaluation.labels, heading),
        "loss_curves": classification_figures.losses(histories, heading),
        "cooccurrence": multilabel_figures.cooccurrence(*evaluation.together(), evaluation.labels, heading),
    }


if __name__ == "__main__":
    cli.exit_cleanly(main)
