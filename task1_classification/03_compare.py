"""Compare experiments: values with intervals side by side, and paired differences to the first one.

A difference is paired by image and resamples the same patients for both; images that only one experiment tested are left
out and counted. Experiments under the patient and the slice protocol may be compared; the difference is how much the naive
split flatters.

Reads   outputs/NAME/task1/EXPERIMENT/{metrics.json,predictions.csv}    task1_classification/02_evaluate.py
Writes  outputs/NAME/task1/comparison/                                  comparison.csv, comparison.md, comparison.png
Next    python scripts/90_make_report.py

    python task1_classification/03_compare.py resnet18 resnet18-augment resnet18-slice
"""

from __future__ import annotations

from hemoct import bootstrap, cli, comparison, experiments, files, plots, plots_classification, tables


def main(argv: list[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("experiments", nargs="*", metavar="EXPERIMENT", help="the first is what others are compared with; "
                        "default: all that are evaluated")  # fmt: skip
    args = cli.parse(parser, argv, __file__)
    work = cli.workspace(args)
    names = list(dict.fromkeys(args.experiments)) or experiments.evaluated(work, 1)
    folder = work.task(1) / "comparison"
    inputs = [work.task(1) / name / file for name in names for file in ("metrics.json", "predictions.csv")]
    run = cli.Run(__file__, args, folder, inputs)
    if run.up_to_date():
        return
    found = [comparison.read(work, name) for name in names]
    with run:
        table = comparison.table(found, bootstrap.RESAMPLES, args.seed)
        text = comparison.markdown(table)
        run.wrote(
            tables.write_csv(folder / "comparison.csv", table),
            files.write_text(folder / "comparison.md", text),
            plots.save(
                plots_classification.comparison(table, f"{work.dataset}: test images out of fold"), folder / "comparison.png"
            ),
        )
    print(text)
    print(f"{work.show(folder)}: {len(names)} experiment(s)")


if __name__ == "__main__":
    cli.exit_cleanly(main)
