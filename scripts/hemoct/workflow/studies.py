"""What is known of whole studies, and networks that learn it; what they then say of slices: only with --all."""

from dataclasses import replace

from hemoct.workflow import classification
from hemoct.workflow.steps import BOXES, STATE, TABLES, TRAINING, WORK, Record, Step, fold

LEARNED = f"{STATE} slice_scores.csv"


def labels(name: str, flags: str, row: str) -> Step:
    """Make the table `studies/NAME`."""
    reads = (f"{WORK} labels.csv images.csv dataset.json patients.csv", BOXES)
    return Step(
        "task1_classification/10_study_labels.py",
        flags,
        records=(Record(f"{WORK}/studies/{name}", reads, "study_labels.csv"),),
        rows=(row,),
        needs="boxes" if name == "side" else "",
        suffix=f"_{row}",
    )


def train(name: str, row: str) -> Step:
    """Learn the table `studies/NAME`."""
    return Step(
        "task1_classification/11_train_volume.py",
        f"--label {name} --experiment {{{row}}} {{learn_{row}}}",
        records=(Record(fold(1), (TABLES, f"{WORK}/studies/{name} study_labels.csv"), "predictions.csv", LEARNED),),
        rows=(row,),
        needs="boxes" if name == "side" else "",
        suffix=f"_{row}",
        **TRAINING,
    )


def evaluate(row: str) -> Step:
    return replace(classification.EVALUATE, flags=f"--experiment {{{row}}}", rows=(row,), suffix=f"_{row}")


STEPS = (
    labels("side", "--label side", "side"),
    train("side", "side"),
    evaluate("side"),
    labels("hemorrhage-parts4", "--label hemorrhage --parts 4", "quarters"),
    train("hemorrhage-parts4", "quarters"),
    evaluate("quarters"),
)
