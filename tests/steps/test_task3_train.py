"""Task 3's training: windows and masks fit, a network learns rims of disks, resume to the bit, leaks and mistakes stop."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from helpers import simulated_boxes, toy
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import boxes as data_boxes
from hemoct.data import images
from hemoct.segmentation import data as segmentation_data
from hemoct.segmentation import lesion_windows, metrics, networks, train, windows
from hemoct.segmentation.lesion_windows import AroundBoxes, Boxes, WholeSlices, Windows
from hemoct.training import fit as training_fit

TRAIN = "task3_segmentation/02_train.py"
COMMON = ("--dataset", "toy", "--weights", "none", "--fold", "0", "--device", "cpu", "--image-size", "32", "--batch-size", "8",
          "--experiment", "e")  # fmt: skip
BOX = ("--region", "box", "--boxes", "d")
WHOLE = ("--region", "slice")


def tiny(*_, in_channels: int, **__) -> nn.Module:
    """A small network in place of a U-Net, which would take minutes."""
    layers: list[nn.Module] = []
    for inside, dilation in ((in_channels, 1), (16, 2), (16, 4)):
        layers += [nn.Conv2d(inside, 16, 3, padding=dilation, dilation=dilation), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(16, 1, 1))


@pytest.fixture
def rims(work, run_step, monkeypatch):
    """Rims of disks in images that are not square, and a detector that finds most of the disks."""
    toy.make(work, patients=10, slices=6, size=(72, 64), radius=9, boxes=True, masks=True)
    monkeypatch.setattr(networks.smp, "create_model", tiny)
    simulated_boxes.predict(work, "d", found=0.95, alarms=0.2, side=64)
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


def test_windows_only_where_a_box_is(work, rims):
    assert rims(*BOX, "--epochs", "1").code == 0
    folder = work.task(3) / "e" / "fold0"
    spec = networks.SegmenterSpec.read(folder)
    assert (spec.source_size, spec.image_size, spec.region, spec.boxes, spec.mirror) == (72, 32, "box", "d", "horizontal")
    found = tables.read_predictions(work.task(2) / "d" / "fold0")
    kept = found[found["confidence"] >= spec.least_confidence].groupby("image_id").size()
    frame = tables.read_predictions(folder, ["windows"]).set_index("image_id")["windows"]
    assert frame.to_dict() == kept.reindex(frame.index).fillna(0).astype(int).to_dict() and (frame == 0).any()
    for name in frame.index[frame == 0]:
        assert not np.asarray(Image.open(folder / "probability" / f"{name}.png")).any()


def test_the_upper_bound_stands_apart_and_says_what_it_is(work, rims):
    assert rims(*BOX, "--epochs", "1", "--upper-bound").code == 0
    bound = work.task(3) / "e" / "truth-boxes" / "fold0"
    assert networks.SegmenterSpec.read(bound).boxes == "truth" and not (bound / "best.pt").exists()
    frame = tables.read_predictions(bound, ["windows"]).set_index("image_id")["windows"]
    assert frame.sum() == tables.read_boxes(work)["image_id"].isin(frame.index).sum()
    assert rims(*BOX, "--epochs", "1", "--lr", "1e-2", "--overwrite").code == 0
    assert not bound.exists(), "that of an earlier model"
    assert rims("--region", "box", "--boxes", "truth", "--epochs", "1", "--experiment", "t").code == 0
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


def test_what_is_kept_is_the_moving_average_of_the_weights(work, rims):
    def kept(*flags: str) -> tuple[dict, dict]:
        assert rims(*BOX, "--epochs", "1", "--overwrite", *flags).code == 0
        folder = work.task(3) / "e" / "fold0"
        return torch.load(folder / "best.pt", weights_only=True), torch.load(folder / "last.pt", weights_only=True)

    best, last = kept("--ema", "0.99")
    assert all(torch.equal(best[name], last["average"][name]) for name in best)
    assert not torch.equal(best["0.weight"], last["model"]["0.weight"])
    plain, last = kept()
    assert last["average"] is None and all(torch.equal(plain[name], last["model"][name]) for name in plain)
    assert not torch.equal(best["0.weight"], plain["0.weight"])
    older = {key: value for key, value in last.items() if key not in ("average", "steps")}  # as it was before there was --ema
    older["settings"].pop("ema")
    older["inputs"].pop(next(iter(older["inputs"])))
    training_fit.save(work.task(3) / "e/fold0/last.pt", older)
    assert "goes on after epoch 1" in rims(*BOX, "--epochs", "1", "--resume").out
    training_fit.save(work.task(3) / "e/fold0/last.pt", older)
    assert refused(rims(*BOX, "--epochs", "1", "--overwrite", "--resume", "--ema", "0.99"), "without --ema")


def test_a_network_that_says_nothing_still_writes_all(work, rims, monkeypatch):
    real = train.logits
    monkeypatch.setattr(train, "logits", lambda *words: real(*words) * 0 - 50)
    assert rims(*BOX, "--epochs", "1").code == 0
    frame = tables.read_predictions(work.task(3) / "e" / "fold0", ["peak"])
    assert len(frame) == 24 and (frame["peak"] == 0).all()


def test_boxes_that_lie_in_no_training_slice_stop(work, rims):
    boxes, folds = tables.read_boxes(work), tables.read_splits(work).set_index("image_id")["fold"]
    tables.write_csv(work.work / "boxes.csv", boxes[boxes["image_id"].map(folds) < 2])
    assert refused(rims(*BOX), "boxes.csv", "0 box(es)", "--region slice")


def test_a_detector_that_found_nothing(work, rims):
    simulated_boxes.predict(work, "d", found=0.0, alarms=0.0)
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
    part = data.part_of(0, "patient", "folds")
    spec = networks.SegmenterSpec.read(work.task(3) / "e" / "fold0")
    plan = lesion_windows.plan(work, data, spec, work.task(2) / "d" / "fold0", part, data.known, 1.0)
    drawn = plan.learned.draw(np.random.default_rng(0))
    assert data.known[drawn.rows].all() and (part[drawn.rows] == "train").all()
    assert len(tables.read_predictions(work.task(3) / "e" / "fold0")) == (part != "train").sum()


# --- windows


def test_a_window_at_native_resolution_is_the_slice_itself_and_goes_back_to_its_place():
    random = np.random.default_rng(0)
    slices = torch.as_tensor(random.random((2, 1, 40, 40)), dtype=torch.float32)
    places = windows.around(np.array([[10, 12, 20, 24], [-6, 30, 6, 40]], dtype=float), 0.25, 16)
    assert places.tolist() == [[6, 9, 18], [-9, 26, 18]]
    cut = windows.cut(slices, windows.placement(torch.as_tensor(places, dtype=torch.float32), 40), 18)
    assert torch.allclose(cut[0, 0], slices[0, 0, 9:27, 6:24], atol=1e-5)
    assert torch.allclose(cut[1, 0, :14, 9:], slices[1, 0, 26:40, 0:9], atol=1e-5) and cut[1, 0, :, :9].abs().max() < 1e-5
    canvas = np.zeros((40, 40), dtype=np.float32)
    windows.paste(canvas, cut[1, 0].numpy(), places[1])
    expected = np.zeros((40, 40), dtype=np.float32)
    expected[26:, :9] = slices[1, 0, 26:, :9].numpy()
    assert np.allclose(canvas, expected, atol=1e-5)


def test_a_large_box_is_made_smaller_and_its_mask_comes_back_in_place():
    mask = np.zeros((64, 64), dtype=np.float32)
    mask[20:44, 8:40] = 1
    places = windows.around(np.array([[8.0, 20.0, 40.0, 44.0]]), 0.25, 16)
    placed = windows.placement(torch.as_tensor(places, dtype=torch.float32), 64)
    cut = windows.cut(torch.from_numpy(mask)[None, None], placed, 24)
    canvas = np.zeros((64, 64), dtype=np.float32)
    windows.paste(canvas, cut[0, 0].numpy(), places[0])
    assert ((canvas >= 0.5) == (mask >= 0.5)).all()


def test_overlapping_windows_keep_the_higher_probability():
    canvas = np.zeros((8, 8), dtype=np.float32)
    windows.paste(canvas, np.full((4, 4), 0.3, np.float32), np.array([0, 0, 4]))
    windows.paste(canvas, np.full((4, 4), 0.8, np.float32), np.array([2, 2, 4]))
    windows.paste(canvas, np.full((4, 4), 0.1, np.float32), np.array([2, 2, 4]))
    assert canvas[1, 1] == np.float32(0.3) and canvas[3, 3] == np.float32(0.8) and canvas[7, 7] == 0


def test_a_move_within_a_window_moves_slice_and_mask_alike():
    slices = torch.zeros(1, 2, 40, 40)
    slices[0, :, 10:14, 20:24] = 1
    placed = windows.placement(torch.tensor([[10.0, 4.0, 20.0]]), 40)
    mirrored = torch.tensor([[[1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]])
    cut = windows.cut(slices, windows.compose(placed, mirrored), 20)
    plain = windows.cut(slices, placed, 20)
    assert torch.allclose(cut, plain.flip(2), atol=1e-6) and torch.equal(cut[:, 0], cut[:, 1])


def test_validation_in_bf16_sees_windows_where_they_are(work, monkeypatch):
    toy.make(work, patients=5, slices=3, size=256, radius=40, boxes=True, masks=True)
    slices = train.Slices(work, segmentation_data.load(work), spec_for(source_size=256, image_size=64), torch.device("cpu"))
    scored = train.Scored.of(slices, np.arange(15), np.repeat(np.arange(5), 3))
    wanted = Windows(np.array([0, 1]), np.array([[180.0, 10, 64], [33, 151, 64]]), np.ones(2))
    seen, real = [], train.logits
    monkeypatch.setattr(train, "logits", lambda *words: seen.append(words[-1]) or real(*words))
    fit = SimpleNamespace(judged=nn.Conv2d(1, 1, 1), args=SimpleNamespace(batch_size=2),
                          autocast=lambda: torch.autocast("cpu", dtype=torch.bfloat16))  # fmt: skip
    train.validate(fit, scored, wanted, networks.loss_function("bce"))
    assert torch.equal(seen[0], next(slices.batches(wanted, 2))[0])


@pytest.fixture
def slices(work):
    """15 slices of 5 patients, 32 x 32."""
    toy.make(work, patients=5, slices=3, size=32, radius=5, boxes=True, masks=True)
    return train.Slices(work, segmentation_data.load(work), spec_for(), torch.device("cpu"))


def test_slices_without_a_window_count_as_empty_in_validation(slices):
    rows, patients, random = np.arange(3, 12), np.repeat(list("abc"), 3), np.random.default_rng(0)
    wanted = Windows(np.array([1, 4, 4, 8]), np.array([[0.0, 0, 16], [2, 3, 16], [20, 9, 16], [8, 8, 16]]), np.ones(4))
    patches = random.integers(0, 256, (4, 16, 16)).astype(np.uint8)
    canvases = np.zeros((15, 32, 32), dtype=np.uint8)  # row 1 is not scored; the windows of row 4 overlap nowhere
    for row, (x, y, _), patch in zip(wanted.rows, wanted.places.astype(int), patches, strict=True):
        canvases[row, y : y + 16, x : x + 16] = patch[:, : 32 - x]
    pairs = [(canvases[row], slices.truth(row)) for row in rows]
    assert sum(mask.any() and not canvas.any() for canvas, mask in pairs) > 1
    expected = metrics.best_threshold(metrics.Histograms.of(pairs), patients)
    assert train.Scored.of(slices, rows, patients).best(wanted, patches) == pytest.approx(expected)


def test_boxes_that_only_bring_false_alarms_are_not_looked_into(slices):
    rows, full = np.arange(15), [slices.truth(row).any() for row in range(15)]
    drawn, empty = full.index(True), full.index(False)
    y, x = (one.min() for one in np.nonzero(slices.truth(drawn)))
    of_lesion, alarm = (drawn, [x - 3.0, y - 3, 16], 0.8), (empty, [0.0, 0, 32], 0.35)
    wanted = Windows(*(np.array(column) for column in zip(*sorted([of_lesion, alarm]), strict=True)))
    scored = train.Scored.of(slices, rows, np.array(["a"] * 15))

    class Sure(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return torch.full_like(batch, 50.0)

    assert train.choose_confidence(Sure(), scored, wanted, 4) == 0.4


@pytest.mark.parametrize(("mirror", "also"), [("horizontal", (0, -1)), ("vertical", (0, 1)), (None, (0, 1))])
def test_the_mean_over_the_mirrored_image_is_along_its_axis(slices, mirror, also):
    """A network that draws one pixel to the right of what it sees: mirrored along x, one pixel to the left."""
    grey = torch.as_tensor(np.array(slices.grey.pixels[0])) / 255
    slices.spec = replace(slices.spec, mirror=mirror, mean=float(grey.mean()), std=0.01)

    class Shift(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return batch.roll(1, dims=3)

    found = train.patches(Shift(), slices, lesion_windows.whole_slices(np.array([0]), 32), 1)[0].astype(float)
    logit = (grey - grey.mean()) / 0.01
    moved = [logit.sigmoid().roll(shift, dims=(0, 1)).numpy() * 255 for shift in ((0, 1), also)]
    assert np.ptp(moved[0]) > 100 and np.abs(found - np.mean(moved, axis=0)).max() < 2


def test_neighbours_are_channels_around_their_slice(work):
    toy.make(work, patients=5, slices=3, size=32, boxes=True, masks=True)
    data = segmentation_data.load(work)
    spec = spec_for(context=1, source_size=32, image_size=32)
    slices = train.Slices(work, data, spec, torch.device("cpu"))
    wanted = lesion_windows.whole_slices(np.array([0, 1, 2, 3]), 32)
    batch, masks = next(slices.batches(wanted, 4))
    pixels = torch.from_numpy(np.array(images.cached(work, data.table, 32))).float() / 255
    expected = torch.stack([pixels[[0, 0, 1]], pixels[[0, 1, 2]], pixels[[1, 2, 2]], pixels[[3, 3, 4]]])
    assert torch.allclose(batch, expected, atol=1e-5)
    assert (masks[:, 0].bool().numpy() == np.stack([slices.truth(row) for row in range(4)])).all() and masks.any()


def spec_for(**more) -> networks.SegmenterSpec:
    usual = {"model": "unet", "encoder": "resnet18", "image_size": 32, "source_size": 32, "context": 0, "region": "slice",
             "mean": 0.2, "std": 0.3, "protocol": "patient", "split": "folds", "fold": 0, "splits_sha256": "x"}  # fmt: skip
    return networks.SegmenterSpec(**usual | more)


# --- what is drawn for an epoch


def test_whole_slices_are_all_positives_and_another_draw_of_empty_ones():
    positive = np.array([True, False, False, False, True, False])
    source = WholeSlices(np.arange(6), positive, 32, 1.0)
    drawn = [source.draw(np.random.default_rng(seed)) for seed in range(8)]
    assert len(source) == 4 and all(len(one) == 4 and {0, 4} <= set(one.rows) for one in drawn)
    assert set(np.concatenate([one.rows for one in drawn])) == set(range(6))
    assert len(WholeSlices(np.arange(6), positive, 32, 100.0)) == 6


def test_windows_without_a_lesion_lie_at_false_alarms_and_in_empty_slices():
    corners = np.array([[10.0, 10, 30, 30], [40, 40, 60, 60]])
    true = Boxes(np.array([0, 2]), corners, np.ones(2))
    found = Boxes(np.array([0, 0, 1, 5]), np.array([[11.0, 11, 31, 31], [50, 5, 60, 15], [70, 70, 90, 90], [1, 1, 9, 9]]),
                  np.array([0.9, 0.5, 0.2, 0.9]))  # fmt: skip
    source = AroundBoxes(np.arange(4), true, found, 0.1, 16, negatives=4.0)
    assert source.lures.rows.tolist() == [0, 1]  # not the one on the lesion, not that of a slice of another part
    drawn = source.draw(np.random.default_rng(0))
    assert len(drawn) == len(source) == 10 and {1, 3} <= set(drawn.rows) <= set(range(4))
    for row, place in zip(drawn.rows, drawn.places, strict=True):
        if row in (1, 3):
            continue
        low, high = place[:2], place[:2] + place[2]
        of_row = np.concatenate([corners[true.rows == row], found.corners[[1]]])
        assert data_boxes.iou(np.array([[*low, *high]]), of_row).max() > 0.1


def test_where_every_slice_has_a_lesion_an_epoch_is_as_long_as_it_says():
    true = Boxes(np.array([0, 1]), np.array([[10.0, 10, 30, 30], [40, 40, 60, 60]]), np.ones(2))
    found = Boxes(np.array([0]), np.array([[70.0, 70, 90, 90]]), np.array([0.9]))
    for lures, length in ((found, 3), (None, 2)):
        source = AroundBoxes(np.arange(2), true, lures, 0.1, 16, negatives=2.0)
        assert len(source.draw(np.random.default_rng(0))) == len(source) == length


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
    assert refused(rims(*BOX), "train_predictions.csv is older than best.pt", "--resume")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"encoder": "resnet19"}, ("--encoder resnet19", "near it", "resnet18")),
        ({"model": "unetplusplus", "image_size": 33}, ("33 px", "multiple of 32")),
    ],
)
def test_networks_that_cannot_be_built(more, words):
    with pytest.raises(UserError) as error:
        networks.build(spec_for(**more))
    assert all(word in str(error.value) for word in words)


def test_encoder_weights_without_a_network(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network in tests")

    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # without its retries
    with pytest.raises(UserError, match=r"--weights imagenet.*--weights none"):
        networks.build(spec_for(encoder="resnet18"), "imagenet")


def test_data_without_masks_and_a_part_without_a_lesion(work, run_step):
    toy.make(work, boxes=True)
    words = (TRAIN, "--root", work.root, *COMMON, *WHOLE)
    assert refused(run_step(*words), "labels.csv", "no mask")


def test_a_mask_of_another_size_stops_before_training(work, rims):
    path = next(work.raw.glob("*_mask.png"))
    Image.open(path).resize((10, 10)).save(path)
    assert refused(rims(*BOX), path.name, "10 x 10", "72 x 64")
    assert not (work.task(3) / "e/fold0/best.pt").exists()


@pytest.mark.parametrize("name", sorted(networks.LOSSES))
def test_each_loss_falls_towards_the_truth_and_is_finite_on_empty_masks(name):
    loss_of, target = networks.loss_function(name), torch.zeros(2, 1, 8, 8)
    target[0, 0, 2:5, 2:5] = 1
    sure = (target * 2 - 1) * 8
    assert loss_of(sure, target) < 0.1 < loss_of(-sure, target)
    assert bool(torch.isfinite(loss_of(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8))))


@pytest.mark.parametrize("name", ["unetplusplus", "fpn", "deeplabv3plus", "segformer", "linknet"])
def test_other_architectures_take_one_channel_and_neighbours(name):
    model = networks.build(spec_for(model=name, image_size=64, context=1))
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 1, 64, 64)


def test_windows_keep_the_order_that_pasting_needs():
    boxes = Boxes(np.array([3, 1, 3]), np.array([[0.0, 0, 9, 9], [1, 1, 5, 5], [4, 4, 8, 8]]), np.array([0.2, 0.9, 0.8]))
    found = boxes.windows(0.0, 4)
    assert found.rows.tolist() == [1, 3, 3] and found.least(0.5).confidence.tolist() == [0.9, 0.8]
    rows = [row for row, _ in train.pasted(found, np.ones((3, 4, 4), np.uint8), 16)]
    assert rows == [1, 3] and isinstance(found.of(np.array([1])), Windows)


def test_a_window_normalised_by_its_own_brain_does_not_know_the_scanners_window():
    random = np.random.default_rng(0)
    brain = torch.as_tensor(random.uniform(0.3, 0.5, (1, 1, 16, 16)), dtype=torch.float32)
    brain[..., :4, :] = 1.0  # bone
    brain[..., 12:, :] = 0.0  # air
    graded = torch.where((brain > 0) & (brain < 1), brain * 1.2 + 0.05, brain)
    spec = spec_for(normalise="window")
    one, other = train.normalised(brain, spec), train.normalised(graded, spec)
    assert torch.allclose(one[..., 4:12, :], other[..., 4:12, :], atol=1e-4)
    assert abs(float(one[..., 4:12, :].mean())) < 1e-4 and one.abs().max() <= train.LIMIT
    assert not torch.allclose(*(train.normalised(one, spec_for()) for one in (brain, graded)), atol=0.1)
    assert bool(train.normalised(torch.zeros(1, 1, 4, 4), spec).isfinite().all())


def test_a_small_lesion_counts_as_much_as_a_large_one_where_dice_is_by_window():
    loss_of, bce = networks.loss_function("bce-window-dice"), torch.nn.functional.binary_cross_entropy_with_logits
    target = torch.zeros(3, 1, 8, 8)
    target[0, :, :1, :2], target[1, :, :6] = 1, 1  # 2 pixels, 48 pixels, none
    found = torch.full_like(target, -20.0)
    found[1, :, :6] = 20  # the large one is found, the small one missed: soft Dice (0 + 1) / (2 + 1) and 1
    assert loss_of(found, target).item() == pytest.approx(bce(found, target).item() + (2 / 3 + 0) / 2, abs=1e-4)
    nothing = torch.zeros(2, 1, 8, 8)
    assert loss_of(nothing, nothing).item() == pytest.approx(bce(nothing, nothing).item()), "no lesion, no Dice"
