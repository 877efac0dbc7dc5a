"""03_evaluate.py on simulated maps: files that agree, thresholds from validation, missing masks, bad input, flat memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import simulated_masks
from helpers.refusals import refused
from helpers.simulated_masks import Network
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.data import contents, images
from hemoct.evaluation import bootstrap
from hemoct.segmentation import data as segmentation_data, evaluate, figures, metrics, predictions, tables as segmentation_tables

REPOSITORY = Path(__file__).resolve().parents[2]
EVALUATE = "task3_segmentation/03_evaluate.py"
DRAWN = ("confusion", "dice_and_size", "volumes", "threshold", "training", "examples")
FIGURES = {f"{name}.png" for name in ("confusion_matrix", "dice_and_size", "volumes", "threshold", "training_curves", "examples")}
TABLES = {f"{name}.csv" for name in ("segmentation_metrics", "per_slice", "per_patient", "volume_agreement", "slice_pixels")}
FILES = {"metrics.json", "03_evaluate.run.json"} | TABLES
PIXELS = {"dice", "iou", "sensitivity", "specificity", "precision"}
CASES = {"dice_patient", "dice_patient_median", "dice_slice", "nsd_slice", "hd95_slice", "volume_error", "volume_bias"}
SLICES = {f"slice_{name}" for name in ("accuracy", "precision", "recall", "specificity", "f1")}


@pytest.fixture
def step(work, run_step, monkeypatch):
    """Run the step on the toy workspace; --root and --dataset are given."""
    monkeypatch.setattr(bootstrap, "RESAMPLES", 60)
    return lambda *words: run_step(EVALUATE, *words, "--root", work.root, "--dataset", "toy")


@pytest.fixture
def plain(step, monkeypatch):
    """The same without the figures, which take most of its time."""
    for name in DRAWN:
        monkeypatch.setattr(figures, name, lambda *_: None)
    return step


@pytest.fixture
def frame(work):
    """60 slices of 10 patients, 30 positive; of those one has no mask file and one an empty mask."""
    return simulated_masks.make(work, slices=6)


def folder_of(work, experiment: str = "e") -> Path:
    return work.task(3) / experiment


def content_of(work, experiment: str = "e") -> dict:
    return files.read_json(folder_of(work, experiment) / "metrics.json")


def table_of(work, name: str) -> pd.DataFrame:
    return pd.read_csv(folder_of(work) / f"{name}.csv", dtype={"image_id": str, "patient": str})


def map_of(work, fold: int, image_id: str) -> Path:
    return folder_of(work) / f"fold{fold}" / "probability" / f"{image_id}.png"


def maps(work, part: str, fold: int = 0) -> list[Path]:
    rows = tables.read_predictions(folder_of(work) / f"fold{fold}").query("part == @part")
    return [map_of(work, fold, name) for name in rows["image_id"]]


def stopped(result, *words: str) -> None:
    """The step ended with exit code 2 and one line that has all words."""
    assert result.code == 2 and result.err.strip().count("\n") == 0, result.err
    assert all(word in result.err for word in words), result.err


def test_all_files_are_written_and_agree(work, frame, step):
    simulated_masks.predict(work)
    result = step()
    assert result.code == 0, result.err
    assert {path.name for path in folder_of(work).iterdir() if path.is_file()} == FILES | FIGURES
    for name in FIGURES:
        assert np.asarray(Image.open(folder_of(work) / name).convert("L")).std() > 5, f"{name} is empty"
    content, per_slice, per_patient = content_of(work), table_of(work, "per_slice"), table_of(work, "per_patient")
    assert set(content["metrics"]) == PIXELS | CASES | SLICES
    assert all(cell["ci95"][0] <= cell["ci95"][1] for cell in content["metrics"].values())
    assert (content["n"], content["patients"], content["missing_mask_left_out"]) == (59, 10, 1)
    assert "(missing mask)" in result.out and "28 of 29 slices with the label hemorrhage" in result.out

    value = {name: cell["value"] for name, cell in content["metrics"].items()}
    assert per_slice[["tp", "fp", "fn", "tn"]].sum().to_dict() == content["pixels"] and len(per_slice) == 59
    assert per_patient[["tp", "fp", "fn", "tn"]].sum().to_dict() == content["pixels"] and len(per_patient) == 10
    assert value["dice_slice"] == pytest.approx(per_slice["dice"].mean())
    assert value["dice_patient"] == pytest.approx(per_patient["dice"].mean())
    assert value["dice_patient_median"] == pytest.approx(per_patient["dice"].median())
    assert value["hd95_slice"] == pytest.approx(per_slice["hd95"].mean())
    assert value["nsd_slice"] == pytest.approx(per_slice["nsd"].mean())
    error = (per_patient["predicted_volume"] - per_patient["true_volume"]) / per_patient["true_volume"]
    assert (value["volume_error"], value["volume_bias"]) == pytest.approx((error.abs().mean(), error.mean()))
    either, both = (
        (per_slice[["true_px", "predicted_px"]] > 0).any(axis=1),
        (per_slice[["true_px", "predicted_px"]] > 0).all(axis=1),
    )
    assert (per_slice["dice"].notna() == either).all() and (per_slice["nsd"].notna() == either).all()
    assert (per_slice["hd95"].notna() == both).all() and content["slices"]["both_drawn"] == both.sum()

    rows = table_of(work, "segmentation_metrics").set_index("metric")
    assert rows["value"].to_dict() == pytest.approx(value)
    assert rows["n"][["dice", "dice_patient", "nsd_slice", "slice_f1"]].tolist() == [59 * 1600, 10, either.sum(), 59]
    assert rows["ceiling"].dropna().to_dict() == pytest.approx(content["ceiling"])
    assert content["ceiling"]["slice_recall"] == pytest.approx(28 / 29)
    volumes = table_of(work, "volume_agreement").iloc[0]
    assert (volumes["unit"], volumes["patients"]) == ("px", 10)
    assert volumes["bias"] == pytest.approx((per_patient["predicted_volume"] - per_patient["true_volume"]).mean())
    of_fold = files.read_json(folder_of(work) / "fold3" / "metrics.json")
    assert of_fold["n"] == content["folds"][3]["n"] and [rule["fold"] for rule in of_fold["folds"]] == [3]
    assert step("--skip-if-done").out.startswith("up to date")
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(maps(work, "test")[0])
    assert not step("--skip-if-done").out.startswith("up to date"), "a map was changed"


def test_a_mended_mask_is_not_up_to_date(work, frame, plain):
    simulated_masks.predict(work, folds=(0,))
    contents.write(work, frame)
    assert plain().code == 0 and plain("--skip-if-done").out.startswith("up to date")
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(next(work.raw.glob("mask_*.png")))
    assert refused(plain(), "is not the file that images.csv was made of")
    contents.write(work, frame)
    assert not plain("--skip-if-done").out.startswith("up to date")


def test_the_step_starts_without_torch():
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); sys.exit(bool({'torch', 'monai'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code, REPOSITORY / EVALUATE]).returncode == 0


def test_slices_are_counted_as_by_hand(work, frame, plain):
    simulated_masks.predict(work)
    assert plain().code == 0
    pixels = table_of(work, "slice_pixels")
    assert pixels["part"].value_counts().to_dict() == {"test": 60, "val": 60}
    scored = table_of(work, "per_slice").set_index("image_id")
    labels = frame.set_index("image_id")
    for row in pixels.itertuples():
        predicted = np.asarray(Image.open(map_of(work, row.fold, row.image_id))) >= row.threshold
        assert row.predicted_px == predicted.sum()
        if not labels["mask"][row.image_id]:
            assert np.isnan(row.true_px) and row.image_id not in scored.index
            continue
        true = np.asarray(Image.open(work.raw / labels["mask"][row.image_id])) > 0
        assert row.true_px == true.sum()
        if row.part == "test":
            expected = [
                (predicted & true).sum(),
                (predicted & ~true).sum(),
                (~predicted & true).sum(),
                (~predicted & ~true).sum(),
            ]
            assert scored.loc[row.image_id, ["tp", "fp", "fn", "tn"]].tolist() == expected
    chosen = pixels.groupby("fold")["threshold"].unique().map(list).to_dict()
    assert chosen == {rule["fold"]: [rule["threshold"]] for rule in content_of(work)["folds"]}


def test_thresholds_come_from_validation_alone(work, frame, plain):
    simulated_masks.predict(work, folds=(0,))
    assert plain().code == 0
    before = content_of(work)
    for path in maps(work, "test"):
        Image.fromarray(images.read_grey(path) // 3).save(path)
    assert plain().code == 0
    after = content_of(work)
    assert after["folds"] == before["folds"] and after["metrics"]["dice"]["value"] < before["metrics"]["dice"]["value"]
    for path in maps(work, "val"):
        Image.fromarray(images.read_grey(path) // 3).save(path)
    assert plain().code == 0
    assert content_of(work)["folds"][0]["threshold"] < before["folds"][0]["threshold"] / 2


def test_true_masks_as_maps_score_one(work, plain):
    simulated_masks.make(work, missing=0, empty=0)
    simulated_masks.predict(work, network=Network(shift=0, found=1, alarms=0))
    assert plain().code == 0
    value = {name: cell["value"] for name, cell in content_of(work)["metrics"].items()}
    assert (value.pop("hd95_slice"), value.pop("volume_error"), value.pop("volume_bias")) == (0, 0, 0)
    assert value == dict.fromkeys(value, 1.0)


def test_empty_maps_make_every_file_and_no_number_where_there_is_none(work, frame, step):
    simulated_masks.predict(work)
    for fold in range(5):
        for path in [*maps(work, "val", fold), *maps(work, "test", fold)]:
            Image.fromarray(np.zeros((40, 40), np.uint8)).save(path)
    result = step()
    assert result.code == 0, result.err
    assert {path.name for path in folder_of(work).iterdir() if path.is_file()} == FILES | FIGURES
    cells = content_of(work)["metrics"]
    assert [cells[name]["value"] for name in ("dice", "dice_patient", "dice_slice", "nsd_slice", "slice_recall")] == [0] * 5
    assert (cells["specificity"]["value"], cells["volume_bias"]["value"]) == (1, -1)
    assert cells["precision"] == {"value": None, "ci95": None, "reason": "no predicted pixel"}
    assert cells["hd95_slice"]["value"] is None and "both true and predicted" in cells["hd95_slice"]["reason"]
    assert cells["slice_precision"]["reason"] == "nothing was called positive"


def test_a_validation_without_a_true_pixel_takes_one_half(work, frame, plain):
    fold = tables.read_splits(work).set_index("image_id")["fold"]
    for row in frame[frame["mask"].ne("") & frame["image_id"].map(fold).eq(1)].itertuples():
        Image.fromarray(np.zeros((40, 40), np.uint8)).save(work.raw / row.mask)
    simulated_masks.predict(work, folds=(0,))
    result = plain()
    assert result.code == 0 and "threshold: 0.5: validation has no true pixel" in result.out, result.err
    assert content_of(work)["folds"][0] | {"n": 0} == {
        "fold": 0, "threshold": 128, "threshold_rule": "0.5: validation has no true pixel", "chosen": False, "val_dice": None,
        "n": 0,
    }  # fmt: skip


def test_true_boxes_are_called_an_upper_bound_everywhere(work, frame, step, monkeypatch):
    headings = []
    for name in DRAWN:
        monkeypatch.setattr(figures, name, lambda *shown: headings.append(shown[-1]))
    simulated_masks.predict(work, "e", region="box", boxes="yolov8n")
    simulated_masks.predict(work, "e/truth-boxes", region="box", boxes="truth")
    assert step("--experiment", "e").code == 0
    assert not any("upper bound" in heading for heading in headings) and not content_of(work)["upper_bound"]
    headings.clear()
    result = step("--experiment", "e/truth-boxes")
    assert result.code == 0 and "upper bound: true boxes" in result.out.splitlines()[1], result.out
    content = content_of(work, "e/truth-boxes")
    assert "upper bound: true boxes" in content["notes"] and len(headings) == len(DRAWN)
    assert all("upper bound: true boxes" in heading for heading in headings)
    of_fold = files.read_json(folder_of(work, "e/truth-boxes") / "fold0" / "metrics.json")
    assert "upper bound: true boxes" in of_fold["notes"]


def test_no_fold_one_fold_and_a_limit(work, frame, plain):
    stopped(plain(), "no trained experiment", "task3_segmentation/02_train.py")
    simulated_masks.predict(work, folds=(2,))
    stopped(plain("--experiment", "f"), "f holds no trained fold", "there are: e")
    result = plain()
    assert result.code == 0 and "fold 2 of 5" in result.out, result.err
    stopped(plain("--on", "other", "--experiment", "e"), "no data set is called other", "there are: toy")
    simulated_masks.predict(work, "all")
    assert plain("--experiment", "all", "--limit-patients", 6).code == 0
    folder = folder_of(work, "all")
    assert not (folder / "metrics.json").exists() and not (folder / "fold0" / "metrics.json").exists()
    assert files.read_json(folder / "first-6-patients" / "metrics.json")["patients"] == 6
    assert plain("--experiment", "all", "--limit-patients", 1).code == 0
    of_one = files.read_json(folder / "first-1-patients" / "metrics.json")
    assert of_one["metrics"]["dice_patient"]["ci95"] is None and of_one["volumes"][0]["limit_low"] is None


@pytest.mark.parametrize("protocol", ["slice", "given"])
def test_other_splits(work, frame, plain, protocol):
    if protocol == "given":
        parts = frame["patient"].map(lambda name: "test" if name > "0007" else "val" if name > "0004" else "train")
        tables.write_labels(work, frame.assign(given_split=parts), tables.read_dataset(work))
        simulated_masks.predict(work, folds=(0,), split="given")
    else:
        simulated_masks.predict(work, protocol="slice")
    result = plain()
    assert result.code == 0 and ("given split" if protocol == "given" else "slice protocol") in result.out, result.err
    if protocol == "slice":
        assert content_of(work)["bootstrap"]["drawn"] == "patients over all folds at once"
        assert table_of(work, "per_patient")["fold"].astype(str).str.contains("+", regex=False).all()


def test_spacings_make_millilitres_and_millimetres(work, frame, plain):
    spaced = frame.assign(spacing_row=0.5, spacing_col=0.5, spacing_z=5.0)
    tables.write_labels(work, spaced, tables.read_dataset(work))
    simulated_masks.predict(work, network=Network(found=1, alarms=0))
    assert plain().code == 0
    patients, slices = table_of(work, "per_patient"), table_of(work, "per_slice")
    assert set(patients["unit"]) == {"ml"} and set(slices["distance_unit"]) == {"mm"}
    assert patients["true_volume"].to_numpy() == pytest.approx((patients["tp"] + patients["fn"]) * 0.5 * 0.5 * 5 / 1000)
    assert slices["hd95"].dropna().eq(1).all(), "the disks are 2 px apart"
    tables.write_labels(work, spaced.assign(spacing_z=-5.0), tables.read_dataset(work))
    stopped(plain(), "labels.csv", "spacing_z")


def test_unknown_labels_leave_slices_and_keep_pixels(work, frame, plain):
    simulated_masks.predict(work)
    tables.write_labels(work, frame.assign(hemorrhage=np.nan), tables.read_dataset(work))
    assert plain().code == 0
    content = content_of(work)
    assert content["slices"]["unknown_label"] == content["n"] == 59 and content["metrics"]["dice"]["value"] > 0.5
    assert {name: content["metrics"][name]["reason"] for name in SLICES} == dict.fromkeys(SLICES, segmentation_tables.NO_LABEL)


def test_several_classes_have_no_positive_one(work, plain):
    labels = ("normal", "bleeding")
    frame = simulated_masks.make(work, missing=0, empty=0)
    positive = frame.pop("hemorrhage")
    dataset = tables.read_dataset(work)
    dataset.labels, dataset.exclusive = list(labels), True
    tables.write_labels(work, frame.assign(normal=1 - positive, bleeding=positive), dataset)
    tables.write_dataset(work, dataset)
    simulated_masks.predict(work, network=Network(shift=0, found=1, alarms=0))
    assert plain().code == 0
    assert content_of(work)["slice_label"] == "bleeding" and content_of(work)["metrics"]["slice_f1"]["value"] == 1
    dataset.labels = [*labels, "other"]
    tables.write_labels(work, frame.assign(normal=1 - positive, bleeding=positive, other=0), dataset)
    tables.write_dataset(work, dataset)
    assert plain().code == 0
    content = content_of(work)
    assert content["slice_label"] is None and content["metrics"]["slice_f1"]["reason"] == segmentation_tables.NO_LABEL


# ---- wrong input


def spoil_map(work, size: tuple[int, int] | None) -> None:
    if size is None:
        maps(work, "test")[0].write_bytes(b"no image")
    else:
        Image.new("L", size).save(maps(work, "test")[0])


def spoil_table(work, **columns: object) -> None:
    folder = folder_of(work) / "fold0"
    tables.write_predictions(folder, tables.read_predictions(folder).assign(**columns))


def spoil_spec(work, **told: object) -> None:
    path = folder_of(work) / "fold1" / "model.json"
    files.write_json(path, files.read_json(path) | told)


def drop_row(work) -> None:
    folder = folder_of(work) / "fold0"
    tables.write_predictions(folder, tables.read_predictions(folder).iloc[1:])


def spoil_history(work) -> None:
    path = folder_of(work) / "fold0" / "history.csv"
    tables.write_csv(path, pd.read_csv(path).drop(columns="val_dice"))


def other_splits(work) -> None:
    table = tables.read_splits(work)
    tables.write_splits(work, table.assign(fold=(table["fold"] + 1) % 5))


BAD = {
    "20 x 40 px, its image 40 x 40 px": lambda work: spoil_map(work, (20, 40)),
    "cannot be read as an 8-bit image": lambda work: spoil_map(work, None),
    "1 row(s) with no probability/IMAGE_ID.png": lambda work: maps(work, "test")[0].unlink(),
    "part must be val or test": lambda work: spoil_table(work, part="train"),
    "no row of labels.csv": lambda work: spoil_table(work, image_id="x"),
    "other patient than in labels.csv": lambda work: spoil_table(work, patient="0001"),
    "lacks 1 of 24 slices": drop_row,
    "val and test are not those of fold 0": lambda work: spoil_table(work, part="test"),
    "is missing or older than best.pt": lambda work: (folder_of(work) / "fold0" / "best.pt").touch(),
    "splits.csv is not the one": other_splits,
    "lacks the column(s) val_dice": spoil_history,
    "differ in boxes": lambda work: spoil_spec(work, boxes="yolov8n"),
    "the folds differ in protocol": lambda work: spoil_spec(work, protocol="slice"),
}


@pytest.mark.parametrize("problem", BAD)
def test_bad_input_stops_with_one_line_and_leaves_nothing(work, frame, plain, problem):
    simulated_masks.predict(work, folds=(0, 1))
    BAD[problem](work)
    stopped(plain(), problem)
    assert {path.name for path in folder_of(work).iterdir() if path.is_file()} <= {"03_evaluate.run.json"}


def test_no_test_slice_with_a_mask_stops(work, frame, plain):
    fold = tables.read_splits(work).set_index("image_id")["fold"]
    without = frame.assign(mask=frame["mask"].where(frame["image_id"].map(fold) != 0, ""))
    tables.write_labels(work, without, tables.read_dataset(work))
    simulated_masks.predict(work, folds=(0,))
    stopped(plain(), "no test slice has a mask file")


# ---- what is shown


def test_examples_are_the_best_the_median_and_the_worst(work, frame):
    simulated_masks.predict(work, network=Network(found=0.7))
    data = segmentation_data.load(work)
    table, _ = predictions.read(work, "e", data)
    places = {fold: folder_of(work) / f"fold{fold}" for fold in range(5)}
    evaluation = evaluate.evaluate(evaluate.Scored.of(work, data), places, table)
    dice = metrics.dice(evaluation.counts)[evaluation.true > 0]
    shown = segmentation_tables.examples(evaluation, 3)
    assert shown["kind"].tolist() == ["best"] * 3 + ["median"] * 3 + ["worst"] * 3
    assert shown["dice"].tolist()[:3] == sorted(dice, reverse=True)[:3] and shown["dice"].tolist()[-3:] == [0, 0, 0]
    assert np.median(dice) in shown["dice"].tolist()[3:6] and not shown["image_id"].duplicated().any()
    assert len(segmentation_tables.examples(evaluation, 20)) == len(dice), "none is shown twice"
    grey, probability, mask = next(predictions.with_images(work, data, places, shown))
    first = shown.iloc[0]
    assert (grey == images.read_grey(work.raw / f"{first['image_id']}.png")).all() and mask.any()
    predicted, true = probability >= first["threshold"], mask
    assert 2 * (predicted & true).sum() / (predicted.sum() + true.sum()) == pytest.approx(first["dice"])


# ---- memory

MEASURE = """
import resource, sys
from pathlib import Path
from hemoct.base.workspace import Workspace
from hemoct.segmentation import data as mask_data, evaluate, predictions, tables
for root in sys.argv[1:]:
    work = Workspace(Path(root), "toy")
    data = mask_data.load(work)
    frame, _ = predictions.read(work, "e", data)
    evaluation = evaluate.evaluate(evaluate.Scored.of(work, data), {0: work.task(3) / "e" / "fold0"}, frame)
    tables.report(evaluation, {"upper_bound": False}, 200, 42)
    print(len(evaluation.pixels), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def large(root: Path, slices: int) -> Path:
    """A workspace with slices of 512 x 512 px, half of them in validation; every tenth one has a lesion."""
    work = Workspace(root, "toy")
    work.raw.mkdir(parents=True)
    y, x = np.ogrid[:512, :512]
    for name, size, moved in (("empty", 0, 0), ("lesion", 40, 0), ("map", 40, 8)):
        disk = (y - 200) ** 2 + (x - 250 - moved) ** 2 < size**2
        Image.fromarray(disk.astype(np.uint8) * 255).save(work.raw / f"{name}.png")
    number = np.arange(slices)
    lesion, fold = number % 10 == 0, number // 35 % 2
    rows = pd.DataFrame({"image_id": [f"{row:04d}" for row in number], "patient": [f"{row // 35:04d}" for row in number]})
    rows = rows.assign(slice=number % 35, image="empty.png", mask=np.where(lesion, "lesion.png", "empty.png"), annotation="")
    dataset = tables.Dataset("toy", "csv", ["hemorrhage"])
    tables.write_labels(work, rows.assign(hemorrhage=lesion.astype(int)), dataset)
    tables.write_dataset(work, dataset)
    tables.write_splits(work, rows.assign(fold=fold, slice_fold=fold))
    folder = work.task(3) / "e" / "fold0"
    (folder / "probability").mkdir(parents=True)
    for name, drawn in zip(rows["image_id"], lesion, strict=True):
        (folder / "probability" / f"{name}.png").symlink_to(work.raw / ("map.png" if drawn else "empty.png"))
    tables.write_predictions(folder, rows.assign(fold=0, part=np.where(fold, "val", "test")))
    told = {"protocol": "patient", "split": "folds", "splits_sha256": files.sha256(work.work / "splits.csv")}
    files.write_json(folder / "model.json", told)
    return root


@pytest.mark.slow
def test_memory_does_not_grow_with_the_slices(tmp_path):
    """Many more masks: kept in memory, they and their maps would take 90 MB more."""
    roots = large(tmp_path / "few", 70), large(tmp_path / "many", 245)
    done = subprocess.run([sys.executable, "-c", MEASURE, *roots], capture_output=True, text=True, check=True)
    (few, before), (many, after) = (line.split() for line in done.stdout.splitlines())
    assert (few, many) == ("70", "245")
    assert float(after) - float(before) < 40, "MB of the highest mark"
