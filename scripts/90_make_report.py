"""Join the tables and figures that exist into one page that begins with the answer, each with the command that made it.

Reads   data/work/NAME/{dataset,audit}.json, splits.csv, figures/    scripts/03_make_labels.py to 05_make_splits.py
        outputs/NAME/taskN/EXPERIMENT/                               the evaluations of each task
Writes  outputs/NAME/report.html                                     one file, figures inside
        outputs/NAME/report.md                                       figures linked
Next    open the report; python scripts/91_publish_results.py keeps results in git
"""

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace


def main(argv: list[str] | None = None) -> None:
    args = cli.parse(cli.parser(__doc__), argv, __file__)
    from hemoct.report import pages  # what computes is not imported at the top: --help shall be quick

    work = Workspace.of(args)
    parts = pages.collect(work)

    run = Run(__file__, args, work.outputs, pages.sources(work, parts))
    if run.up_to_date():
        return
    with run:
        run.wrote(*pages.write(work, parts))
    for line in (line for part in parts for line in part.about if line.startswith(pages.LEFT_OUT)):
        print(line)
    print(f"{work.show(work.outputs / 'report.html')}: {', '.join(part.title for part in parts)}")


if __name__ == "__main__":
    cli.exit_cleanly(main)
