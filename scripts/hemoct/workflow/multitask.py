"""One network for several tasks, and its parts evaluated as networks of tasks 1 and 3: only with --all."""

from dataclasses import replace

from hemoct.workflow import classification, segmentation
from hemoct.workflow.steps import OUTPUTS, STATE, TABLES, TRAINING, Record, Step, fold

PLACE = f"{OUTPUTS}/multitask/{{experiment}}/fold{{fold}}"
STEPS = (
    Step(
        "task3_segmentation/10_train_multitask.py",
        "--experiment {multitask} {train_multitask}",
        records=(
            Record(PLACE, (TABLES,), "sizes.csv sizes.json", STATE),
            Record(fold(1), (TABLES,), "predictions.csv", STATE),
            Record(fold(3), (TABLES,), "predictions.csv", f"{STATE} probability"),
        ),
        rows=("multitask",),
        needs="masks",
        **TRAINING,
    ),
    replace(classification.EVALUATE, flags="--experiment {multitask}", rows=("multitask",), needs="masks", suffix="_multitask"),
    replace(segmentation.EVALUATE, flags="--experiment {multitask}", rows=("multitask",), suffix="_multitask"),
)
