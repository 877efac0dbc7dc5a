"""Compare multi-label experiments: values with intervals side by side, and paired differences to the first one.

A difference is paired by image and resamples the same patients for both; images that only one experiment tested are left out and
counted. Each experiment keeps its own thresholds. Differences need the same labels: --labels compares experiments by those that
all of them have, such as one with a head for any bleeding and one without. Pooled cascades test studies, not images: they are
left out unless they are named.

Reads   outputs/NAME/task4/EXPERIMENT/{metrics.json,predictions.csv}    task4_multilabel/03_evaluate.py, 04_cascade.py --pool
Writes  outputs/NAME/task4/comparison/                                  comparison.csv, comparison.md, comparison.png
Next    python scripts/90_make_report.py

    python task4_multilabel/07_compare.py resnet18 resnet18-two-heads --labels IVH,IPH,SAH
"""

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli
from hemoct.evaluation import comparison_step


def main(argv: list[str] | None = None) -> None:
    parser = comparison_step.parser(__doc__)
    parser.add_argument("--labels", type=cli.names, metavar="A,B", help="compare by these labels alone; default: all")
    args = cli.parse(parser, argv, __file__)
    from hemoct.multilabel import compare  # what computes is not imported at the top: --help shall be quick

    comparison_step.run(__file__, args, compare.kind(args.labels, args.seed))


if __name__ == "__main__":
    cli.exit_cleanly(main)
