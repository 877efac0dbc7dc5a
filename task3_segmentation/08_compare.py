"""Compare segmentation experiments: values with intervals side by side, and paired differences to the first one.

A difference is paired by slice and resamples the same patients for both; slices that only one experiment tested are left out and
counted. Each experiment keeps its own thresholds.

Reads   outputs/NAME/task3/EXPERIMENT/{metrics.json,per_slice.csv}      task3_segmentation/03_evaluate.py
Writes  outputs/NAME/task3/comparison/                                  comparison.csv, comparison.md, comparison.png
Next    python scripts/90_make_report.py

    python task3_segmentation/08_compare.py unet-resnet34 unet-resnet34-strong unet-resnet34/truth-boxes
"""

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli
from hemoct.evaluation import comparison_step


def main(argv: list[str] | None = None) -> None:
    args = cli.parse(comparison_step.parser(__doc__), argv, __file__)
    from hemoct.segmentation import tables  # what computes is not imported at the top: --help shall be quick

    kind = comparison_step.Kind(
        task=3, read=tables.read_evaluated, needed=tables.NEEDED,
        compared=tables.COMPARED, shares=tables.SHARES, cases="test slices",
    )  # fmt: skip
    comparison_step.run(__file__, args, kind)


if __name__ == "__main__":
    cli.exit_cleanly(main)
