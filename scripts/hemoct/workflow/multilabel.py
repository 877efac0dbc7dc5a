"""The steps of task 4."""

from typing import Any

from hemoct.workflow.steps import BOXES, EACH, MODEL, STATE, TABLES, TRAINING, WORK, Record, Step, experiment, fold

MINE: dict[str, Any] = {"typed": True, "needs": "types"}
NAMES = f"{WORK} dataset.json labels.csv splits.csv"
STEPS = (
    Step(
        "task4_multilabel/01_prepare_labels.py",
        records=(Record(f"{WORK}/task4", (NAMES,), "working_set.csv label_counts.csv cooccurrence.csv", "cooccurrence.png"),),
        **MINE,
    ),
    Step(
        "task4_multilabel/02_train.py",
        "--experiment {typer} {type}",
        records=(Record(fold(4), (TABLES, f"{WORK}/task4 working_set.csv"), "predictions.csv train_predictions.csv", STATE),),
        rows=("task4",),
        **MINE,
        **TRAINING,
    ),
    Step(
        "task4_multilabel/03_evaluate.py",
        "--experiment {typer}",
        records=(
            Record(
                experiment(4),
                (TABLES, f"{fold(4)} {MODEL} train_predictions.csv"),
                "metrics.json classification_report.txt predictions.csv per_label.csv confusions.csv diagnosis.json diagnosis.md",
                "*.csv *.png fold{fold}/metrics.json",
            ),
        ),
        rows=("task4",),
        **MINE,
        **EACH,
    ),
    Step(
        "task4_multilabel/04_cascade.py",
        "--types {typer} --binary {classifier}",
        records=(
            Record(
                experiment(4, "{typer}-cascade-{classifier}"),
                (NAMES, *(f"{folder} model.json predictions.csv" for folder in (fold(1, "{classifier}"), fold(4, "{typer}")))),
                "comparison.csv comparison.md comparison.png",
                "stage_one.csv fold{fold}/predictions.csv fold{fold}/model.json",
            ),
        ),
        figures="comparison.png",
        **MINE,
    ),
    Step(
        "task4_multilabel/10_explain.py",
        "--experiment {typer} {mask_value}",
        records=(
            Record(
                f"{experiment(4)}/explain/hirescam",
                (TABLES, BOXES, f"{fold(4)} best.pt model.json predictions.csv", f"{experiment(4)} metrics.json"),
                "metrics.json per_case.csv",
                "*.csv *.png",
            ),
        ),
        rows=("task4",),
        memory_mb=8000,
        **MINE,
        **EACH,
    ),
)
