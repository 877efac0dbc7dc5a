"""Compare experiments: values with intervals side by side, and paired differences to the first one.

A difference is paired by image and resamples the same patients for both; images that only one experiment tested are left
out and counted. Experiments under the patient and the slice protocol may be compared; the difference is how much the naive
split flatters.

Reads   outputs/NAME/task1/EXPERIMENT/{metrics.json,predictions.csv}    task1_classification/02_evaluate.py
Writes  outputs/NAME/task1/comparison/                                  comparison.csv, comparison.md, comparison.png
Next    python scripts/90_make_report.py

    python task1_classification/03_compare.py resnet18 resnet18-augment resnet18-slice
"""

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli
from hemoct.evaluation import comparison_step


def main(argv: list[str] | None = None) -> None:
    args = cli.parse(comparison_step.parser(__doc__), argv, __file__)
    from hemoct.evaluation import comparison  # what computes is not imported at the top: --help shall be quick

    kind = comparison_step.Kind(
        task=1, read=comparison.read, needed=("metrics.json", "predictions.csv"), compared=comparison.METRICS,
        shares=comparison_step.MEASURED,
    )  # fmt: skip
    comparison_step.run(__file__, args, kind)


if __name__ == "__main__":
    cli.exit_cleanly(main)
