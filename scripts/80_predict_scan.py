"""One scan in, everything out: is there bleeding, where, how much, of which kind.

SCAN is a folder of PNG or JPEG slices, a DICOM series or a folder of several, a NIfTI volume, or a single file. It is read
once, and all that was trained looks at it: of each task the experiment that is best on validation (--models outputs/NAME),
or what an exported bundle holds. Probabilities are the mean of all folds; --fast takes one. Of several DICOM series the
axial one of the brain is taken, in a soft-tissue kernel; the others are listed (--series). Masks lie where the scan lies, so
that any viewer shows them over it. In PHE-SICH-CT-IDS masks are those of the edema; the core, bright pixels in boxes, is an
unvalidated estimate of the bleeding. Slices on which a model was trained or validated give no honest result; they are
counted and marked.
Nothing of a patient's header is written, but with --identifiers; names of files stand in the tables, not on the page.
Research use, no diagnosis.

Reads   SCAN
        outputs/NAME/taskN/EXPERIMENT/foldK/{best.pt,model.json}    the training steps of the four tasks
        or a bundle                                                 scripts/82_export.py
Writes  outputs/scans/SCAN/ (or --out DIR)   scan.html, which opens without network and can be mailed; scan.json; slices.csv:
            probability, threshold, yes or no of each label; boxes.csv (pixels); edema.nii.gz, core.nii.gz, scan.nii.gz;
            masks/{edema,core}/NNN.png; montage.png
Next    open scan.html; python scripts/81_view.py outputs/scans/SCAN

    python scripts/80_predict_scan.py ct/series7 --models outputs/phe-sich
"""

import argparse
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, files, options
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.ct import windows as ct_windows
from hemoct.prepare.options import KNOWN, UNKNOWN
from hemoct.training.options import Hardware

if TYPE_CHECKING:
    from hemoct.scan.result import Source


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    if not args.scan.exists():
        raise UserError(f"{args.scan} is neither a file nor a folder")
    from hemoct.scan import answer, choose, predict, write  # not at the top: --help shall be quick

    start, work = time.perf_counter(), Workspace.of(args)
    which = choose.Which(experiments=args.experiment or {}, fast=args.fast, device=args.device, threads=args.threads)
    models = choose.models(args.models or choose.default(work), which)
    out = args.out or args.root / "outputs" / "scans" / name_of(args.scan)
    run = Run(__file__, args, out, [args.scan, *models.files])
    if done(run, out, args):
        return
    how = predict.How(
        series=args.series, window=args.window, intercept=args.intercept, orientation=args.orientation,
        spacing=tuple(args.spacing) if args.spacing else None, heat=not args.no_maps,
    )  # fmt: skip
    seconds = {"imports and choice": time.perf_counter() - start}
    begun = time.perf_counter()
    pixels = predict.read(args.scan, models, how)  # before a network is loaded: what cannot be read stops here
    seconds["reading"] = time.perf_counter() - begun
    for line in [*models.said, *series(pixels.source)]:
        print(line)
    with run:
        scan = predict.look(pixels, models, how, seconds)
        clear(out)
        begun = time.perf_counter()
        run.wrote(*write.write(scan, out, args.identifiers))
        run.note(seen_in_training=int(scan.seen.sum()))
        seconds["writing"] = time.perf_counter() - begun
    for line in answer.lines(scan):
        print(f"{line.asked}: {line.said} ({line.more})")
    for line in answer.notes(scan):
        print(f"  mind: {line}")
    print(answer.NO_DIAGNOSIS)
    print(f"{work.show(out)}: {len(scan)} slices in {time.perf_counter() - start:.1f} s "
          f"({', '.join(f'{name} {value:.1f}' for name, value in seconds.items())})")  # fmt: skip
    print(f"Next: open {work.show(out / 'scan.html')}")


