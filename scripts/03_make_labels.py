"""Write the tables that all later steps read, from any layout of data.

phe-sich   PHE-SICH-CT-IDS: a slice is positive when its annotation has a box (bleeding and edema); masks are edema alone;
           --labels side adds side_left and side_right from MedInfo.xlsx, unknown where it does not name one side
voc        a folder of VOC XML (LabelImg): one label per object name
folders    one folder per class, train/val/test above them kept as given_split; more than ten folders that differ by a number
           alone (image1, image2 ...) are taken for patients, and stop unless you say --layout folders
masks      images/ and masks/ of the same names, or a.png and a_mask.png: one label, lesion = the mask has a pixel
csv        a table with one row per image and any label columns; empty or -1 = unknown; separated by comma, semicolon or tab
rsna       RSNA 2019: stage_2_train.csv (ID_xxx_TYPE,Label) and its images: five types and any
yolo       images/ and labels/*.txt with data.yaml: one label per class

The patient is found by a rule (--patient-regex) or in a column (--patient-column); otherwise each image is its own patient, and a
rule that groups the file names is proposed (--patient-regex auto takes it).

Reads   data/raw/NAME                           scripts/01_get_data.py
        data/work/NAME/merged_annotation/       scripts/02_merge_annotations.py (phe-sich, voc)
Writes  data/work/NAME/{labels,boxes}.csv       image_id, patient, slice, image, mask, annotation, labels ...; boxes in pixels
        data/work/NAME/images.csv               the SHA-256 of each image and mask: other pixels are other data
        data/work/NAME/dataset.json             layout, labels, classes, counts
        data/work/NAME/patients.csv             age, sex, side ... of each patient, if any of it is known
        data/work/NAME/label_problems.csv       rows without a file, files without a row, repeated rows ..., if there are any
Next    python scripts/04_check_data.py
"""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, options as base_options
from hemoct.base.errors import UserError, few
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.ingest.options import AUTO, LAYOUTS, Options
from hemoct.prepare.options import KNOWN, UNKNOWN

if TYPE_CHECKING:
    import pandas as pd

    from hemoct.ingest.reader_tables import Tables


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    # what computes is not imported at the top: --help shall be quick
    from hemoct.base import tables
    from hemoct.data import contents, prepared
    from hemoct.ingest import layouts, readers
    from hemoct.sources import known

    work = Workspace.of(args)
    raw = work.need(work.raw, "scripts/01_get_data.py")
    table = [raw / args.csv] if args.csv else []  # it may lie outside data/raw/NAME
    run = Run(__file__, args, work.work, [raw, work.work / "merged_annotation", *table])
    if run.up_to_date():
        return
    if args.skip_if_done:  # called by run_all.sh: a rule for patients that a user gave before must not get lost
        run.stop_if_other("repeat them: bash scripts/run_all.sh ... -- FLAGS; to change them run this step by itself")
    with run:
        listing = layouts.list_files(raw)
        layout = layouts.choose(raw, listing, args.layout)
        made = readers.READERS[layout].read(work, listing, options_for(layout, args))
        run.wrote(tables.write_labels(work, made.labels, made.dataset))
        run.wrote(contents.write(work, made.labels), tables.write_boxes(work, made.boxes))
        patients = tables.write_patients(work, made.patients)
        if patients:
            run.wrote(patients)
        problems = write_problems(work, made.problems)
        if problems:
            run.wrote(problems)
        made.dataset.source = known.name_of(raw, listing)
        made.dataset.orientation, line = prepared.of_dataset(work, made.labels, args.orientation)
        print(line)
        run.wrote(tables.write_dataset(work, made.dataset))
    report(made)
    print(f"Next: {work.command('scripts/04_check_data.py')}")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    group = base_options.add(parser, Options, "what the data are")
    group.add_argument("--layout", choices=("auto", *LAYOUTS), default="auto", help="auto: recognised by the names of the files")
    group.add_argument(
        "--orientation", choices=("auto", *KNOWN, UNKNOWN), default="auto",
        help="where the nose points in the images of heads; auto: found from their grey values",
    )  # fmt: skip
    return cli.parse(parser, argv, __file__)


def options_for(layout: str, args: argparse.Namespace) -> Options:
    """The flags as Options; a flag that this layout cannot use is a mistake and stops."""
    from hemoct.ingest import readers

    options = base_options.read(args, Options)
    takes = readers.READERS[layout].takes
    for each in fields(Options):
        if getattr(options, each.name) != each.default and each.name not in takes:
            flag = each.name.replace("_", "-")
            raise UserError(f"--{flag} has no meaning for layout {layout}; leave it out, or choose another --layout")
    return options


def write_problems(work: Workspace, problems: pd.DataFrame | None) -> Path | None:
    """Write label_problems.csv and print its rows by kind; without any problem, delete the table of an earlier run."""
    from hemoct.base import tables

    path = work.work / "label_problems.csv"
    if problems is None or problems.empty:
        path.unlink(missing_ok=True)
        return None
    counts = problems["problem"].value_counts(sort=False)
    print(f"{work.show(path)}: {', '.join(f'{count} {problem}' for problem, count in counts.items())}")
    return tables.write_csv(path, problems)


def report(made: Tables) -> None:
    """Print what the tables hold, and what a user must know before trusting them."""
    from hemoct.ingest import reader_tables

    print(few([f"{count} {name}" for name, count in made.dataset.counts.items()], most=12))
    print(f"patients from {made.dataset.patient_source}")
    if not made.dataset.knows_patients:
        print("  two images of one person may fall into two folds; --patient-regex or --patient-column prevents that")
        proposal = reader_tables.propose([*map(Path, made.labels["image"])], made.dataset.labels)
        if proposal:
            print(f"  a rule that fits the file names: --patient-regex {proposal}; --patient-regex {AUTO} takes it")
    if made.dataset.counts["unknown"]:
        print(f"  {made.dataset.counts['unknown']} images have an unknown label: it counts neither as 1 nor as 0")


if __name__ == "__main__":
    cli.exit_cleanly(main)
