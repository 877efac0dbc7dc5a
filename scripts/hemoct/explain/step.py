"""The step of tasks 1 and 4 that explains: maps, their score, sheets, pseudo-labels."""

from pathlib import Path
from typing import Any

from hemoct.base import cli, experiments, options
from hemoct.base.errors import UserError
from hemoct.base.runs import Run
from hemoct.base.workspace import Workspace
from hemoct.explain.options import AUTO, Options

FOLDER = "explain"
TABLES = ("labels.csv", "images.csv", "boxes.csv", "splits.csv", "dataset.json")


def run(step: str, doc: str | None, argv: list[str] | None, task: int) -> None:
    """The whole step of a task. `step`: its file, `doc`: its help."""
    parser = cli.parser(doc)
    parser.add_argument("--experiment", required=True, metavar="NAME", help=f"which models; see outputs/NAME/task{task}")
    options.add_all(parser, Options)
    args = cli.parse(parser, argv, step)
    chosen, work = options.read(args, Options), Workspace.of(args)
    extent = chosen.extent
    if extent.write and extent.fold is None:
        parser.error("--write goes with --fold K: pseudo-labels are for the fold whose test patients their model has not seen")
    if extent.write and extent.limit_patients:
        parser.error("--write makes a whole data set: --limit-patients does not go with it")
    folders = _folders(work, task, args.experiment, extent.fold)
    out = folders[0].parent / FOLDER / _name(chosen)
    one = Run(step, args, out, _inputs(work, task, folders, extent.boxes))
    if one.up_to_date():
        return
    import numpy as np  # what computes is not imported at the top: --help shall be quick
    import pandas as pd

    from hemoct.evaluation import protocol
    from hemoct.explain import data, evaluate, pseudo, results
    from hemoct.training import device

    specs = data.specs(task, folders)
    other = pseudo.place(work, extent.fold) if extent.write else None
    with one:
        where = device.pick(args.device, args.threads)
        one.note(device=str(where))
        rows = data.cases(work, task, args.experiment, folders, (chosen.maps.label, extent.limit_patients))
        seen = data.see(work, specs[0], extent.limit_patients, where)
        known = data.Known(work, seen, specs[0], extent.mask_value, extent.field)
        setting = evaluate.Setting(work, task, chosen.maps, specs[0], seen, known, args.seed, where)
        place = pd.Series(np.arange(len(seen.slices.table)), index=seen.slices.table["image_id"])
        rows = rows[rows["image_id"].isin(place.index)].assign(row=lambda frame: place.loc[frame["image_id"]].to_numpy())
        folds = [evaluate.explain(setting, folder, rows[rows["fold"] == experiments.fold_of(folder)].reset_index(drop=True),
                                  extent.boxes) for folder in folders]  # fmt: skip
        about = protocol.describe(work, task, args.experiment, work, _protocol(specs[0]), folders)
        content, correct = evaluate.report(about, setting, folds)
        one.wrote(*results.write(out, content, correct, folds))
        one.wrote(*results.draw(out, setting, content, folds, extent.images))
        if other:
            _, told, written = pseudo.write(setting, folds[0], extent.write)
            one.wrote(*written)
            print(f"{other.dataset}: {told['pseudo_boxes']} boxes of {told['positive_images']} positive images for training and "
                  f"validation, {told['true_boxes_of_test']} true boxes for test")  # fmt: skip
    print(results.summary(work, out, content))
    if other:
        cli.say_next(other, "task2_detection/02_train.py", "--fold", str(extent.fold))
    else:
        cli.say_next(work, "scripts/90_make_report.py")


def _folders(work: Workspace, task: int, experiment: str, fold: int | None) -> list[Path]:
    folders = experiments.with_model(work, task, experiment)
    kept = [folder for folder in folders if fold in (None, experiments.fold_of(folder))]
    if not kept:
        raise UserError(f"--fold {fold}: {experiment} has {', '.join(folder.name for folder in folders)}; name one, or train it")
    return kept


def _name(chosen: Options) -> str:
    """The folder of the results: by what differs from the defaults."""
    maps, limit = chosen.maps, chosen.extent.limit_patients
    named = {
        "": None if maps.layer == [AUTO] else "-".join(maps.layer).replace("/", "_"),
        "label-": maps.label,
        "threshold": maps.map_threshold,
        "field": chosen.extent.field and "-".join(f"{share:g}" for share in chosen.extent.field),
        "first-": limit and f"{limit}-patients",
    }
    return "-".join([maps.method, *(f"{word}{value}" for word, value in named.items() if value is not None)])


def _inputs(work: Workspace, task: int, folders: list[Path], boxes: str | None) -> list[Path]:
    """What the maps are made from."""
    from hemoct.detection import predictions as detection_predictions

    names = [work.work / name for name in TABLES] + [folder / "predictions.csv" for folder in folders]
    names += [*experiments.model_files(folders), folders[0].parent / "metrics.json"]
    for folder in folders if boxes else []:
        place = detection_predictions.folders(work, boxes, folder.name.removeprefix("fold"))[0][0]  # stops where there is none
        names += [place / name for name in detection_predictions.NEEDED]
    return names


def _protocol(spec: Any) -> str:
    return "given" if spec.split == "given" else spec.protocol
