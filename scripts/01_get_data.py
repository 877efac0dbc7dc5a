"""Put a data set where every later step finds it: drawn, registered, converted or downloaded.

--demo draws head-CT slices with the layout and the defects of PHE-SICH-CT-IDS (NAME is then `demo` by default).
    --demo views draws angiograms, four of the front and four of the back circulation of each patient (NAME: `demo-views`).
--from DIR registers a copy that you have; nothing is copied, data/raw/NAME becomes a link to it.
    If DIR holds DICOM files or NIfTI volumes of CT, and no more than a few pictures, they are converted: one 8-bit PNG per slice,
    in the brain window (40/80 HU) or another --window: a name, LEVEL/WIDTH or `file` (the window in the file), or three of them
    as channels. Slices are ordered by position, not by file name; patient and study come from the DICOM tags, those of NIfTI
    from names and folders. NIfTI masks are found by name or folder and cut like their volume. Public data sets are recognised
    (table in data/README.md) and get their labels; else CSV files directly in DIR are copied, so that labels are found.
    Files that are no CT are listed and skipped. A conversion that was stopped continues where it was.
    --shard 1/8 ... 8/8 converts an eighth of the files each, by the hash of their names, in jobs side by side, also on machines
    that share the disk; then the same command without --shard makes the tables, the same as without any.
--figshare downloads PHE-SICH-CT-IDS (CC BY 4.0); a download that was stopped continues where it was.
Data in data/raw/NAME are never overwritten.

In PHE-SICH-CT-IDS the masks outline the perihematomal edema, not the bleeding; the boxes enclose both.

Reads   DIR, or figshare's public API, or nothing
Writes  data/raw/NAME                             the data set, or a link to it
        data/raw/NAME/types/                      --demo: labels.csv of IVH, IPH and SAH with its images, a data set of its own:
                                                  --from data/raw/demo/types --dataset demo-types
        data/raw/NAME/{dicom,nifti}/              --demo: a series and two volumes with HU, to try the conversion
        data/raw/NAME/unseen/                     --demo: a series of a patient of no split, for scripts/80_predict_scan.py
        data/raw/NAME/slices.csv                  converted: image, patient, study, series, group, slice, spacing, position (mm),
                                                  mask, labels (from masks or from the tables of a public data set)
        data/raw/NAME/conversion/                 converted: headers.csv (other tags), bad_files.csv (file, problem), boxes.csv
        data/work/NAME/01_get_data.run.json
Next    python scripts/02_merge_annotations.py    PHE-SICH-CT-IDS and other VOC sets
        python scripts/03_make_labels.py          every other layout
        python task1_classification/04_predict.py, python task4_multilabel/05_predict.py
                                                  converted slices without labels, with models of another data set
"""

