"""The steps of task 3."""

from hemoct.workflow.steps import (
    BOXES,
    EACH,
    IF_DEFINED,
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

BOXES_OF = fold(2, "{detector}")
EVALUATE = Step(
    "task3_segmentation/03_evaluate.py",
    records=(
        Record(
            experiment(3),
            (TABLES, f"{fold(3)} {MODEL} probability"),
            "metrics.json segmentation_metrics.csv per_slice.csv volume_agreement.csv slice_pixels.csv",
            "per_patient.csv *.png fold{fold}/metrics.json",
        ),
    ),
    rows=("task3",),
    needs="masks",
    memory_mb=8000,
    **EACH,
)
STEPS = (
    Step(
        "task3_segmentation/01_make_seg_dataset.py",
        "{mask_value}",
        records=(Record(f"{WORK}/seg_dataset/patient/fold{{fold}}", (TABLES,), beside="images masks"),),
        needs="masks",
    ),
    Step(
        "task3_segmentation/02_train.py",
        "--experiment {segmenter} --boxes {detector} {segment} {mask_value}",
        last="{region}",
        records=(
            Record(
                fold(3),
                (TABLES, BOXES, f"{BOXES_OF} model.json predictions.csv train_predictions.csv"),
                "predictions.csv",
                f"{STATE} probability",
            ),
        ),
        rows=("task3",),
        needs="masks",
        **TRAINING,
    ),
    EVALUATE,
    Step(
        "task3_segmentation/04_to_classification.py",
        records=(
            Record(
                f"{experiment(3)}/classification",
                (f"{WORK} dataset.json images.csv labels.csv", f"{experiment(3)} metrics.json slice_pixels.csv"),
                f"{SCORES} classification_summary.csv slice_comparison.csv",
                IF_DEFINED,
            ),
        ),
        rows=("task3",),
        figures="confusion_matrix.png",
        needs="masks",
        **EACH,
    ),
    Step(
        "task3_segmentation/06_estimate_hematoma.py",
        "--experiment {segmenter} --boxes {detector}",
        records=(
            Record(
                f"{experiment(3)}/hematoma",
                (
                    TABLES,
                    f"{BOXES_OF} predictions.csv",
                    f"{experiment(2, '{detector}')} metrics.json",
                    f"{experiment(3)} per_patient.csv slice_pixels.csv",
                ),
                "hematoma_lesions.csv hematoma_patients.csv",
                "*.png",
            ),
        ),
        rows=("task3",),
        needs="boxes masks",
        **EACH,
    ),
)
