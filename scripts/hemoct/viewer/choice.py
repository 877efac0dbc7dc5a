"""What the viewer shows: a data set with its experiments, the folder of a predicted scan, or a scan."""

import argparse

from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.viewer.dataset import DatasetView
from hemoct.viewer.server import Content


def content(args: argparse.Namespace) -> Content:
    """The content for `what` of the command line; by default the data set of --dataset."""
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