def make_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    parser.add_argument("scan", type=Path, metavar="SCAN", help="folder of images or DICOM files, NIfTI volume, or single file")
    parser.add_argument("--models", type=Path, action="append", metavar="DIR",
                        help="outputs/NAME of a data set, or a bundle; several: of each task the first that knows it; default: "
                        "outputs/NAME of --dataset, else the only one with models")  # fmt: skip
    parser.add_argument("--experiment", type=cli.by_task, metavar="TASK=NAME[,...]",
                        help="experiments instead of the best on validation: 1=resnet18,3=unet")  # fmt: skip
    parser.add_argument("--fast", action="store_true", help="one fold instead of the mean of all")
    parser.add_argument("--no-maps", action="store_true", help="no class activation maps")
    parser.add_argument("--identifiers", action="store_true", help="write the identifiers of the DICOM header into scan.json")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where everything goes")
    parser.add_argument("--overwrite", action="store_true", help="replace what an earlier call wrote there")
    group = parser.add_argument_group("how the scan is read")
    group.add_argument("--series", metavar="N|TEXT", help="one of several series: its number as listed, or a part of its words")
    group.add_argument("--window", type=ct_windows.words, metavar="WINDOW[,WINDOW,WINDOW]",
                       help="of HU, instead of that of the training data; also takes values that are no HU")  # fmt: skip
    group.add_argument("--intercept", type=float, metavar="HU", help="where a DICOM file's RescaleIntercept is missing or 0")
    group.add_argument("--orientation", default="auto", choices=("auto", *KNOWN, UNKNOWN), help="where the nose points")
    group.add_argument("--spacing", type=cli.positive_float, nargs=3, metavar=("ROW", "COL", "Z"),
                       help="mm between rows, columns and slices, of files that do not say it")  # fmt: skip
    options.add(parser, Hardware, "device")
    return parser


def name_of(scan: Path) -> str:
    """A name for the results, made of the last folder's or the file's."""
    from hemoct.ct import kinds
    from hemoct.data.named_images import file_names

    resolved = scan.resolve()
    return file_names({0: (kinds.stem(resolved).stem if resolved.is_file() else resolved.name)})[0]


def done(run: Run, out: Path, args: argparse.Namespace) -> bool:
    """Whether an equal call has written the folder, which is said; stops rather than write over anything else unasked."""
    from hemoct.scan import write

    if out.resolve().is_relative_to(args.scan.resolve()) and args.scan.is_dir():
        raise UserError(f"{out} lies in {args.scan}, where a next call would look for slices; give --out a place outside of it")
    if out.is_file():
        raise UserError(f"--out {out} is a file; name a folder")
    if run.is_done() and not args.overwrite:
        print(f"up to date: {run.path}; open {out / 'scan.html'}")
        return True
    taken = [name for name in write.OUTPUTS if (out / name).exists()]
    if taken and not run.path.is_file():
        raise UserError(f"{out / taken[0]} is there and not of this step; give another --out DIR")
    if any(args.scan.resolve().is_relative_to((out / name).resolve()) for name in taken):
        raise UserError(f"{args.scan} lies in {out}, where it would be replaced; give another --out DIR")
    unfinished = run.path.is_file() and files.read_json(run.path)["status"] != "ok"
    if taken and not (args.overwrite or unfinished):
        raise UserError(f"{out / taken[0]} is of an earlier call with other files or flags; --overwrite replaces it")
    return False


def clear(out: Path) -> None:
    """Take away what an earlier call wrote: this one may write less."""
    from hemoct.scan import write

    for name in write.OUTPUTS:
        shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink(missing_ok=True)


def series(source: "Source") -> list[str]:
    """What was taken of a folder, and what else there is."""
    lines = [f"{source.path}: {source.series}"]
    lines += [f"  another series, not taken: {words}" for words in source.others]
    return lines + [f"  passed over: {name} {problem}" for name, problem in list(source.passed_over.items())[:10]]


if __name__ == "__main__":
    cli.exit_cleanly(main)
