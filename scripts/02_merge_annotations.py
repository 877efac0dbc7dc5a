"""Collect all VOC XML of a data set in one folder, repaired so that names and sizes agree with the images.

`013_05.xml` becomes `0013_05.xml`; a wrong or missing <filename> and <size> are set from the image. Boxes are never changed.
An XML that cannot be used is listed with "dropped:"; its image then counts as not annotated. Source files are not changed.
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
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, files
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.ingest.options import LAYOUTS

if TYPE_CHECKING:
    from hemoct.ingest.annotations import Annotated, Repair


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    group = parser.add_argument_group("what the data are")
    group.add_argument("--layout", choices=("auto", *LAYOUTS), default="auto", help="auto: recognised by the names of the files")
    group.add_argument("--image-set", choices=("png", "jpg"), help="which set of PHE-SICH; default: png if it is there")
    args = cli.parse(parser, argv, __file__)
    # what computes is not imported at the top: --help shall be quick
    import pandas as pd

    from hemoct.base import tables
    from hemoct.ingest import annotations as ingest_annotations, layouts

    work = Workspace.of(args)
    raw = work.need(work.raw, "scripts/01_get_data.py")
    listing = layouts.list_files(raw)

    run = Run(__file__, args, work.work, [raw])
    if run.up_to_date():
        return
    with run:
        layout = layouts.choose(raw, listing, args.layout)
        if layout in layouts.WITH_XML:
            repairs = merge(work, ingest_annotations.annotated(raw, listing, layout, args.image_set))
            table = pd.DataFrame(map(asdict, repairs), columns=tables.REPAIR_COLUMNS)
            run.wrote(work.work / "merged_annotation", tables.write_csv(work.work / "repairs.csv", table))
            run.note(annotations=ingest_annotations.fingerprint(raw, listing))
            report(work, repairs)
        else:
            print(f"nothing to merge: a data set of layout {layout} has no VOC XML")
    print(f"Next: {work.command('scripts/03_make_labels.py')}")


def merge(work: Workspace, annotated: Annotated) -> list[Repair]:
    """Write each usable XML into merged_annotation, named by its image; returns what was repaired or dropped, in order of files.

    Of several for one image the one that `Annotated.rank` puts first is taken, and none of them when that cannot be used.
    """
    from tqdm import tqdm

    from hemoct.ingest.annotations import DROPPED, AnnotationError, Repair

    dropped = f"{DROPPED}: not in merged_annotation, the source file is unchanged"
    repairs: dict[Path, list[Repair]] = {}
    sources: dict[str, Path] = {}
    with files.replacing_folder(work.work / "merged_annotation") as folder:
        for path in tqdm(sorted(annotated.files, key=annotated.rank), desc="merge", disable=None):
            try:
                repairs[path] = merge_file(work.raw, path, annotated, sources, folder)
            except AnnotationError as error:
                repairs[path] = [Repair(str(path), str(error), dropped)]
        found = [repair for path in annotated.files for repair in repairs[path]]
        if not any(folder.iterdir()):
            first = f" (first: {found[0].file}: {found[0].problem})" if found else ""
            raise UserError(f"{work.raw} has no XML that can be used{first}; check its annotations and its images")
    return found


def merge_file(raw: Path, path: Path, annotated: Annotated, sources: dict[str, Path], folder: Path) -> list[Repair]:
    """Write one XML; `sources` gets its path under its image_id. Raises AnnotationError if it cannot be used."""
    from hemoct.ingest import annotations as ingest_annotations
    from hemoct.ingest.annotations import Repair

    if not annotated.rank(path)[0]:  # also one that is broken: an old copy must not take its place
        _claim(annotated.image_of(path, ""), path, sources)
    annotation = ingest_annotations.read_voc(raw / path)
    image_id = annotated.image_of(path, annotation.filename)
    _claim(image_id, path, sources)
    image = annotated.images[image_id]
    size = ingest_annotations.image_header(raw / image)
    annotation, repairs = ingest_annotations.repaired(annotation, image.name, size, str(path))
    if path.stem != image_id:
        repairs.insert(0, Repair(str(path), f"other name than its image: {path.name}", f"renamed to {image_id}.xml"))
    ingest_annotations.write_voc(folder / f"{image_id}.xml", annotation)
    return repairs


def _claim(image_id: str, path: Path, sources: dict[str, Path]) -> None:
    """Note that an image has this annotation. Raises AnnotationError if it has another one."""
    from hemoct.ingest.annotations import AnnotationError

    if sources.setdefault(image_id, path) != path:
        raise AnnotationError(f"a second annotation of {image_id}, {sources[image_id]} is its own")


def report(work: Workspace, repairs: list[Repair]) -> None:
    """Print how many files were merged, repaired and dropped, and why."""
    from hemoct.ingest import annotations as ingest_annotations

    folder = work.work / "merged_annotation"
    dropped = [repair for repair in repairs if repair.dropped]
    kinds = Counter(repair.problem.split(":")[0] for repair in repairs if not repair.dropped)
    print(f"{len(list(folder.iterdir()))} XML in {work.show(folder)}, {len(dropped)} dropped; repairs.csv lists each repair")
    for kind, count in kinds.items():
        print(f"  {count:6d}  {kind}")
    doubtful = [repair for repair in repairs if repair.repair.startswith(ingest_annotations.DOUBTFUL)]
    if doubtful:
        print(f"{len(doubtful)} DOUBTFUL: scale or redraw their boxes, or correct their <size>, and run this step again")
    for repair in doubtful[:5]:
        print(f"  DOUBTFUL: {repair.file}: {repair.problem}")
    for repair in dropped[:5]:
        print(f"  dropped: {repair.file}: {repair.problem}")


if __name__ == "__main__":
    cli.exit_cleanly(main)
