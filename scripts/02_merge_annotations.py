"""Collect all VOC XML of a data set in one folder, mended so that names and sizes agree with the images.

`013_05.xml` becomes `0013_05.xml`, a wrong or missing <filename> and <size> are set from the image. Boxes are never changed.
An XML that cannot be used is listed with "dropped:"; its image then counts as not annotated. Source files stay as they are.
A data set without VOC XML has nothing to merge.

Reads   data/raw/NAME                              scripts/01_get_data.py
Writes  data/work/NAME/merged_annotation/*.xml     named by image_id
        data/work/NAME/repairs.csv                 file, problem, repair
Next    python scripts/03_make_labels.py
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from hemoct.base import cli, files, tables
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.ingest import annotations as ingest_annotations
from hemoct.ingest import layouts
from hemoct.ingest.annotations import AnnotationError, Repair

DROPPED = "dropped: not in merged_annotation, the source file is unchanged"


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--layout", choices=("auto", *layouts.NAMES), default="auto", help="auto recognises it")
    parser.add_argument("--image-set", choices=("png", "jpg"), help="which PHE-SICH set; default: png where it is there")
    args = cli.parse(parser, argv, __file__)
    work = Workspace.of(args)
    raw = work.need(work.raw, "scripts/01_get_data.py")
    listing = layouts.list_files(raw)

    run = Run(__file__, args, work.work, [raw])
    if run.up_to_date():
        return
    with run:
        layout = layouts.choose(raw, listing, args.layout)
        if layout not in layouts.WITH_XML:
            print(f"nothing to merge: a data set of layout {layout} has no VOC XML")
            return
        folder = work.work / "merged_annotation"
        with files.replacing_folder(folder) as temporary:
            repairs = merge(raw, layouts.annotated(raw, listing, layout, args.image_set), temporary)
            made = len(list(temporary.iterdir()))
            if not made:
                first = f" (first: {repairs[0].file}: {repairs[0].problem})" if repairs else ""
                raise UserError(f"{raw} has no XML that can be used{first}; check its annotations and its images")
        table = pd.DataFrame(map(asdict, repairs), columns=["file", "problem", "repair"])
        run.wrote(folder, tables.write_csv(work.work / "repairs.csv", table))
    report(work, made, repairs)


def merge(raw: Path, annotated: layouts.Annotated, folder: Path) -> list[Repair]:
    """Write each usable XML into `folder` under its image's identifier; returns what was mended or dropped."""
    repairs: list[Repair] = []
    taken: dict[str, Path] = {}
    for path in tqdm(annotated.files, desc="merge", disable=None):
        try:
            annotation = ingest_annotations.read_voc(raw / path)
            image_id = annotated.image_of(path, annotation.filename)
            if image_id in taken:
                raise AnnotationError(f"a second annotation of {image_id}, {taken[image_id]} was taken")
            image = annotated.images[image_id]
            mended, done = ingest_annotations.mend(
                annotation, image.name, ingest_annotations.image_header(raw / image), str(path)
            )
        except AnnotationError as error:
            repairs.append(Repair(str(path), str(error), DROPPED))
            continue
        taken[image_id] = path
        if path.stem != image_id:
            done.insert(0, (f"other name than its image: {path.name}", f"renamed to {image_id}.xml"))
        ingest_annotations.write_voc(folder / f"{image_id}.xml", mended)
        repairs += [Repair(str(path), problem, repair) for problem, repair in done]
    return repairs


def report(work: Workspace, made: int, repairs: list[Repair]) -> None:
    """Print how many files were merged, mended and dropped, and why."""
    dropped = [repair for repair in repairs if repair.repair.startswith("dropped")]
    kinds = Counter(repair.problem.split(":")[0] for repair in repairs if not repair.repair.startswith("dropped"))
    print(f"{made} XML in {work.show(work.work / 'merged_annotation')}, {len(dropped)} dropped; repairs.csv lists each repair")
    for kind, count in kinds.items():
        print(f"  {count:6d}  {kind}")
    for repair in dropped[:5]:
        print(f"  dropped: {repair.file}: {repair.problem}")


if __name__ == "__main__":
    cli.exit_cleanly(main)
