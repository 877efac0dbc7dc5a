"""Compare segmentation experiments: values with intervals side by side, and paired differences to the first one.

A difference is paired by slice and resamples the same patients for both; slices that only one experiment tested are left out and
counted. Each experiment keeps its own thresholds.

Reads   outputs/NAME/task3/EXPERIMENT/{metrics.json,per_slice.csv}      task3_segmentation/03_evaluate.py
Writes  outputs/NAME/task3/comparison/                                  comparison.csv, comparison.md, comparison.png
Next    python scripts/90_make_report.py

    python task3_segmentation/08_compare.py unet-resnet34 unet-resnet34-strong unet-resnet34/truth-boxes
"""

from __future__ import annotations

from hemoct import bootstrap, cli, comparison, experiments, files, plots, plots_classification, segmentation_comparison, tables


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="the first is what others are compared with; "
                        "default: all that are evaluated")  # fmt: skip
    args = cli.parse(parser, argv, __file__)
    work = cli.workspace(args)
    names = list(dict.fromkeys(args.experiments)) or experiments.evaluated(work, 3)
    folder = work.task(3) / "comparison"
    inputs = [work.task(3) / name / file for name in names for file in segmentation_comparison.NEEDED]
    run = cli.Run(__file__, args, folder, inputs)
    if run.up_to_date():
        return
    found = [segmentation_comparison.read(work, name) for name in names]
    with run:
        table = comparison.table(found, bootstrap.RESAMPLES, args.seed)
        text = comparison.markdown(table, "Task 3: experiments side by side", segmentation_comparison.COMPARED)
        heading = f"{work.dataset}: test slices out of fold"
        drawn = plots_classification.comparison(table, heading, segmentation_comparison.SHARES)
        run.wrote(
            tables.write_csv(folder / "comparison.csv", table),
            files.write_text(folder / "comparison.md", text),
            plots.save(drawn, folder / "comparison.png"),
        )
    print(text)
    print(f"{work.show(folder)}: {len(names)} experiment(s)")


if __name__ == "__main__":
    cli.exit_cleanly(main)
