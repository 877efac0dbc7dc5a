"""Compare detectors: values with intervals side by side, and paired differences to the first one.

A difference is paired by slice and resamples the same patients for both; slices that only one experiment tested are left out and
counted. Each experiment keeps its own thresholds.

Reads   outputs/NAME/task2/EXPERIMENT/metrics.json, foldK/predictions.csv       task2_detection/04_evaluate.py
        data/work/NAME/{labels,boxes,splits}.csv, dataset.json      scripts/03_make_labels.py, scripts/05_make_splits.py
Writes  outputs/NAME/task2/comparison/                                          comparison.csv, comparison.md, comparison.png
Next    python scripts/90_make_report.py

    python task2_detection/08_compare.py yolov8n yolov8n-linked
"""

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli
from hemoct.evaluation import comparison_step

METRICS = (
    *("map50", "map50_95", "froc_mean", "box_precision", "box_recall", "box_f1", "lesion_recall"),
    *("precision", "recall", "f1"),
)
"""of boxes and lesions, then of slices"""


def main(argv: list[str] | None = None) -> None:
    args = cli.parse(comparison_step.parser(__doc__), argv, __file__)
    from hemoct.detection import evaluate  # what computes is not imported at the top: --help shall be quick

    kind = comparison_step.Kind(2, evaluate.read, ("metrics.json", "predictions.csv"), METRICS, METRICS, cases="test slices")
    comparison_step.run(__file__, args, kind)


if __name__ == "__main__":
    cli.exit_cleanly(main)