import argparse
import errno
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, files
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.ct import windows as ct_windows
from hemoct.ingest.options import LAYOUTS, ORIGIN, Shard
from hemoct.sources import figshare


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    work = Workspace.of(args)
    origin = origin_of(args)
    if args.shard:  # of a job beside others: it has no run record
        if not is_there(work, origin):
            convert(origin, args, work)
        return
    run = Run(__file__, args, work.work, [])
    if run.up_to_date():
        return
    there = is_there(work, origin)
    with run:
        if not there and "converted" in origin:
            run.note(converted=convert(origin, args, work))
        elif not there and args.source:
            register(Path(origin["registered"]), work)
        elif not there and args.demo:
            draw(origin, work)
        elif not there:
            download(origin, args.api, work)
        run.wrote(work.raw)
    report(work, converted="converted" in origin)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = cli.parser(__doc__)
    group = parser.add_argument_group("where the data come from: one of")
    source = group.add_mutually_exclusive_group(required=True)
    source.add_argument("--demo", nargs="?", const=True, default=False, choices=("views",), metavar="views",
                        help="draw a phantom data set, no real pixels; views: angiograms, eight of each patient")  # fmt: skip
    source.add_argument("--from", dest="source", type=Path, metavar="DIR", help="register or convert an existing copy")
    source.add_argument("--figshare", action="store_true", help="download PHE-SICH-CT-IDS")
    demo = parser.add_argument_group("size of the --demo")
    demo.add_argument("--patients", type=int, default=24, help="number of patients")
    demo.add_argument("--slices", type=int, default=12, help="slices per patient")
    demo.add_argument("--size", type=int, default=256, help="side of a slice in pixels")
    convert = parser.add_argument_group("conversion of DICOM files or NIfTI volumes, with --from")
    convert.add_argument("--convert", action="store_true", help="convert them even if DIR looks like a data set of images")
    convert.add_argument("--window", type=ct_windows.words, default="brain", metavar="WINDOW[,WINDOW,WINDOW]",
                         help=f"{', '.join(ct_windows.WINDOWS)}, LEVEL/WIDTH in HU or file")  # fmt: skip
    convert.add_argument("--intercept", type=float, metavar="HU", help="for files whose RescaleIntercept is missing or 0")
    convert.add_argument("--shard", type=Shard.parse, metavar="I/N", help="convert these files alone, see above")
    convert.add_argument("--workers", type=cli.positive_int, metavar="N", help="processes; default: one per core")
    server = parser.add_argument_group("download with --figshare")
    server.add_argument("--api", default=figshare.API, metavar="URL", help="address of the API, for tests and mirrors")
    if "--demo" in (words := sys.argv[1:] if argv is None else argv):
        parser.set_defaults(dataset="demo-views" if "views" in words[words.index("--demo") :][:2] else "demo")
    args = cli.parse(parser, argv, __file__)
    of_scans = args.convert or args.shard or args.intercept is not None or args.window != parser.get_default("window")
    if args.source is None and of_scans:
        parser.error("--convert, --shard, --window and --intercept go with --from DIR")
    from hemoct.sources import drawn  # what computes is not imported at the top: --help shall be quick

    for name, least in drawn.LEAST.items():
        if getattr(args, name) < least:
            parser.error(f"--{name} {getattr(args, name)} is too small, the smallest is {least}")
    return args


def origin_of(args: argparse.Namespace) -> dict[str, Any]:
    """Where the data come from, as far as that is known before they are there; a bad --from stops here."""
    from hemoct.ingest import conversion, layouts
    from hemoct.sources import drawn
    from hemoct.sources.folder import Contents

    if args.demo:
        return drawn.origin(args)
    if args.figshare:
        return {"figshare": figshare.PHE_SICH}
    folder = args.source.expanduser().resolve()
    if not folder.is_dir():
        raise UserError(f"--from {args.source}: no such folder; name the folder that holds the data set")
    listing = layouts.list_files(folder)
    contents, recognised = Contents.of(folder, listing), layouts.recognise(folder, listing)
    if contents.scans and (args.convert or contents.is_to_convert(recognised)):
        return {"converted": str(folder), "window": args.window, "intercept": args.intercept, "version": conversion.VERSION}
    if flag := next((f"--{name}" for name in ("convert", "shard") if getattr(args, name)), ""):
        raise UserError(f"--from {args.source}: no DICOM file and no NIfTI volume to {flag}; name the folder with them")
    if recognised is None:
        raise UserError(
            f"--from {args.source}: no data set in a known layout ({', '.join(LAYOUTS)}), and no DICOM or NIfTI; it holds "
            f"{layouts.kinds(files.walk(folder)) or 'nothing'}; name its top folder"
        )
    return {"registered": str(folder)}


def is_there(work: Workspace, origin: dict[str, Any]) -> bool:
    """Whether data/raw/NAME holds exactly this already. Anything else there stops the step: raw data are never overwritten."""
    if not os.path.lexists(work.raw):
        return False
    work.stop_if_moved()
    if "registered" in origin:
        same = work.raw.resolve() == Path(origin["registered"])
    else:
        path = work.raw / ORIGIN
        recorded = files.read_json(path) if path.is_file() else {}
        same = recorded.items() >= {name: value for name, value in origin.items() if name != "version"}.items()
        if same and "converted" in origin and recorded["version"] != origin["version"]:
            print(f"{work.show(work.raw)} was converted by another version of this step and is kept; to convert it anew, move it")
    if not same:
        raise UserError(f"{work.raw} is there already and holds something else; move it away or choose another --dataset NAME")
    return True


