"""Look at a data set with its experiments, or at one scan, in the browser of this machine: planes, windows, truth, predictions.

Reads   outputs/NAME and data/work/NAME, data/raw/NAME     the experiments of a data set, with patients and mistakes by error
        or a folder that scripts/80_predict_scan.py wrote  a scan with what was predicted
        or a scan: DICOM, NIfTI or images                  the scan alone
Writes  nothing; the page is served on 127.0.0.1 until Ctrl-C, under an address that nobody else knows
Next    look; python scripts/90_make_report.py joins the numbers
"""

from pathlib import Path

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("what", nargs="?", type=Path, metavar="outputs/NAME|SCAN", help="default: outputs/ of --dataset")
    group = parser.add_argument_group("page")
    group.add_argument("--port", type=cli.whole_number, default=0, metavar="N", help="on 127.0.0.1; 0 takes any that is free")
    group.add_argument("--no-browser", action="store_true", help="only say the address")
    args = cli.parse(parser, argv, __file__)
    from hemoct.viewer import choice, server  # what computes is not imported at the top: --help shall be quick

    with server.serving(choice.content(args), args.port) as page:
        server.show(page, browser=not args.no_browser)


if __name__ == "__main__":
    cli.exit_cleanly(main)
