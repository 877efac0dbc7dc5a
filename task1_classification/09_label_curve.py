"""How much do labels matter, and what does a network start from? Share of labelled patients x start x seed, set side by side.

Reads experiments that are evaluated; with --run it trains and evaluates them first, one for each share, start and seed (above
--few the first seed alone). What is up to date is skipped, what was stopped goes on. All flags of 01_train.py hold for every one.

Reads   outputs/NAME/task1/EXPERIMENT/{metrics.json,predictions.csv,foldK/model.json}    01_train.py, 02_evaluate.py
        outputs/NAME/pretrain/START/foldK/ (--run with a pre-training as a start)        scripts/07_pretrain.py
Writes  outputs/NAME/task1/label_curve/CURVE/    metrics.json, label_curve.csv, label_curve.md, label_curve.png
Next    python scripts/90_make_report.py

    python task1_classification/09_label_curve.py --run --starts none,PRETRAINING --backbone tf_efficientnet_lite0 --fold 0
    python task1_classification/09_label_curve.py EXPERIMENT EXPERIMENT ... --name few
"""

from __future__ import annotations

import argparse
import sys

import environment  # noqa: F401 (first: without the environment it says how to activate it)

from hemoct.base import cli, experiments, files, options as base_options
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.classification import options

OWN = ("--shares", "--starts", "--seeds", "--few", "--name", "--jobs")
NEEDED = ("metrics.json", "predictions.csv")


def main(argv: list[str] | None = None) -> None:
    parser = make_parser()
    args = cli.parse(parser, argv, __file__)
    if bool(args.experiments) == args.run:
        parser.error("name experiments, or let them be trained with --run")
    work, words = Workspace.of(args), sys.argv[1:] if argv is None else argv
    folder = work.task(1) / "label_curve" / experiments.new_name("--name", args.name)
    names = train(work, args, [word for word in cli.taken(words, *OWN)[1] if word != "--run"]) if args.run else args.experiments
    paths = [work.task(1) / name / file for name in names for file in NEEDED]
    for path in paths:
        work.need(path, f"{experiments.evaluate_step(1)} --experiment {path.parent.name}")
    run = Run(__file__, args, folder, paths)
    if run.up_to_date():
        return
    # what computes is not imported at the top: --help shall be quick
    from hemoct.base import figure as base_figure, tables
    from hemoct.classification import figures, label_curve

    made = label_curve.content(work, label_curve.read(work, names), args.seed)
    with run:
        run.wrote(
            files.write_json(folder / "metrics.json", made),
            tables.write_csv(folder / "label_curve.csv", label_curve.frame(made)),
            files.write_text(folder / "label_curve.md", label_curve.markdown(made, args.command)),
            base_figure.save(figures.label_curve(made, f"{work.dataset}: test images of {len(names)} trainings"),
                             folder / "label_curve.png"),
        )  # fmt: skip
    print((folder / "label_curve.md").read_text(encoding="utf-8"))
    cli.say_next(work, "scripts/90_make_report.py")


def train(work: Workspace, args: argparse.Namespace, common: list[str]) -> list[str]:
    """Train and evaluate the experiments of the curve; returns their names. Nothing is trained before all flags are checked."""
    from hemoct.classification import grid

    listed = []
    for share in args.shares:
        for seed in args.seeds if share <= args.few else args.seeds[:1]:
            starts = [start for start in args.starts if knows_no_more(work, start, share, seed)]
            if starts:
                lines = [f"labelled={share:g}", f"weights={','.join(starts)}", f"seed={seed}"]
                listed += grid.conditions(lines, None, common)
    failed = grid.run(work, listed, common, args.seed, args.jobs)
    grid.stop_if_failed(failed, listed)
    return [condition.experiment for condition in listed]


def knows_no_more(work: Workspace, start: str, share: float, seed: int) -> bool:
    """Whether a start has read the labels of no other patients than a training with this share and seed; says so where it has."""
    specs = map(experiments.description, experiments.folds(work.pretrained / start, "model.json"))
    read = next((spec["labelled"] for spec in specs if spec["labelled"] is not None), None)
    if read is None or (read.get("share", 1.0) <= share and read.get("seed", seed) == seed):
        return True
    print(f"{start} has read labels of other patients than a share of {share:g} with seed {seed}: left out there")
    return False


def shares(text: str) -> list[float]:
    """A type for argparse: `0.01,0.1,1`."""
    return [cli.share_above_0(word) for word in cli.names(text)]


def seeds(text: str) -> list[int]:
    """A type for argparse: `42,43,44`."""
    return [cli.whole_number(word) for word in cli.names(text)]


def make_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    group = parser.add_argument_group("curve")
    group.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="evaluated experiments")
    group.add_argument("--run", action="store_true", help="train and evaluate the experiments first")
    group.add_argument("--shares", type=shares, default=[0.01, 0.05, 0.1, 1.0], metavar="A,B", help="shares of labelled patients")
    group.add_argument("--starts", type=cli.names, default=["none", "imagenet"], metavar="A,B", help="none, imagenet, and names "
                       "of pre-trainings, see scripts/07_pretrain.py")  # fmt: skip
    group.add_argument("--seeds", type=seeds, default=[42, 43, 44], metavar="A,B", help="seeds: of the weights, the order of the "
                       "slices, and which patients are labelled")  # fmt: skip
    group.add_argument("--few", type=cli.share_above_0, default=0.5, metavar="SHARE",
                       help="above this share the first seed alone")  # fmt: skip
    group.add_argument("--name", default="curve", metavar="CURVE", help="folder of the results")
    group.add_argument("--jobs", type=cli.positive_int, default=1, metavar="N", help="trainings at a time")
    base_options.add_all(parser, options.Options, without=("weights", "labelled"))
    return parser


if __name__ == "__main__":
    cli.exit_cleanly(main)
