"""Evaluation of classifiers: predictions to decisions, decisions to the tables and metrics.json of an experiment."""

from pathlib import Path
from typing import Any

import pandas as pd

from hemoct.base import files, tables
from hemoct.classification import predictions, tables as classification_tables
from hemoct.data import slices
from hemoct.evaluation import baselines, bootstrap, decisions, protocol, scores
from hemoct.evaluation.comparison import Evaluated
from hemoct.evaluation.decisions import Evaluation
from hemoct.evaluation.subjects import Subject
from hemoct.evaluation.thresholds import EXPECTED_F1, MAX_F1


def decide(subject: Subject, decides: str = MAX_F1) -> tuple[Evaluation, str]:
    """The test images of an experiment with the thresholds of their folds, and the protocol: a key of protocol.PROTOCOLS.

    On other data: with the frozen mean of the thresholds. `decides`: one of thresholds.DECIDING.
    """
    frame, of = predictions.read(subject.work, subject.experiment, subject.own_limit)
    evaluation = decisions.evaluate(frame, decides=decides)
    if not subject.on_other_data:
        return evaluation, of
    return decisions.evaluate_external(predictions.read_external(subject), evaluation.rules), "external"


def write(subject: Subject, evaluation: Evaluation, about: dict[str, Any], numbers: pd.Series, seed: int) -> list[Path]:
    """Write the tables of an evaluation and metrics.json, that of each fold too. `numbers`: slice number by image_id."""
    folder, per_patient = subject.folder, classification_tables.patients_table(evaluation, numbers)
    if is_of_studies(subject, evaluation):
        about = about | {"of_studies": True, "labels_mean": None}
    content = scores.report(evaluation, about, per_patient, bootstrap.RESAMPLES, seed)
    content["baselines"] = _baselines(subject, evaluation, about["protocol"], seed)
    written = [
        *([tables.write_csv(folder / "per_patient.csv", per_patient)] if about["patients_known"] else []),
        files.write_json(folder / "metrics.json", content),
        files.write_text(
            folder / "classification_report.txt", classification_tables.text_report(evaluation, protocol.headline(content))
        ),
    ]
    if not subject.on_other_data or subject.limit_patients:  # else they stand there already, as they were read
        written.append(tables.write_predictions(folder, classification_tables.predictions_table(evaluation)))
    if evaluation.question.positive is not None:
        points = classification_tables.operating_points(evaluation, bootstrap.RESAMPLES, seed)
        written.append(tables.write_csv(folder / "operating_points.csv", points))
    for rule in evaluation.rules if subject.is_whole else []:
        of_fold = evaluation.of_fold(rule.fold)
        if len(of_fold.test.y):
            per_patient = classification_tables.patients_table(of_fold, numbers)
            content = scores.report(of_fold, about, per_patient, bootstrap.RESAMPLES, seed)
            written.append(files.write_json(folder / f"fold{rule.fold}" / "metrics.json", content))
    return written


def is_of_studies(subject: Subject, evaluation: Evaluation) -> bool:
    """Whether labels of whole studies were learned (11_train_volume.py), which are none of the data set's slices."""
    return not subject.on_other_data and not {*tables.read_dataset(subject.work).labels, slices.ANY}.issuperset(
        evaluation.question.labels
    )


def _baselines(subject: Subject, evaluation: Evaluation, of: str, seed: int) -> dict[str, Any]:
    """The `baselines` block of metrics.json; empty for other data, and where predictions follow no split that is known."""
    labels = evaluation.question.labels
    if subject.on_other_data or of == "unknown" or is_of_studies(subject, evaluation):
        return {}
    data = slices.load(subject.work, None, labels[0] if len(labels) == 1 else None, subject.own_limit, known_only=False)
    if data.classes != labels:
        return {}
    truth = pd.DataFrame(data.targets, columns=[f"y_{name}" for name in labels])
    decides = EXPECTED_F1 if evaluation.rules[0].decides == EXPECTED_F1 else MAX_F1

    def judged(frame: pd.DataFrame) -> Evaluated:
        return Evaluated("a baseline", {"protocol": ""}, decisions.evaluate(frame, evaluation.question, decides=decides))

    own, frame = Evaluated("the model", {"protocol": ""}, evaluation), baselines.framed(data, truth, subject.folders, of)
    return baselines.beside(own, judged, frame, data.table, seed, data.exclusive)