def register(folder: Path, work: Workspace) -> None:
    """Make data/raw/NAME a link to the folder."""
    work.raw.parent.mkdir(parents=True, exist_ok=True)
    try:
        work.raw.symlink_to(folder, target_is_directory=True)
    except (OSError, NotImplementedError) as error:
        # A disk without links answers EPERM, which elsewhere means that nothing can be written.
        if getattr(error, "errno", None) in cli.NOT_WRITABLE - {errno.EPERM}:
            raise
        raise UserError(f"{work.raw}: this disk has no symbolic links ({error}); copy {folder} there by hand") from None


def draw(origin: dict[str, Any], work: Workspace) -> None:
    """Draw into a temporary folder and rename it when it is complete."""
    from hemoct.sources import drawn

    drawing = work.raw.with_name(f".drawing-{work.dataset}")
    shutil.rmtree(drawing, ignore_errors=True)  # of a run that was killed
    try:
        drawn.draw(drawing, origin)
        files.write_json(drawing / ORIGIN, origin)
        os.rename(drawing, work.raw)
    finally:
        shutil.rmtree(drawing, ignore_errors=True)


def convert(origin: dict[str, Any], args: argparse.Namespace, work: Workspace) -> dict[str, Any]:
    """Convert into a folder beside data/raw/NAME and rename it when it is complete; returns what the run record keeps.

    With --shard convert its files alone.
    """
    from hemoct.ct import kinds
    from hemoct.ingest import conversion
    from hemoct.sources import scans
    from hemoct.sources.folder import Contents

    target = work.raw.with_name(f".converting-{work.dataset}")
    windows, workers = ct_windows.parse_windows(args.window), args.workers or os.cpu_count() or 1
    contents = Contents.of(Path(origin["converted"]))
    planned = scans.Conversion.of(contents, target, windows, args.intercept)
    if args.shard:
        print(conversion.convert_shard(planned.settings, workers, args.shard))
        return {}
    made = scans.convert(planned, workers)
    pages = any(path.suffix.lower() in kinds.TIFF for path in (*contents.scans, *contents.pictures))  # say nothing of it
    facts = {"source": made.source.name if made.source else "", "orientation": None if pages else "up"}
    files.write_json(target / ORIGIN, origin | facts)
    os.rename(target, work.raw)
    print("\n".join(made.lines()))
    return {name: getattr(made.summary, name) for name in ("slices", "patients", "series", "bad")} | made.summary.notes


def download(origin: dict[str, Any], api: str, work: Workspace) -> None:
    """Download and unpack beside data/raw/NAME, rename when complete; what was downloaded is kept until then."""
    from hemoct.ingest import layouts

    article = figshare.read_article(origin["figshare"], api)
    size = sum(item.size for item in article.items) / 1e9
    print(f"{article.title}, version {article.version}, {article.licence}: {len(article.items)} files, {size:.2f} GB")
    parts = work.raw.with_name(f".download-{work.dataset}")
    unpacked = parts / "unpacked"
    figshare.unpack(figshare.download(article, parts / "files"), unpacked)
    if layouts.recognise(unpacked) is None:
        raise UserError(f"{unpacked}: downloaded, but in no known layout ({', '.join(LAYOUTS)}); look into it")
    checksums = {item.name: item.md5 for item in article.items}
    origin |= {"version": article.version, "licence": article.licence, "md5": checksums}
    files.write_json(unpacked / ORIGIN, origin)
    os.rename(unpacked, work.raw)
    shutil.rmtree(parts, ignore_errors=True)


def report(work: Workspace, converted: bool) -> None:
    """Print what the data set is and what comes next."""
    from hemoct.ingest import conversion_tables, layouts
    from hemoct.sources import scans

    recognised = layouts.recognise(work.raw)
    print(f"{work.show(work.raw)}: {recognised.summary}")
    if not converted:
        print("".join(f"{line}\n" for line in scans.registered(work.raw)), end="")
    if converted and not scans.has_labels(work.raw):
        table = work.show(work.raw / conversion_tables.TABLE)
        print(f"no labels: to train, add columns of labels to {table}, or put a table of images and labels beside it, and run")
        print(f"  {work.command('scripts/03_make_labels.py')}")
        commands = scans.predict_commands(work, work.raw / conversion_tables.IMAGES)
    else:
        step = "02_merge_annotations" if recognised.layout in layouts.WITH_XML else "03_make_labels"
        commands = [work.command(f"scripts/{step}.py")]
    print("".join(f"Next: {command}\n" for command in commands), end="")


if __name__ == "__main__":
    cli.exit_cleanly(main)
