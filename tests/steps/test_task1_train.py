"""Task 1 training and prediction on a toy data set: files, resume to the bit, flags, and every mistake a user can make."""

import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY
from PIL import Image

from helpers import toy
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.classification import networks
from hemoct.data import images
from hemoct.training import checkpoints, device

TRAIN = "task1_classification/01_train.py"
# timm's test_resnet is a real residual network, only tiny
SMALL = (
    "--dataset",
    "toy",
    "--weights",
    "none",
    "--image-size",
    "32",
    "--batch-size",
    "8",
    "--lr",
    "1e-3",
    "--device",
    "cpu",
    "--backbone",
    "test_resnet",
)


@pytest.fixture
def train(work, run_step):
    return lambda *words: run_step(TRAIN, "--root", work.root, *SMALL, "--experiment", "e", *words)


def test_a_fold_leaves_exactly_its_files_and_learns(work, train):
    toy.make(work)
    result = train("--fold", "0", "--epochs", "6")
    assert result.code == 0, result.err
    folder = work.task(1) / "e" / "fold0"
    assert {path.name for path in folder.iterdir()} == {*checkpoints.MODEL, "predictions.csv", "01_train.run.json"}
    history = tables.read_csv(folder / "history.csv", ["epoch", "train_loss", "val_loss", "val_accuracy"])
    assert len(history) == 6 and history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] * 0.7
    record = files.read_json(folder / "01_train.run.json")
    assert record["status"] == "ok" and record["device"] == "cpu" and record["inputs"]["data/work/toy/splits.csv"]
    assert train("--fold", "0", "--epochs", "6", "--skip-if-done").out.startswith("up to date")


def test_the_same_command_gives_the_same_weights(work, train):
    toy.make(work)
    states = []
    for _ in range(2):
        assert train("--fold", "1", "--epochs", "2", "--augment", "affine").code == 0
        states.append(torch.load(work.task(1) / "e" / "fold1" / "best.pt", weights_only=True))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("schedule", ["onecycle", "plateau"])
