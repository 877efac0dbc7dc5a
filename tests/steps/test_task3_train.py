"""Task 3's training: a network learns rims of disks, resume to the bit, leaks and mistakes stop."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import simulated_boxes, toy, trained
from helpers.refusals import refused
from helpers.simulated_networks import make_rims, tiny
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace
from hemoct.segmentation import data as segmentation_data, metrics, networks, windows
from hemoct.segmentation.options import Selection
from hemoct.training import checkpoints, fit as training_fit

TRAIN = "task3_segmentation/02_train.py"
COMMON = ("--dataset", "toy", "--weights", "none", "--fold", "0", "--device", "cpu", "--image-size", "32", "--batch-size", "8",
          "--experiment", "e")  # fmt: skip
BOX = ("--region", "box", "--boxes", "d")
WHOLE = ("--region", "slice")
OF_VERSION_0_1 = {
    *("seed", "epochs", "batch_size", "lr", "optimizer", "weight_decay", "schedule", "warmup", "patience", "augment"),
    *("precision", "weights", "protocol", "split", "limit_patients", "model", "negatives", "margin", "least_side", "encoder"),
    *("context", "loss", "region", "boxes", "mask_value", "normalise"),
}  # fmt: skip
"""the flags that its last.pt held in `settings`, before there were --ema and --validation"""


@pytest.fixture
def rims(work, run_step, monkeypatch):
    """Rims of disks in images that are not square, and a detector that finds most of the disks."""
    make_rims(work)
    monkeypatch.setattr(networks.smp, "create_model", tiny)
    return lambda *more: run_step(TRAIN, "--root", work.root, *COMMON, *more)


@pytest.fixture
def learned(work, run_step, monkeypatch):
    """The same with one trained fold, see trained.RIMS."""
    trained.rims(work)
    monkeypatch.setattr(networks.smp, "create_model", tiny)
    return lambda *more: run_step(TRAIN, "--root", work.root, *COMMON, *more)


def dice_of_part(work: Workspace, folder: Path, part: str) -> tuple[int, float]:
    frame = tables.read_predictions(folder)
    frame = frame[frame["part"] == part]
    labels = tables.read_labels(work, tables.read_dataset(work)).set_index("image_id")
    pairs = []
    for name in frame["image_id"]:
        probability = np.asarray(Image.open(folder / "probability" / f"{name}.png"))
        pairs.append((probability, segmentation_data.read_mask(work.raw / labels.loc[name, "mask"], probability.shape[::-1])))
    return metrics.best_threshold(metrics.Histograms.of(pairs), frame["patient"].to_numpy())


# --- what a training leaves


@pytest.mark.parametrize("flags", [BOX, WHOLE])
def test_a_network_learns_rims(work, rims, flags):
    result = rims(*flags, "--epochs", "8", "--lr", "1e-2", "--context", "1", "--image-size", "64" if flags == WHOLE else "32")
    assert result.code == 0 and result.err == ""
    folder = work.task(3) / "e" / "fold0"
    assert {path.name for path in folder.iterdir()} == {
        "best.pt", "last.pt", "model.json", "history.csv", "predictions.csv", "probability", "02_train.run.json"
    }  # fmt: skip
    history = tables.read_csv(folder / "history.csv", ["epoch"])
    assert list(history) == ["epoch", "lr", "train_loss", "val_loss", "val_dice", "seconds"]
    frame = tables.read_predictions(folder, ["windows", "peak"])
    data = segmentation_data.load(work)
    part = data.part_of(0, "patient", "folds")
    assert sorted(frame["image_id"]) == sorted(data.table["image_id"][part != "train"])
    assert {path.stem for path in (folder / "probability").iterdir()} == set(frame["image_id"])
    first = Image.open(folder / "probability" / f"{frame['image_id'][0]}.png")
    assert first.size == (72, 64) and first.mode == "L"
    peaks = [np.asarray(Image.open(folder / "probability" / f"{name}.png")).max() for name in frame["image_id"]]
    assert peaks == frame["peak"].tolist() and max(peaks) > 200
    assert dice_of_part(work, folder, "test")[1] > 0.6
    # validation in training was the same number, but for the mean with the mirrored image and the boxes' least confidence
    assert dice_of_part(work, folder, "val")[1] == pytest.approx(history["val_dice"].max(), abs=0.15)


def test_other_patients_validate(work, rims):
    assert rims(*BOX, "--epochs", "1", "--validation", "3").code == 0
    folder = work.task(3) / "e" / "fold0"
    frame, fold_of = tables.read_predictions(folder), tables.read_splits(work).set_index("image_id")["fold"]
    assert set(fold_of[frame["image_id"][frame["part"] == "val"]]) == {3}
    assert set(fold_of[frame["image_id"][frame["part"] == "test"]]) == {0}
    spec = networks.SegmenterSpec.read(folder)
    assert spec.validation == 3 and spec.least_confidence == 0.02, "the detector of the fold has learned from these patients"
    assert refused(rims(*BOX, "--split", "given", "--validation", "3", "--overwrite"), "--validation", "--split given")
    assert refused(rims(*BOX, "--epochs", "1", "--validation", "2", "--overwrite", "--resume"), "was trained with --validation 3")


def test_windows_only_where_a_box_is(work):
    trained.rims(work)
    folder = work.task(3) / "e" / "fold0"
    spec = networks.SegmenterSpec.read(folder)
    assert (spec.source_size, spec.image_size, spec.region, spec.boxes, spec.mirror) == (72, 32, "box", "d", "horizontal")
    found = tables.read_predictions(work.task(2) / "d" / "fold0")
    kept = found[found["confidence"] >= spec.least_confidence].groupby("image_id").size()
    frame = tables.read_predictions(folder, ["windows"]).set_index("image_id")["windows"]
    assert frame.to_dict() == kept.reindex(frame.index).fillna(0).astype(int).to_dict() and (frame == 0).any()
    for name in frame.index[frame == 0]:
        assert not np.asarray(Image.open(folder / "probability" / f"{name}.png")).any()


def test_the_upper_bound_stands_apart_and_says_what_it_is(work, learned):
    bound = work.task(3) / "e" / "truth-boxes" / "fold0"
    assert networks.SegmenterSpec.read(bound).boxes == "truth" and not (bound / "best.pt").exists()
    frame = tables.read_predictions(bound, ["windows"]).set_index("image_id")["windows"]
    assert frame.sum() == tables.read_boxes(work)["image_id"].isin(frame.index).sum()
    assert learned(*BOX, "--epochs", "1", "--lr", "1e-2", "--overwrite").code == 0
    assert not bound.exists(), "that of an earlier model"
    assert learned("--region", "box", "--boxes", "truth", "--epochs", "1", "--experiment", "t").code == 0
    assert networks.SegmenterSpec.read(work.task(3) / "t" / "fold0").boxes == "truth"


def test_interrupted_and_resumed_equals_uninterrupted_to_the_bit(work, rims, monkeypatch):
    flags = (*BOX, "--epochs", "3", "--augment", "strong", "--context", "1", "--ema", "0.9")
    assert rims(*flags).code == 0

    def interrupt(epoch: int, *_, **__):
        if epoch == 2:
            raise KeyboardInterrupt

    shown = training_fit.print_epoch
    monkeypatch.setattr(training_fit, "print_epoch", interrupt)
    assert rims(*flags, "--experiment", "k").code == 130
    assert networks.SegmenterSpec.read(work.task(3) / "k" / "fold0").context == 1  # what is there so far can be used
    monkeypatch.setattr(training_fit, "print_epoch", shown)
    resumed = rims(*flags, "--experiment", "k", "--resume")
    assert resumed.code == 0 and "goes on after epoch 2" in resumed.out
    states = [torch.load(work.task(3) / name / "fold0/last.pt", weights_only=True) for name in ("e", "k")]
    assert all(torch.equal(states[0][of][name], states[1][of][name]) for of in ("model", "average") for name in states[0][of])
    pairs = zip(*(sorted((work.task(3) / name / "fold0/probability").iterdir()) for name in ("e", "k")), strict=True)
    assert all(files.sha256(one) == files.sha256(other) for one, other in pairs)


def test_what_is_kept_is_the_moving_average_of_the_weights(work, learned):
    def kept() -> tuple[dict, dict]:
        folder = work.task(3) / "e" / "fold0"
        return torch.load(folder / "best.pt", weights_only=True), torch.load(folder / "last.pt", weights_only=True)

    best, last = kept()
    assert all(torch.equal(best[name], last["average"][name]) for name in best)
    assert not torch.equal(best["0.weight"], last["model"]["0.weight"])
    assert learned(*BOX, "--epochs", "1", "--overwrite").code == 0
    plain, last = kept()
    assert last["average"] is None and all(torch.equal(plain[name], last["model"][name]) for name in plain)
    assert not torch.equal(best["0.weight"], plain["0.weight"])
    older = {key: value for key, value in last.items() if key not in ("average", "steps")}  # as it was before there was --ema
    arguments, resolved = older.pop("arguments"), {"image_size": 32, "mirror": "horizontal", "label": None}
    older["settings"] = {name: arguments[name] for name in OF_VERSION_0_1 if name in arguments} | resolved
    older["inputs"].pop(next(iter(older["inputs"])))
    (work.task(3) / "e/fold0/02_train.run.json").unlink()  # it knows the right one
    checkpoints.save(work.task(3) / "e/fold0/last.pt", older)
    assert "goes on after epoch 1" in learned(*BOX, "--epochs", "1", "--resume").out
    checkpoints.save(work.task(3) / "e/fold0/last.pt", older)
    assert refused(learned(*BOX, "--epochs", "1", "--overwrite", "--resume", "--ema", "0.99"), "without --ema")


def test_a_network_that_says_nothing_still_writes_all(work, rims, monkeypatch):
    real = networks.logits
    monkeypatch.setattr(networks, "logits", lambda *words: real(*words) * 0 - 50)
    assert rims(*BOX, "--epochs", "1").code == 0
    frame = tables.read_predictions(work.task(3) / "e" / "fold0", ["peak"])
    assert len(frame) == 24 and (frame["peak"] == 0).all()


def test_boxes_that_lie_in_no_training_slice_stop(work, rims):
    boxes, folds = tables.read_boxes(work), tables.read_splits(work).set_index("image_id")["fold"]
    tables.write_csv(work.work / "boxes.csv", boxes[boxes["image_id"].map(folds) < 2])
    assert refused(rims(*BOX), "boxes.csv", "0 box(es)", "--region slice")


def test_a_detector_that_found_nothing(work, rims):
    simulated_boxes.predict(work, "d", sensitivity=0.0, alarms=0.0)
    assert rims(*BOX, "--epochs", "1").code == 0
    assert (tables.read_predictions(work.task(3) / "e" / "fold0", ["windows"])["windows"] == 0).all()


def test_masks_that_are_missing_are_neither_learned_from_nor_scored(work, rims):
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    labels.loc[labels["patient"].isin(["0001", "0002"]), "mask"] = ""
    tables.write_labels(work, labels, dataset)
    result = rims(*BOX, "--epochs", "1")
    assert result.code == 0 and "12 of 60 slices have no mask file" in result.out
    data = segmentation_data.load(work)
    fold = data.fold(work.task(3) / "e" / "fold0", Selection())
    part, rows = fold.part, np.flatnonzero((fold.part == "train") & data.known)
    spec = networks.SegmenterSpec.read(fold.folder)
    boxes = windows.read_boxes(work, data, spec, work.task(2) / "d" / "fold0")
    drawn = windows.plan(spec, boxes, fold, rows, data.known, 1.0).training.draw(np.random.default_rng(0))
    assert data.known[drawn.rows].all() and (part[drawn.rows] == "train").all()
    assert len(tables.read_predictions(work.task(3) / "e" / "fold0")) == (part != "train").sum()


# --- mistakes: one line, exit code 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--region", "box", "--boxes", "nowhere"), ("nowhere", "experiments of task 2: d")),
        ((*BOX, "--protocol", "slice"), ("--boxes d", "patient", "leak")),
        ((*BOX, "--weights", "nowhere.pt"), ("nowhere.pt",)),
        ((*BOX, "--mask-value", "7"), ("no mask of train",)),
        ((*WHOLE, "--upper-bound"), ("--upper-bound", "--region box")),
    ],
)
def test_flags_that_cannot_be_served(work, rims, flags, words):
    assert refused(rims(*flags, "--epochs", "1"), *words)
    assert not (work.task(3) / "e/fold0/best.pt").exists()


def test_boxes_of_another_fold_or_split_stop(work, rims):
    folder = work.task(2) / "d" / "fold0"
    told = files.read_json(folder / "model.json")
    files.write_json(folder / "model.json", told | {"fold": 1})
    assert refused(rims(*BOX), "fold 1", "leak")
    files.write_json(folder / "model.json", told | {"splits_sha256": "0" * 64})
    assert refused(rims(*BOX), "splits.csv", "d")
    files.write_json(folder / "model.json", told)
    frame = tables.read_csv(folder / "train_predictions.csv", ["part"])
    tables.write_csv(folder / "train_predictions.csv", frame.assign(part="test"))
    assert refused(rims(*BOX), "leak")
    tables.write_csv(folder / "train_predictions.csv", frame)
    old = (folder / "train_predictions.csv").stat().st_mtime
    (folder / "best.pt").write_bytes(b"weights")
    for name, seconds in (("best.pt", 10), ("predictions.csv", 20)):
        os.utime(folder / name, (old + seconds, old + seconds))
    assert refused(rims(*BOX), "train_predictions.csv is missing or older than best.pt", "--resume")


def test_data_without_masks_and_a_part_without_a_lesion(work, run_step):
    toy.make(work, boxes=True)
    words = (TRAIN, "--root", work.root, *COMMON, *WHOLE)
    assert refused(run_step(*words), "labels.csv", "no mask")


def test_a_mask_of_another_size_stops_before_training(work, rims):
    path = next(work.raw.glob("*_mask.png"))
    Image.open(path).resize((10, 10)).save(path)
    assert refused(rims(*BOX), path.name, "10 x 10", "72 x 64")
    assert not (work.task(3) / "e/fold0/best.pt").exists()
