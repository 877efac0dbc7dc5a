"""Experiments side by side: the best first, what cannot be compared last, and what each was trained and tested on."""

import pandas as pd

from helpers import evaluated
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.report import results

WHOLE = (0, 1, 2, 3, 4)


def write(work: Workspace, task: int, name: str, key: str, value: float, **more) -> None:
    metrics = {key: evaluated.metric(value) if value is not None else {"value": None, "ci95": None, "reason": "why"}}
    folds = more.pop("folds", WHOLE)
    files.write_json(work.task(task) / name / "metrics.json", evaluated.metrics_json(work, name, metrics, folds, **more))


def names(work: Workspace, task: int) -> list[str]:
    return [experiment.name for experiment in results.evaluated(work.task(task))]


def test_the_best_is_first_and_what_cannot_be_compared_last(work: Workspace) -> None:
    write(work, 1, "worse", "auroc", 0.8)
    write(work, 1, "better", "auroc", 0.9)
    write(work, 1, "undefined", "auroc", None)
    write(work, 1, "one-fold", "auroc", 0.99, folds=(0,))
    write(work, 1, "slices", "auroc", 0.98, protocol="slice")
    write(work, 1, "few", "auroc", 0.97, limit_patients=10)
    write(work, 1, "given", "auroc", 0.85, protocol="given", folds=(0,), folds_expected=1, complete=True)
    assert names(work, 1) == ["better", "given", "worse", "undefined", "one-fold", "few", "slices"]
    write(work, 3, "u", "dice_patient", 0.4)
    write(work, 3, "u/truth-boxes", "dice_patient", 0.6, upper_bound=True)
    assert names(work, 3) == ["u", "u/truth-boxes"]


def test_a_row_says_what_it_was_tested_on(work: Workspace) -> None:
    write(work, 1, "whole", "auroc", 0.9)
    write(work, 1, "one-fold", "auroc", 0.8, folds=(2,), training_unfinished=["fold2"])
    write(work, 1, "slices", "auroc", 0.7, protocol="slice")
    write(work, 1, "given", "auroc", 0.95, protocol="given", folds=(0,), folds_expected=1, complete=True)
    table = results.table(results.evaluated(work.task(1)), results.GROUPS[1][0])
    assert table.columns[:4] == ["experiment", "trained on", "tested on", "AUROC"] and len(table.columns) <= 10
    assert {row[0]: row[2] for row in table.rows} == {
        "given": "40 images of 10 patients; one model, given split",
        "whole": "40 images of 10 patients; all 5 folds, patient protocol",
        "one-fold": "40 images of 10 patients; fold 2 of 5, patient protocol, training not finished",
        "slices": "40 images of 10 patients; all 5 folds, slice protocol",
    }
    write(work, 3, "u/truth-boxes", "dice_patient", 0.6, upper_bound=True)
    assert "upper bound: true boxes" in results.table(results.evaluated(work.task(3)), results.GROUPS[3][0]).rows[0][2]


def record(work: Workspace, task: int, name: str, fold: int, **arguments) -> None:
    files.write_json(work.task(task) / name / f"fold{fold}" / "02_train.run.json", {"arguments": arguments})
    files.write_json(work.task(task) / name / f"fold{fold}" / "model.json", {})


def test_a_row_says_what_it_was_trained_on_also_when_it_is_made_of_others(work: Workspace) -> None:
    write(work, 3, "a", "dice_patient", 0.4)
    record(work, 3, "a", 0, weights="imagenet")
    write(work, 3, "b", "dice_patient", 0.3, limit_patients=10)
    record(work, 3, "b", 0, weights="/somewhere/own.pt")
    write(work, 3, "both", "dice_patient", 0.5)
    files.write_json(work.task(3) / "both" / "fold0" / "model.json", {"members": ["a", "b"]})
    write(work, 3, "a/truth-boxes", "dice_patient", 0.6, upper_bound=True)
    table = results.table(results.evaluated(work.task(3)), results.GROUPS[3][0])
    assert {row[0]: row[1] for row in table.rows} == {
        "a": "toy, from ImageNet weights",
        "b": "10 patients of toy, from own.pt",
        "both": "toy, from ImageNet weights, from own.pt",
        "a/truth-boxes": "toy, from ImageNet weights",
    }


