"""Keep results in git: copy the small files of evaluated experiments, then write the tables of both READMEs from them.

Weights and images of patients are never copied; run records lose the paths of this machine.

    python scripts/91_publish_results.py --task 1 --experiment NAME --title "ResNet18, 224 px, ImageNet weights"

adds one experiment: it gets its row in outputs/reference/README.md, and is the row of its task in README.md where it is the best.

Reads   outputs/NAME/taskN/EXPERIMENT/                     the evaluation of the task, e.g. task1_classification/02_evaluate.py
        data/work/NAME/dataset.json                        how patients were told apart
Writes  outputs/reference/NAME/taskN/EXPERIMENT/           metrics, predictions, run records, figures
        outputs/reference/NAME/dataset.json, titles.json   what the data are, what the experiments are
        outputs/reference/README.md                        every table
        README.md                                          the table between <!-- best: NAME/taskN ... --> and <!-- end best -->
        outputs/reference/panel.png                        --panel: the picture of README.md, drawn again
Next    git add outputs/reference README.md
"""

from pathlib import Path

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, files
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.report import publish


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    what = parser.add_argument_group("what is published")
    what.add_argument("--task", type=int, default=1, choices=sorted(publish.KEPT))
    what.add_argument("--experiment", nargs="+", metavar="NAME", help="default: all that are evaluated")
    what.add_argument("--title", metavar="TEXT", help="what one --experiment is, in plain words, for the tables")
    pages = parser.add_argument_group("write pages only")
    pages.add_argument("--readme-only", action="store_true", help="write the tables from what outputs/reference holds")
    pages.add_argument("--panel", action="store_true", help="draw the picture of README.md again")
    args = cli.parse(parser, argv, __file__)
    from hemoct.report import reference  # what computes is not imported at the top: --help shall be quick

    work = Workspace.of(args)
    readme = args.root / "README.md"
    if not readme.is_file():
        raise UserError(f"{readme} is missing; --root must be the repository, whose README gets the tables")
    if args.title and len(args.experiment or []) != 1:
        raise UserError("--title names one experiment; give it with --experiment NAME")
    if args.panel:
        from hemoct.report import panel

        print(f"{work.show(panel.draw(work.reference.parent / 'panel.png'))}: drawn")
    if args.readme_only:
        write_pages(work, readme)
    if args.panel or args.readme_only:
        return

    names = args.experiment or experiments.evaluated(work, args.task)
    inputs = [path for name in (*names, "comparison") for path in publish.kept_files(work, args.task, name)]
    run = Run(__file__, args, work.task(args.task), inputs)
    if run.up_to_date():
        return
    publish.check(work, args.task, names)  # before anything is replaced
    with run:
        run.wrote(*publish.publish(work, args.task, names))
        print(f"{', '.join(names)}: kept in {work.show(work.reference)}")
        if args.title:
            run.wrote(reference.add_title(work.reference.parent, f"{work.dataset}/task{args.task}/{names[0]}", args.title))
        write_pages(work, readme)


def write_pages(work: Workspace, readme: Path) -> None:
    """Write both READMEs from what outputs/reference holds."""
    from hemoct.report import reference

    kept = work.reference.parent
    text = reference.update_readme(readme.read_text(encoding="utf-8"), kept)  # refuses before anything is written
    for path, content in ((readme, text), (kept / "README.md", reference.page(kept))):
        files.write_text(path, content)
        print(f"{work.show(path)}: tables written from {work.show(kept)}")


if __name__ == "__main__":
    cli.exit_cleanly(main)
