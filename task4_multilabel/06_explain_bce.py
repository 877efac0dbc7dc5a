"""Explain the loss of multi-label training with numbers that can be followed: logits, probabilities, binary cross entropy (BCE).

Each label has its own sigmoid, p = 1 / (1 + exp(-logit)), so that an image may have several labels or none. The loss of a cell
is -log p where the label is there and -log(1 - p) where it is not: small when the probability fits the truth, the larger the
more confident a wrong answer is. Training minimises the mean over all cells (PyTorch's BCEWithLogitsLoss). No data are needed.

Reads   nothing, or two CSV files of your own: one row per image (`image_id` or `image` names it), one column per label
Writes  outputs/NAME/task4/explain_bce/bce.csv          image_id, label, logit, truth, probability, bce, verdict
        outputs/NAME/task4/explain_bce/bce_sums.csv     of (image, label, all), name, cells, mean, sum
        outputs/NAME/task4/explain_bce/sigmoid.png      the cells on the sigmoid and on the curves of the loss, a panel a label
        outputs/NAME/task4/explain_bce/bce.png          BCE per label and image
Next    python task4_multilabel/02_train.py

    python task4_multilabel/06_explain_bce.py
    python task4_multilabel/06_explain_bce.py --logits "[[4.0,-3.0]]" --truths "[[0,0]]" --labels IVH,IPH
    python task4_multilabel/06_explain_bce.py --logits logits.csv --truths truths.csv
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

LOGITS, TRUTHS, LABELS = "[[2.0,-1.2,0.5],[-0.5,0.8,1.5]]", "[[1,0,1],[0,1,1]]", "IVH,IPH,SAH"
SHOWN_LABELS = 6  # on the screen and in figures; the tables hold all


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--logits", metavar="JSON|CSV", help=f"images x labels; default: {LOGITS}")
    parser.add_argument("--truths", metavar="JSON|CSV", help=f"0 or 1 for each logit; default: {TRUTHS}")
    parser.add_argument("--labels", type=cli.names, metavar="A,B", help=f"default: the columns of the CSV, else {LABELS}")
    args = cli.parse(parser, argv, __file__)
    if (args.logits is None) != (args.truths is None):
        raise UserError("--logits and --truths belong together; give both or none")
    # what computes is not imported at the top: --help shall be quick
    from hemoct.base import figure, tables
    from hemoct.multilabel import explain_bce

    shown_images = len(explain_bce.MARKERS)
    logits, truths = args.logits or LOGITS, args.truths or TRUTHS
    cells = explain_bce.read(logits, truths, args.labels, cli.names(LABELS))
    work = Workspace.of(args)
    folder = work.task(4) / "explain_bce"
    run = Run(__file__, args, folder, [Path(text).resolve() for text in (logits, truths) if not text.lstrip().startswith("[")])
    if run.up_to_date():
        return
    with run:
        table = explain_bce.explain(cells)
        sums = explain_bce.sums(table)
        total = sums.iloc[-1]
        shown = explain_bce.head(table, shown_images, SHOWN_LABELS)
        whole = f"mean BCE {total['mean']:.2f}, sum {total['sum']:.2f}, of {total['cells']} cells"
        part = "" if len(shown) == len(table) else f" (shown: at most {shown_images} images and {SHOWN_LABELS} labels)"
        run.wrote(
            tables.write_csv(folder / "bce.csv", table),
            tables.write_csv(folder / "bce_sums.csv", sums),
            figure.save(
                explain_bce.curves(shown, f"From logit to probability (above) and to the loss (below): {whole}{part}"),
                folder / "sigmoid.png",
            ),
            figure.save(explain_bce.bars(shown, total["mean"], f"BCE per label and image: {whole}{part}"), folder / "bce.png"),
        )
    print(as_text(shown))
    print(f"{whole}{part}\n{work.show(folder)}: bce.csv, bce_sums.csv, sigmoid.png, bce.png")
    cli.say_next(work, experiments.train_step(4))


def as_text(table: pd.DataFrame) -> str:
    """Probabilities, losses and verdicts as three small tables of images x labels."""
    from hemoct.multilabel import explain_bce

    parts = [
        ("probability = 1 / (1 + exp(-logit))", explain_bce.grid(table, "probability").to_string(float_format="{:.2f}".format)),
        (
            "BCE = -log(p) for truth 1, -log(1 - p) for truth 0",
            explain_bce.grid(table, "bce").to_string(float_format="{:.2f}".format),
        ),
        ("in words", explain_bce.grid(table, "verdict").to_string()),
    ]
    return "\n".join(f"{heading}\n{text}\n" for heading, text in parts)


if __name__ == "__main__":
    cli.exit_cleanly(main)
