"""The steps of task 2."""

from hemoct.workflow.steps import (
    BOXES,
    EACH,
    MODEL,
    SCORES,
    STATE,
    TABLES,
    TRAINING,
    WORK,
    Record,
    Step,
    experiment,
    fold,
)

DETECTOR, ITS_FOLD = experiment(2, "{detector}"), fold(2, "{detector}")
GATE = f"{DETECTOR}/gate"
STEPS = (
    Step(
        "task2_detection/01_make_yolo_dataset.py",
        records=(Record(f"{WORK}/yolo_dataset/patient/fold{{fold}}", (TABLES, BOXES), "data.yaml"),),
        needs="boxes",
    ),
    Step(
        "task2_detection/02_train.py",
        "--experiment {detector} {detect}",
        records=(Record(fold(2), (TABLES, BOXES), "predictions.csv train_predictions.csv", "best.pt model.json history.csv"),),
        rows=("task2",),
        needs="boxes",
        **TRAINING,
    ),
    Step(
        "task2_detection/03_training_curves.py",
        records=(
            Record(
                experiment(2),
                (f"{fold(2)} 02_train.run.json history.csv",),
                "training_summary.csv training_performance_summary.png",
            ),
        ),
        rows=("task2",),
        figures="training_performance_summary.png",
        needs="boxes",
        **EACH,
    ),
    Step(
        "task2_detection/04_evaluate.py",
        records=(
            Record(
                experiment(2),
                (TABLES, BOXES, f"{fold(2)} {MODEL}"),
                f"{SCORES} predictions.csv predictions_with_none.csv classification_summary.csv per_lesion.csv froc.csv",
                "*.csv *.png fold{fold}/metrics.json",
            ),
        ),
        rows=("task2",),
        figures="confusion_matrix.png",
        needs="boxes",
        **EACH,
    ),
    Step(
        "task2_detection/06_gate_classifier.py",
        "--experiment {detector} --classifier {classifier} {gate}",
        records=(
            Record(
                f"{GATE}/fold{{fold}}",
                (TABLES, f"{ITS_FOLD} model.json predictions.csv train_predictions.csv"),
                "predictions.csv",
                STATE,
            ),
            Record(
                GATE,
                (
                    BOXES,
                    f"{ITS_FOLD} predictions.csv",
                    f"{GATE}/fold{{fold}} predictions.csv",
                    f"{experiment(1, '{classifier}')} metrics.json predictions.csv",
                ),
                "metrics.json predictions.csv gate_comparison.csv gate_comparison.md gate_comparison.png",
                "gate_regions.png",
            ),
        ),
        rows=("task2",),
        figures="gate_comparison.png",
        needs="boxes",
        **TRAINING | {"by": ()},  # its folds are compared in the same command
    ),
)
