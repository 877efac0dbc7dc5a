"""Keep results in git: copy the small files of evaluated experiments, then write the README's tables from them.

Weights and images of patients are never copied; run records lose the paths of this machine.

Reads   outputs/NAME/taskN/EXPERIMENT/                     the evaluation of the task, e.g. task1_classification/02_evaluate.py
Writes  outputs/reference/NAME/taskN/EXPERIMENT/           metrics, predictions, run records, figures
        README.md                                          between <!-- results: NAME/taskN --> and <!-- end results -->
Next    git add outputs/reference README.md
"""

from __future__ import annotations

from pathlib import Path

from hemoct.base import cli, experiments, files
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.report import publish


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--task", type=int, default=1, choices=sorted(publish.KEPT))
    parser.add_argument("--experiment", nargs="+", metavar="NAME", help="default: all that are evaluated")
    parser.add_argument("--readme-only", action="store_true", help="write the tables from what outputs/reference holds")
    args = cli.parse(parser, argv, __file__)
    work = Workspace.of(args)
    readme = args.root / "README.md"
    if not readme.is_file():
        raise UserError(f"{readme} is missing; --root must be the repository, whose README gets the tables")
    if args.readme_only:
        write_tables(work, readme)
        return

    names = args.experiment or experiments.evaluated(work, args.task)
    inputs = [path for name in names for path in publish.kept_files(work, args.task, name)]
    inputs += publish.comparison_files(work, args.task)
    run = Run(__file__, args, work.task(args.task), inputs)
    if run.up_to_date():
        return
    publish.check_comparison(work, args.task, coming=names)  # before anything is replaced
    with run:
        for name in names:
            run.wrote(publish.publish(work, args.task, name))
            print(f"{name}: kept in {work.show(work.reference)}")
        comparison = publish.publish_comparison(work, args.task)
        if comparison:
            run.wrote(comparison)
        write_tables(work, readme)


def write_tables(work: Workspace, readme: Path) -> None:
    files.write_text(readme, publish.update_readme(readme.read_text(encoding="utf-8"), work.root / "outputs"))
    print(f"{work.show(readme)}: tables written from {work.show(work.reference.parent)}")


if __name__ == "__main__":
    cli.exit_cleanly(main)
