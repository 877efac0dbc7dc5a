"""The steps of task 1."""

from dataclasses import replace

from hemoct.workflow.steps import (
    BOXES,
    EACH,
    IF_DEFINED,
    MODEL,
    OUTPUTS,
    SCORES,
    STATE,
    TABLES,
    TRAINING,
    Record,
    Step,
    experiment,
    fold,
    of_types,
)

TRAIN = Step(
    "task1_classification/01_train.py",
    "--experiment {classifier} {classify}",
    records=(Record(fold(1), (TABLES,), "predictions.csv", STATE),),
    rows=("task1",),
    **TRAINING,
)
EVALUATE = Step(
    "task1_classification/02_evaluate.py",
    records=(
        Record(
            experiment(1),
            (TABLES, BOXES, f"{fold(1)} {MODEL}"),
            f"{SCORES} predictions.csv loss_curves.png",
            f"{IF_DEFINED} calibration.png worst_mistakes.png fold{{fold}}/metrics.json",
        ),
    ),
    rows=("task1", "task1-also"),
    figures="confusion_matrix.png loss_curves.png",
    **EACH,
)
STEPS = (
    TRAIN,
    replace(TRAIN, flags="--experiment {also} {classify_also}", rows=("task1-also",), suffix="_also"),
    EVALUATE,
    Step(
        "task1_classification/03_compare.py",
        records=(
            Record(
                f"{OUTPUTS}/task1/comparison",
                (f"{experiment(1)} metrics.json predictions.csv",),
                "comparison.csv comparison.md comparison.png",
            ),
        ),
        rows=("task1", "task1-also"),
        figures="comparison.png",
    ),
    Step(
        "task1_classification/08_explain.py",
        "--experiment {classifier} {mask_value}",
        records=(
            Record(
                f"{experiment(1)}/explain/hirescam",
                (TABLES, BOXES, f"{fold(1)} best.pt model.json predictions.csv", f"{experiment(1)} metrics.json"),
                "metrics.json per_case.csv",
                "*.csv *.png",
            ),
        ),
        rows=("task1",),
        memory_mb=8000,
        **EACH,
    ),
)
OF_TYPES = (
    of_types(TRAIN, flags="--experiment {classifier} {classify} {fold_of_types}"),
    of_types(EVALUATE, rows=("task1",)),
)
