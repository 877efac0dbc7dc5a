"""Look at a data set with its experiments, or at one scan, in the browser of this machine: planes, windows, truth, predictions.

Reads   outputs/NAME and data/work/NAME, data/raw/NAME     the experiments of a data set, with patients and mistakes by error
        or a folder that scripts/80_predict_scan.py wrote  a scan with what was predicted
        or a scan: DICOM, NIfTI or images                  the scan alone
Writes  nothing; the page is served on 127.0.0.1 until Ctrl-C, under an address that nobody else knows
Next    look; python scripts/90_make_report.py joins the numbers
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace

if TYPE_CHECKING:
    from hemoct.viewer.server import Content


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("what", nargs="?", type=Path, metavar="outputs/NAME|SCAN", help="default: outputs/ of --dataset")
    group = parser.add_argument_group("page")
    group.add_argument("--port", type=cli.whole_number, default=0, metavar="N", help="on 127.0.0.1; 0 takes any that is free")
    group.add_argument("--no-browser", action="store_true", help="only say the address")
    args = cli.parse(parser, argv, __file__)
    from hemoct.viewer import server  # what computes is not imported at the top: --help shall be quick

    with server.serving(content(args), args.port) as page:
        server.show(page, browser=not args.no_browser)


def content(args: argparse.Namespace) -> Content:
    """The content for `what` of the command line; by default the data set of --dataset."""
    from hemoct.viewer.dataset import DatasetView

    work, what = Workspace.of(args), args.what
    if what is None:
        return DatasetView(work).content()
    path = what.expanduser()
    path = path if path.exists() else args.root / path
    if not path.exists():
        raise UserError(f"{what} is not there; give outputs/NAME, a folder of scripts/80_predict_scan.py, or a scan")
    if path.resolve().parent == (args.root / "outputs").resolve() and not (path / "scan.json").exists():
        return DatasetView(Workspace(args.root, path.resolve().name)).content()
    from hemoct.viewer import scan  # what reads scans takes long to import

    return scan.content(path)


if __name__ == "__main__":
    cli.exit_cleanly(main)