def test_killed_and_resumed_equals_uninterrupted_to_the_bit(work, train, schedule):
    toy.make(work, patients=15, slices=6)
    flags = ("--fold", "0", "--epochs", "5", "--augment", "affine", "--schedule", schedule, "--threads", "1")
    assert train(*flags).code == 0
    folder = work.task(1) / "e" / "fold0"
    whole = {name: torch.load(folder / name, weights_only=True) for name in ("best.pt", "last.pt")}

    command = [sys.executable, REPOSITORY / TRAIN, "--root", work.root, *SMALL, "--experiment", "k", *flags]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    for line in running.stdout:
        if "epoch 2/5" in line:
            os.killpg(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    killed = work.task(1) / "k" / "fold0"
    done_before = len(torch.load(killed / "last.pt", weights_only=True)["history"])
    assert 2 <= done_before < 5

    resumed = train(*flags, "--experiment", "k", "--resume")
    assert resumed.code == 0 and f"goes on after epoch {done_before}" in resumed.out
    best = torch.load(killed / "best.pt", weights_only=True)
    assert all(torch.equal(best[name], whole["best.pt"][name]) for name in best)
    last = torch.load(killed / "last.pt", weights_only=True)
    assert all(torch.equal(last["model"][name], whole["last.pt"]["model"][name]) for name in last["model"])


def test_a_cache_in_shards_is_learned_from_alike(work, train, monkeypatch):
    toy.make(work)
    flags = ("--fold", "0", "--epochs", "2", "--augment", "affine", "--threads", "1")
    assert train(*flags).code == 0
    monkeypatch.setattr(images, "SHARD", 5)
    assert train(*flags, "--experiment", "s").code == 0
    whole, in_shards = (torch.load(work.task(1) / name / "fold0" / "best.pt", weights_only=True) for name in "es")
    assert all(torch.equal(in_shards[name], whole[name]) for name in whole)
    assert len(list(work.cache.glob("grey-*.npy"))) > 4


def test_resume_refuses_other_flags(work, train):
    toy.make(work)
    assert train("--fold", "0", "--epochs", "1").code == 0
    result = train("--fold", "0", "--epochs", "2", "--resume", "--overwrite")
    assert result.code == 2 and "--epochs 1" in result.err and result.err.count("\n") == 1


def test_resume_starts_over_when_the_labels_have_changed(work, train):
    labels = toy.make(work)
    assert train("--fold", "0", "--epochs", "2").code == 0
    labels["hemorrhage"] = 1 - labels["hemorrhage"]
    tables.write_labels(work, labels, tables.read_dataset(work))
    result = train("--fold", "0", "--epochs", "2", "--resume")
    assert result.code == 0 and "starts from the beginning" in result.out and "epoch 1/2" in result.out


def test_a_finished_experiment_is_not_written_over(work, train):
    toy.make(work)
    assert train("--fold", "0", "--epochs", "1").code == 0
    before = files.sha256(work.task(1) / "e" / "fold0" / "best.pt")
    result = train("--fold", "0", "--epochs", "2")
    assert result.code == 2 and "--overwrite" in result.err
    assert files.sha256(work.task(1) / "e" / "fold0" / "best.pt") == before
    assert train("--fold", "0", "--epochs", "2", "--overwrite").code == 0


@pytest.mark.parametrize(
    "flags",
    [
        ("--balance", "sampler", "--optimizer", "sgd", "--schedule", "cosine"),
        ("--balance", "weights", "--transfer", "frozen", "--schedule", "constant", "--backbone", "resnet18"),
        ("--transfer", "partial", "--backbone", "mobilenetv3_small_050"),
        ("--protocol", "slice", "--augment", "light", "--patience", "1"),
    ],
)
def test_the_flags_train(work, train, flags):
    toy.make(work)
    assert train("--fold", "0", "--epochs", "1", *flags).code == 0


def test_exclusive_classes_and_the_given_split(work, train):
    labels = toy.make(work, labels=("NORMAL", "PNEUMONIA"), exclusive=True)
    dataset = tables.read_dataset(work)
    labels["given_split"] = np.where(labels["patient"] > "0008", "test", "train")
    tables.write_labels(work, labels, dataset)
    assert train("--split", "given", "--epochs", "1").code == 0
    spec = files.read_json(work.task(1) / "e" / "fold0" / "model.json")
    assert spec["exclusive"] and spec["classes"] == ["NORMAL", "PNEUMONIA"] and spec["split"] == "given"


def test_refit_trains_on_everybody_for_the_mean_best_epoch(work, train, run_step):
    toy.make(work)
    assert train("--refit").code == 2  # needs the folds first
    assert train("--fold", "0", "--epochs", "3").code == 0
    result = train("--refit", "--epochs", "3")
    assert result.code == 0, result.err
    history = tables.read_csv(work.task(1) / "e" / "fold0" / "history.csv", ["epoch"])
    refit = tables.read_csv(work.task(1) / "e" / "refit" / "history.csv", ["epoch"])
    assert len(refit) == history["epoch"][history["val_loss"].idxmin()] and "val_loss" not in refit.columns
    predicted = run_step("task1_classification/04_predict.py", work.raw, "--experiment", "e", "--refit", "--root", work.root,
                         "--dataset", "toy", "--device", "cpu")  # fmt: skip
    assert predicted.code == 0, predicted.err


def test_predict_is_the_mean_of_the_fold_models(work, train, run_step):
    toy.make(work)
    assert train("--fold", "0", "--epochs", "2").code == 0 and train("--fold", "1", "--epochs", "2").code == 0

    def predict() -> pd.Series:
        words = (work.raw, "--experiment", "e", "--root", work.root, "--dataset", "toy", "--device", "cpu")
        result = run_step("task1_classification/04_predict.py", *words)
        assert result.code == 0, result.err
        return tables.read_csv(work.task(1) / "e" / "predicted.csv", ["image"])["p_hemorrhage"]

    both = predict()
    assert len(both) == 40 and both.between(0, 1).all() and both.nunique() > 1
    single = []
    for fold in ("fold1", "fold0"):
        (work.task(1) / "e" / fold / "best.pt").rename(work.root / "aside.pt")
        single.append(predict())
        (work.root / "aside.pt").rename(work.task(1) / "e" / fold / "best.pt")
    np.testing.assert_allclose(both, (single[0] + single[1]) / 2, atol=1e-6)


# --- mistakes: one line, exit code 2, nothing half-written


def test_unknown_backbone(work, train):
    toy.make(work)
    assert refused(train("--backbone", "resnet81"), "resnet81", "near it")
    assert not (work.task(1) / "e" / "fold0" / "model.json").exists()


def test_cuda_where_there_is_none(work, train):
    toy.make(work)
    if not torch.cuda.is_available():
        assert refused(train("--device", "cuda"), "--device cuda", "cpu")


def test_imagenet_weights_without_a_network(work, train, monkeypatch, tmp_path):
    toy.make(work)
    for name, value in {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert refused(train("--weights", "imagenet"), "--weights none", "test_resnet")


def test_weights_of_another_model_or_no_weights_at_all(work, train):
    toy.make(work)
    assert train("--fold", "0", "--epochs", "1").code == 0
    best = work.task(1) / "e" / "fold0" / "best.pt"
    assert refused(train("--fold", "0", "--weights", best, "--backbone", "resnet18", "--experiment", "g"), "another model")
    listed = work.root / "list.pt"
    torch.save([1, 2], listed)
    assert refused(train("--weights", listed, "--experiment", "g"), "list.pt")
    broken = work.root / "broken.pt"
    broken.write_bytes(b"not a checkpoint")
    assert refused(train("--weights", broken, "--experiment", "g"), "broken.pt")
    assert refused(train("--weights", work.root / "absent.pt", "--experiment", "g"), "absent.pt")


def test_a_checkpoint_that_does_not_fit_its_model_json(work, train, run_step):
    toy.make(work)
    assert train("--fold", "0", "--epochs", "1").code == 0
    path = work.task(1) / "e" / "fold0" / "model.json"
    files.write_json(path, files.read_json(path) | {"backbone": "resnet18"})
    words = (work.raw, "--experiment", "e", "--root", work.root, "--dataset", "toy")
    assert refused(run_step("task1_classification/04_predict.py", *words), "model.json is not the one that was trained")
    (path.parent / "01_train.run.json").unlink()
    assert refused(run_step("task1_classification/04_predict.py", *words), "best.pt", "another model")
    assert not (work.task(1) / "e" / "predicted.csv").exists()


def test_a_truncated_image(work, train):
    toy.make(work)
    path = work.raw / "0003_01.png"
    path.write_bytes(path.read_bytes()[:200])
    assert refused(train("--fold", "0"), "0003_01.png")
    assert not list(work.cache.glob("*.npy"))


def test_an_image_that_is_gone(work, train):
    toy.make(work)
    (work.raw / "0003_01.png").unlink()
    assert refused(train("--fold", "0"), "0003_01.png")


def test_a_full_disk_while_saving_keeps_the_last_checkpoint(work, train, monkeypatch):
    toy.make(work)
    saved = torch.save
    calls = []

    def full(content, stream):
        calls.append(stream)
        if len(calls) > 2:
            with open("/dev/full", "wb", buffering=0) as disk:  # the real error of a real device, in the middle of a file
                saved(content, disk)
        saved(content, stream)

    monkeypatch.setattr(torch, "save", full)
    assert refused(train("--fold", "0", "--epochs", "3"), "No space left")
    folder = work.task(1) / "e" / "fold0"
    assert len(torch.load(folder / "last.pt", weights_only=True)["history"]) == 1
    assert not list(folder.glob(".tmp-*"))
    assert files.read_json(folder / "01_train.run.json")["status"] == "unfinished"
    monkeypatch.setattr(torch, "save", saved)
    assert train("--fold", "0", "--epochs", "3", "--resume").code == 0


@pytest.mark.parametrize(
    "flags", [("--weight-decay", "-1"), ("--warmup", "2"), ("--seed", "-1"), ("--batch-size", "1"), ("--limit-patients", "0")]
)
def test_numbers_out_of_range(work, train, flags):
    assert refused(train(*flags), flags[0])


def test_an_image_size_that_the_backbone_cannot_take(work, train):
    toy.make(work)
    assert refused(train("--backbone", "inception_v3", "--image-size", "48"), "inception_v3", "48 px", "--image-size")


def test_weights_of_another_fold_would_leak(work, train):
    toy.make(work)
    assert train("--fold", "0", "--epochs", "1").code == 0
    best = work.task(1) / "e" / "fold0" / "best.pt"
    assert train("--fold", "0", "--epochs", "1", "--weights", best, "--experiment", "f").code == 0
    assert refused(train("--fold", "1", "--epochs", "1", "--weights", best, "--experiment", "g"), "leak", "fold 0")
    assert refused(train("--fold", "0", "--epochs", "1", "--weights", best, "--experiment", "g", "--protocol", "slice"), "leak")


def test_patients_that_changed_since_the_split_stop_training(work, train, run_step):
    labels = toy.make(work)
    labels["patient"] = labels["patient"].str[-1] + "x"
    tables.write_labels(work, labels, tables.read_dataset(work))
    assert refused(train("--fold", "0"), "another patient")
    assert refused(run_step("scripts/05_make_splits.py", "--root", work.root, "--dataset", "toy"), "another patient")


def test_training_again_leaves_nothing_of_the_old_model(work, train):
    toy.make(work)
    assert train("--fold", "0", "--epochs", "1").code == 0
    folder = work.task(1) / "e" / "fold0"
    (folder / "predictions.csv").write_text("old")
    assert refused(train("--fold", "0", "--epochs", "2", "--lr", "1e30", "--overwrite"), "not finite")
    assert {path.name for path in folder.iterdir()} <= {"model.json", "01_train.run.json", "best.pt", "last.pt", "history.csv"}
    assert not (folder / "predictions.csv").exists()


def test_unknown_labels_are_predicted_but_not_trained_on(work, train):
    labels = toy.make(work).astype({"hemorrhage": "Int64"})
    labels.loc[labels.index[:6], "hemorrhage"] = None
    tables.write_labels(work, labels, tables.read_dataset(work))
    result = train("--epochs", "1")
    assert result.code == 0 and "6 of 40 slices have an unknown label" in result.out
    frames = [tables.read_predictions(work.task(1) / "e" / f"fold{fold}") for fold in range(5)]
    tested = pd.concat(frame[frame["part"] == "test"] for frame in frames)
    assert len(tested) == 40 and tested["y_hemorrhage"].isna().sum() == 6 and tested["p_hemorrhage"].notna().all()


def test_a_trained_model_only_predicts_when_it_is_resumed(work, train):
    """So experiments of older versions, which predicted while they were evaluated, go on."""
    toy.make(work)
    assert train("--fold", "0", "--epochs", "2").code == 0
    folder = work.task(1) / "e" / "fold0"
    before, best = (folder / "predictions.csv").read_bytes(), (folder / "best.pt").read_bytes()
    (folder / "predictions.csv").unlink()
    result = train("--fold", "0", "--epochs", "2", "--resume")
    assert result.code == 0 and "goes on after epoch 2" in result.out and "epoch 1/2" not in result.out
    assert (folder / "predictions.csv").read_bytes() == before and (folder / "best.pt").read_bytes() == best


def test_a_loss_that_is_not_finite(work, train):
    toy.make(work)
    assert refused(train("--fold", "0", "--lr", "1e30", "--epochs", "3"), "not finite", "--lr")


def test_labels_without_a_fold(work, train):
    toy.make(work)
    split = tables.read_splits(work)
    tables.write_splits(work, split.iloc[1:])
    assert refused(train("--fold", "0"), "05_make_splits.py")


def test_a_new_split_makes_old_predictions_unusable(work, train, run_step):
    toy.make(work)
    assert train("--fold", "0", "--epochs", "1").code == 0
    split = tables.read_splits(work)
    split["fold"] = (split["fold"] + 1) % 5
    tables.write_splits(work, split)
    result = run_step("task1_classification/02_evaluate.py", "--root", work.root, "--dataset", "toy")
    assert refused(result, "splits.csv is not the one")


def test_devices_are_taken_in_order(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    device.pick.cache_clear()
    assert device.pick("auto").type == device.pick("auto").type == "mps"
    device.pick.cache_clear()
    assert capsys.readouterr().out.count("\n") == 1


def test_training_says_how_long_the_rest_takes(work, train):
    toy.make(work)
    lines = train("--fold", "0", "--epochs", "2").out.splitlines()
    assert ["to go" in line for line in lines if "epoch" in line and "/" in line and "loss" in line] == [True, False]


def test_wide_images_keep_their_aspect_ratio(work, run_step):
    wide = np.full((10, 40), 255, np.uint8)
    fitted = images.resize(wide, 20)
    assert fitted.shape == (20, 20) and fitted[10].min() == 255 and fitted[0].max() == 0 and fitted[-1].max() == 0
    Image.fromarray(wide).save(work.root / "wide.png")
    assert (images.read_grey(work.root / "wide.png") == 255).all()


@pytest.mark.parametrize(("units", "layers"), [((), 1), (("--units", "6"), 3), (("--units", "16,8"), 5)])
def test_joined_networks_are_trained_together_and_loaded_again(work, train, run_step, units, layers):
    toy.make(work)
    result = train("--fold", "0", "--epochs", "2", "--join", "test_efficientnet", *units)
    assert result.code == 0, result.err
    model, spec = networks.load(work.task(1) / "e" / "fold0", torch.device("cpu"))
    assert spec.joined == ["test_efficientnet"] and len(model.head) == layers
    began = networks.build(spec)
    assert all(any((a != b).any() for a, b in zip(one.parameters(), other.parameters(), strict=True))
               for one, other in zip(model.body.bodies, began.body.bodies, strict=True)), "all of them learn"  # fmt: skip
    predicted = run_step("task1_classification/04_predict.py", "--root", work.root, "--dataset", "toy", "--device", "cpu",
                         "--experiment", "e", work.raw)  # fmt: skip
    assert predicted.code == 0 and len(pd.read_csv(work.task(1) / "e" / "predicted.csv")) == 40


def test_each_joined_network_sees_what_it_was_trained_with():
    """One with mean 0.5, one with another: the same image reaches both in their own scale."""
    spec = networks.ClassifierSpec(
        image_size=32, mean=0.2, std=0.4, protocol="patient", split="folds", fold=0, splits_sha256="", backbone="test_resnet",
        classes=["a"], exclusive=False, joined=["test_resnet"],
    )  # fmt: skip
    model = networks.build(spec).eval()
    model.body.scales.copy_(torch.tensor([[1.0, 0.0], [0.4 / 0.5, (0.2 - 0.5) / 0.5]]))
    image = torch.rand(2, 1, 32, 32)
    seen = []
    for body in model.body.bodies:
        body.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model((image - spec.mean) / spec.std)
    assert torch.allclose(seen[0], (image - 0.2) / 0.4) and torch.allclose(seen[1], (image - 0.5) / 0.5, atol=1e-6)


def test_flags_of_joined_networks_that_do_not_fit(work, train):
    toy.make(work)
    assert refused(train("--units", "6"), "--units goes with --join")
    assert refused(train("--units", "0", "--join", "test_vit"), "--units")
    assert refused(train("--fold", "0", "--join", "test_resnet", "--transfer", "partial"), "--transfer partial", "--join")
    assert refused(train("--fold", "0", "--join", "test_resnett"), "test_resnett is unknown", "test_resnet")


@pytest.mark.parametrize("value", [0, 1])
def test_a_training_on_one_class_stops(work, train, value):
    labels = toy.make(work)
    tables.write_labels(work, labels.assign(hemorrhage=value), tables.read_dataset(work))
    assert refused(train("--epochs", "1"), f"the same labels (hemorrhage = {value})", "--without-xml negative")
    assert not list(work.task(1).glob("e/fold*/best.pt"))


def test_a_convolutional_head_is_trained_kept_and_rebuilt(work, train):
    toy.make(work)
    assert train("--fold", "0", "--epochs", "6", "--head", "conv").code == 0
    folder = work.task(1) / "e" / "fold0"
    model, spec = networks.load(folder, torch.device("cpu"))
    assert spec.head == "conv" and hasattr(model, "maps")
    history = tables.read_csv(folder / "history.csv", ["train_loss"])
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0] * 0.7
    assert refused(train("--head", "conv", "--join", "test_efficientnet"), "--head conv", "--join")
    assert refused(train("--fold", "0", "--head", "conv", "--backbone", "test_vit", "--overwrite"), "no feature maps")