def test_the_stages_of_a_cascade_are_what_it_was_trained_on(work: Workspace) -> None:
    write(work, 4, "two", "f1_macro", 0.5, labels=["SAH"])
    record(work, 1, "any", 0, weights="imagenet")
    record(work, 4, "types", 0, weights="none")
    stages = [{"task": 1, "experiment": "any"}, {"task": 4, "experiment": "types"}]
    files.write_json(work.task(4) / "two" / "fold0" / "model.json", {"stages": stages})
    assert results.evaluated(work.task(4))[0].trained_on == "toy, from ImageNet weights, from scratch"


def test_validation_and_time_are_those_of_the_evaluated_folds(work: Workspace) -> None:
    write(work, 3, "u", "dice_patient", 0.45, folds=(0, 1))
    write(work, 3, "u/truth-boxes", "dice_patient", 0.6, upper_bound=True)
    for fold, best in ((0, 0.3), (1, 0.5), (2, 0.9)):  # the third fold is not evaluated yet
        history = pd.DataFrame({"epoch": [1, 2], "val_dice": [0.1, best], "seconds": [30.0, 40.0 + fold]})
        tables.write_csv(work.task(3) / f"u/fold{fold}/history.csv", history)
    table = results.table(results.evaluated(work.task(3)), results.GROUPS[3][1])
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}
    assert rows["u"]["Validation Dice"] == "0.400" and rows["u"]["Seconds an epoch"] == "35"
    assert rows["u/truth-boxes"]["Validation Dice"] == ""


def test_every_label_has_a_column(work: Workspace) -> None:
    write(work, 4, "a", "f1_SAH", 0.5, labels=["SAH"])
    write(work, 4, "b", "f1_IVH", 0.4, labels=["SAH", "IVH"])
    table = results.table(results.evaluated(work.task(4)), results.GROUPS[4][1])
    assert table.columns == ["experiment", "F1 SAH", "F1 IVH"]
    assert table.rows == [["a", "0.500 (0.450-0.550)", "n/a"], ["b", "n/a", "0.400 (0.350-0.450)"]]


def test_baselines_stand_beside_the_experiments_that_have_them(work: Workspace) -> None:
    def block(low: float) -> dict:
        return {"what": "words", "n": 40, "metrics": {"auroc": evaluated.metric(0.8)},
                "difference": {"auroc": {"value": low + 0.05, "ci95": [low, low + 0.1]}}}  # fmt: skip

    unknown = {"what": "words", "metrics": None, "reason": "slices have no numbers"}
    write(work, 1, "good", "auroc", 0.9, baselines={"position": block(0.01), "prevalence": unknown})
    write(work, 1, "weak", "auroc", 0.7, baselines={"position": block(-0.02)})
    write(work, 1, "older", "auroc", 0.6)
    table = results.beside_baselines(results.evaluated(work.task(1)))
    assert table.columns[:4] == ["experiment", "baseline", "AUROC", "AUROC, experiment less it"]
    assert [[*row[:4], row[-1]] for row in table.rows] == [
        ["good", "position", "0.800 (0.750-0.850)", "+0.060 (+0.010 to +0.110)", "beaten"],
        ["good", "prevalence", "n/a", "n/a", ""],
        ["weak", "position", "0.800 (0.750-0.850)", "+0.030 (-0.020 to +0.080)", "not beaten"],
    ]


def test_a_row_names_the_weights_that_networks_started_from(work: Workspace) -> None:
    write(work, 3, "a", "dice_patient", 0.4)
    record(work, 3, "a", 0, weights="imagenet")
    origin = {"name": "net", "source": "hub timm/net", "licence": None, "sha256": None}
    files.write_json(work.task(3) / "a" / "fold0" / "model.json", {"initial_weights": origin})
    write(work, 3, "both", "dice_patient", 0.3)
    files.write_json(work.task(3) / "both" / "fold0" / "model.json", {"members": ["a"]})
    table = results.table(results.evaluated(work.task(3)), results.GROUPS[3][0])
    assert [row[1] for row in table.rows] == ["toy, from ImageNet weights; net (hub timm/net)"] * 2


def test_no_experiment_is_an_empty_table(work: Workspace) -> None:
    assert results.beside_baselines([]).rows == []
    assert results.table(results.evaluated(work.task(1)), results.GROUPS[1][0]).rows == []
