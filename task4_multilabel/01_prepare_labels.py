"""Choose the images and labels that task 4 works on, and show which labels go together and where a fold lacks one.

Without flags these are all labels of the data set and every image of which at least one is known. --balance N draws about N
images of each label and N without any, rarest label first, patients in turn; the same seed draws the same images. It only
chooses rows: a patient stays in the fold that splits.csv says. Test parts are drawn like the rest, so what depends on how
frequent a label is (precision, F1, AP) holds for the drawn mixture, not for the data as they came.
A label without a positive image, in a fold or at all, is named and stays: what cannot be computed for it will be null.

Reads   data/work/NAME/{labels.csv,dataset.json}            scripts/03_make_labels.py
        data/work/NAME/splits.csv                           scripts/05_make_splits.py
Writes  data/work/NAME/task4/working_set.csv                image_id, patient, one column per label: 0, 1, empty = unknown
        data/work/NAME/task4/drawn.csv                      --balance: per label images there, wanted, drawn, positive in the end
        data/work/NAME/task4/label_counts.csv               per label, fold and part: positive, negative, unknown, patients
        data/work/NAME/task4/cooccurrence.{csv,png}         images that show two labels, and their share
Next    python task4_multilabel/02_train.py
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from hemoct.multilabel.working_set import WorkingSet


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--labels", type=cli.names, metavar="A,B", help="label columns of labels.csv; default: all")
    parser.add_argument("--balance", type=cli.positive_int, metavar="N", help="images to draw per label; default: all images")
    args = cli.parse(parser, argv, __file__)
    # what computes is not imported at the top: --help shall be quick
    from hemoct.base import tables
    from hemoct.multilabel import working_set

    work = Workspace.of(args)
    folder = working_set.folder(work)
    dataset = tables.read_dataset(work)

    run = Run(__file__, args, folder, [work.work / name for name in ("labels.csv", "dataset.json", "splits.csv")])
    if run.up_to_date():
        return
    split_table = working_set.load_splits(work)
    chosen, drawn = working_set.choose(work, args.labels), None
    if len(chosen.labels) == 1 or dataset.exclusive:
        why = "one label" if len(chosen.labels) == 1 else "classes that exclude each other"
        print(f"{dataset.name} has {why} here: task 1 is made for that")
    if args.balance:
        chosen, drawn = working_set.balance(chosen, args.balance, args.seed)
    counts = working_set.count_parts(chosen, split_table)
    with run:
        run.wrote(*write(work, chosen, drawn, counts))
    report(chosen, drawn, counts)
    cli.say_next(work, experiments.train_step(4))


def write(work: Workspace, chosen: WorkingSet, drawn: pd.DataFrame | None, counts: pd.DataFrame) -> list[Path]:
    """Write the tables and the figure; take away drawn.csv of an earlier run that drew."""
    from hemoct.base import figure, tables
    from hemoct.multilabel import figures, working_set

    folder, together = working_set.folder(work), working_set.cooccurrence_table(chosen)
    heading = f"{work.dataset}: {len(chosen.table):,} images of {chosen.table['patient'].nunique():,} patients"
    if drawn is None:
        (folder / "drawn.csv").unlink(missing_ok=True)
        made = []
    else:
        heading += f", {drawn['wanted'].iloc[0]} drawn per label"
        made = [tables.write_csv(folder / "drawn.csv", drawn)]
    shown = figures.overview(together, working_set.combinations(chosen), counts, heading)
    return [
        *made,
        tables.write_csv(folder / "working_set.csv", chosen.table),
        tables.write_csv(folder / "label_counts.csv", counts),
        tables.write_csv(folder / "cooccurrence.csv", together),
        figure.save(shown, folder / "cooccurrence.png"),
    ]


def report(chosen: WorkingSet, drawn: pd.DataFrame | None, counts: pd.DataFrame) -> None:
    """Print what is in the working set, what was drawn, and which label is missing where."""
    from hemoct.multilabel import working_set

    print(f"{len(chosen.table)} images of {chosen.table['patient'].nunique()} patients")
    whole = counts[counts["fold"] == "all"].drop(columns=["fold", "part"])
    print((whole if drawn is None else drawn).to_string(index=False))
    for line in working_set.gaps(counts):
        print(f"  {line}")


if __name__ == "__main__":
    cli.exit_cleanly(main)
