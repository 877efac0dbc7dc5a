"""Several tasks in one network: it parts into folds of tasks 1 and 3, single tasks are the same code, resume, mistakes stop."""

import numpy as np
import pytest
import torch

from helpers import interrupted, quick, toy
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.classification import networks as classification_networks
from hemoct.segmentation import networks as segmentation_networks
from hemoct.training import checkpoints

TRAIN = "task3_segmentation/10_train_multitask.py"
SMALL = ("--dataset", "toy", "--weights", "none", "--fold", "0", "--device", "cpu", "--image-size", "64", "--batch-size", "8",
         "--backbone", "test_resnet", "--model", "fpn", "--experiment", "e")  # fmt: skip
ALL = ("--tasks", "classify,segment,size")


@pytest.fixture
def train(work, run_step):
    return lambda *words: run_step(TRAIN, "--root", work.root, *SMALL, *words)


def make(work, masks: bool = True) -> None:
    toy.make(work, patients=10, slices=4, size=(72, 64), radius=9, boxes=True, masks=masks)


def forget(work, kind: str, every: int) -> None:
    """Empty the mask, or the label, of every so many slices."""
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    labels.loc[labels.index % every == 0, kind] = "" if kind == "mask" else None
    tables.write_labels(work, labels, dataset)


def folder(work, place: str, experiment: str = "e"):
    return work.outputs / place / experiment / "fold0"


# --- what a training leaves


def test_one_network_stands_in_both_comparisons(work, train, run_step, monkeypatch):
    make(work)
    forget(work, "mask", 7)
    forget(work, "hemorrhage", 9)
    result = train(*ALL, "--epochs", "12", "--lr", "3e-3", "--loss-weights", "uncertainty")
    assert result.code == 0 and result.err == "", result.err
    step = "10_train_multitask.run.json"
    kept = {"best.pt", "model.json", "history.csv", "predictions.csv", step}
    left = {place: {path.name for path in folder(work, place).iterdir()} for place in ("multitask", "task1", "task3")}
    assert left["task1"] == kept and left["task3"] == kept | {"probability"}
    assert left["multitask"] == {*checkpoints.MODEL, "sizes.csv", "sizes.json", step}
    history = tables.read_csv(folder(work, "multitask") / "history.csv", ["weight_classify", "weight_segment", "weight_size"])
    assert history["train_classify"].iloc[-1] < history["train_classify"].iloc[0]
    assert history["val_score"].iloc[-1] == pytest.approx(
        history[["val_auroc", "val_dice", "val_rank_correlation"]].iloc[-1].mean()
    )
    assert history["weight_classify"].nunique() > 1, "the weights are learned along"
    for place in ("task1", "task3"):  # what the tables of results ask of any training
        assert tables.read_csv(folder(work, place) / "history.csv", ["epoch", "val_loss", "seconds"])["seconds"].notna().all()
    sizes = tables.read_csv(folder(work, "multitask") / "sizes.csv", ["true_px", "predicted_px"])
    content = files.read_json(folder(work, "multitask") / "sizes.json")
    assert sizes["true_px"].isna().any() and content["n"] == (sizes["part"].eq("test") & sizes["true_px"].notna()).sum()
    assert content["metrics"]["mean_absolute_error_px"]["ci95"]

    quick.evaluations(monkeypatch)
    for evaluate, place, key in (
        ("task1_classification/02_evaluate.py", "task1", "auroc"),
        ("task3_segmentation/03_evaluate.py", "task3", "dice_patient"),
    ):
        result = run_step(evaluate, "--root", work.root, "--dataset", "toy", "--experiment", "e")
        assert result.code == 0, result.err
        metrics = files.read_json(folder(work, place).parent / "metrics.json")
        assert metrics["metrics"][key]["value"] > 0.6 and metrics["complete"] is False
    assert train(*ALL, "--epochs", "12", "--lr", "3e-3", "--loss-weights", "uncertainty", "--skip-if-done").out.startswith(
        "up to date"
    )


