"""Pre-training without labels, and a classifier that starts from it: only with --all."""

from dataclasses import replace

from hemoct.workflow import classification
from hemoct.workflow.steps import OUTPUTS, STATE, TABLES, TRAINING, Record, Step, fold

ENCODER = f"{OUTPUTS}/pretrain/{{pretraining}}/fold{{fold}}"
STEPS = (
    Step(
        "scripts/07_pretrain.py",
        "--experiment {pretraining} {pretrain}",
        records=(Record(f"{OUTPUTS}/pretrain/{{experiment}}/fold{{fold}}", (TABLES,), "curves.png", f"{STATE} restored.png"),),
        rows=("pretrain",),
        **TRAINING,
    ),
    replace(
        classification.TRAIN,
        flags="--experiment {pretrained} --weights {pretraining} {classify_pretrained}",
        records=(Record(fold(1), (TABLES, f"{ENCODER} best.pt"), "predictions.csv", STATE),),
        rows=("task1-pretrained",),
        suffix="_pretrained",
    ),
    replace(
        classification.EVALUATE,
        flags="--experiment {pretrained}",
        rows=("task1-pretrained",),
        suffix="_pretrained",
    ),
)