def test_the_parts_say_what_the_network_says(work, train):
    """Their weights are the network's, and their predictions those of the shared encoder."""
    make(work)
    assert train("--epochs", "2").code == 0
    cpu = torch.device("cpu")
    classifier, _ = classification_networks.load(folder(work, "task1"), cpu)
    segmenter, spec = segmentation_networks.load(folder(work, "task3"), cpu)
    images = torch.rand(3, 1, 64, 64)
    joint = checkpoints.read_state(folder(work, "multitask") / "best.pt")
    assert all(torch.equal(value, joint[f"body.{name}"]) for name, value in classifier.state_dict().items())
    with torch.inference_mode():
        features, maps = classifier.forward_intermediates(images)
        assert torch.equal(classifier.forward_head(features), classifier(images))
        drawn = segmenter.segmentation_head(segmenter.decoder([images, *maps]))
        torch.testing.assert_close(drawn, segmenter(images))
    assert spec.region == "slice" and spec.encoder == "tu-test_resnet" and spec.mirror == "horizontal"


@pytest.mark.parametrize(("task", "place", "other"), [("classify", "task1", "task3"), ("segment", "task3", "task1")])
def test_a_single_task_is_the_same_code(work, train, task, place, other):
    make(work, masks=task == "segment")
    result = train("--tasks", task, "--epochs", "1")
    assert result.code == 0, result.err
    assert (folder(work, place) / "predictions.csv").exists() and not folder(work, other).exists()
    assert "Next: python task" in result.out and result.out.count("Next:") == 1


def test_killed_and_resumed_equals_uninterrupted_to_the_bit(work, train):
    make(work)
    flags = (*ALL, "--loss-weights", "uncertainty", "--epochs", "3", "--ema", "0.9", "--threads", "1")
    assert train(*flags).code == 0
    names = [folder(work, place) / "best.pt" for place in ("multitask", "task1", "task3")]
    names.append(folder(work, "multitask") / "last.pt")
    whole = [torch.load(name, weights_only=True) for name in names]

    with interrupted.after_epoch(2) as done:
        assert train(*flags, "--overwrite").code == 130 and done == [1, 2]
    assert not (folder(work, "task1") / "predictions.csv").exists(), "that of the earlier network"
    assert files.read_json(folder(work, "task3") / "10_train_multitask.run.json")["status"] == "unfinished"
    result = train(*flags, "--resume")
    assert result.code == 0 and "goes on after epoch 2" in result.out, result.err
    for name, before in zip(names, whole, strict=True):
        after = torch.load(name, weights_only=True)
        before, after = before.get("model", before), after.get("model", after)
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_mask_that_is_not_known_teaches_nothing(work, train):
    """Its slice still counts in the loss of the label; where no slice of a task is known, the others are learned alone."""
    make(work)
    forget(work, "mask", 2)  # the masks of all slices without a lesion
    assert train("--epochs", "1").code == 0
    record = tables.read_csv(folder(work, "multitask") / "history.csv", ["train_segment"])
    assert np.isfinite(record["train_segment"]).all()


# --- mistakes


def test_mistakes_stop_in_one_line(work, train):
    make(work)
    assert refused(train("--tasks", "classify,draw"), "'draw'", "classify, segment, size")
    assert refused(train("--tasks", "classify,classify"), "different names")
    assert refused(train("--loss-weights", "1,2,3"), "3 number(s)", "classify, segment")
    assert refused(train("--tasks", "segment", "--loss-weights", "uncertainty"), "several tasks", "segment alone")
    assert refused(train("--loss-weights", "1,0"), "'0'", "above 0")
    assert refused(train("--backbone", "convnext_atto"), "convnext_atto", "cannot be shared")
    assert refused(train("--backbone", "resnet_18"), "--backbone resnet_18 is unknown")
    assert refused(train("--image-size", "100"), "100 px", "multiple of 32")
    other = folder(work, "task1", "taken")
    other.mkdir(parents=True)
    (other / "predictions.csv").touch()
    assert refused(train("--experiment", "taken"), "holds a fold of another step", "another --experiment")


@pytest.mark.parametrize("tasks", ["segment", "classify,size"])
def test_masks_that_are_missing_stop(work, train, tasks):
    make(work, masks=False)
    assert refused(train("--tasks", tasks), "names no mask", "cannot be used for segmentation")
