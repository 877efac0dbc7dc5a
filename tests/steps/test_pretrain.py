"""Pre-training: what it sees, resumed to the bit; what tasks 1, 3 and 4 take from it, and what stops."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import interrupted, quick, toy, toy_types
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.training import checkpoints

STEP = "scripts/07_pretrain.py"
SMALL = ("--backbone", "test_resnet", "--image-size", 64, "--epochs", 2, "--batch-size", 8, "--fold", 0, "--device", "cpu")
TASK1 = ("--backbone", "test_resnet", "--image-size", 64, "--epochs", 1, "--batch-size", 8, "--lr", "1e-3", "--device", "cpu")


@pytest.fixture
def step(work, run_step, monkeypatch):
    quick.figures(monkeypatch)
    return lambda name, *words: run_step(name, "--root", work.root, "--dataset", "toy", *words)


@pytest.fixture
def pretrained(work, step):
    """Fold 0 of the pre-training `p`."""
    toy.make(work, size=64)
    result = step(STEP, *SMALL, "--experiment", "p")
    assert result.code == 0, result.err
    return work.pretrained / "p" / "fold0"


def state(folder):
    return checkpoints.read_state(folder / "best.pt")


def equal(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("method", ["autoencoder", "simclr", "vicreg", "supcon"])
def test_every_method_learns_writes_its_files_and_goes_on_to_the_bit(work, step, method):
    toy.make(work, size=64)
    words = (*SMALL, "--method", method, "--experiment")
    assert step(STEP, *words, "whole").code == 0
    assert step(STEP, *words, "parts", "--epochs", 1).code == 0
    whole = work.pretrained / "whole" / "fold0"
    assert {"best.pt", "last.pt", "model.json", "history.csv", "curves.png"} <= {path.name for path in whole.iterdir()}
    assert (whole / "restored.png").exists() == (method == "autoencoder")
    told = files.read_json(whole / "model.json")
    assert told["task"] == 0 and told["patients"] == 6 and told["slices"] == 24 and told["classes"] == (
        ["hemorrhage"] if method == "supcon" else [])  # fmt: skip
    again = step(STEP, *words, "parts", "--resume", "--overwrite", "--epochs", 1)
    assert "goes on after epoch 1" in again.out
    assert "up to date" in step(STEP, *words, "whole", "--skip-if-done").out


def test_a_stopped_pre_training_goes_on_to_the_bit(work, step):
    toy.make(work, size=64)
    assert step(STEP, *SMALL, "--experiment", "whole").code == 0
    with interrupted.after_epoch(1):
        assert step(STEP, *SMALL, "--experiment", "stopped").code == 130
    assert refused(
        step("task1_classification/01_train.py", *TASK1, "--fold", 0, "--weights", "stopped"), "no finished pre-training"
    )
    assert step(STEP, *SMALL, "--experiment", "stopped", "--resume").code == 0
    assert equal(*(state(work.pretrained / name / "fold0") for name in ("whole", "stopped")))


def test_no_label_and_no_validation_or_test_patient_is_seen(work, step, pretrained):
    before = state(pretrained)
    part = tables.read_splits(work).set_index("image_id")["fold"].isin([0, 1])
    for name in part.index[part]:  # fold 0 is tested, fold 1 validates
        Image.fromarray(np.full((64, 64), 255, np.uint8)).save(work.raw / f"{name}.png")
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    tables.write_labels(work, labels.assign(hemorrhage=1 - labels["hemorrhage"]), dataset)
    shutil.rmtree(work.cache)
    assert step(STEP, *SMALL, "--experiment", "p", "--overwrite").code == 0
    assert equal(before, state(pretrained))


def test_task_1_starts_from_it_and_says_so(work, step, pretrained):
    result = step("task1_classification/01_train.py", *TASK1, "--fold", 0, "--weights", "p", "--labelled", 0.5, "--lr", "1e-12",
                  "--experiment", "e")  # fmt: skip
    assert result.code == 0, result.err
    fold = work.task(1) / "e" / "fold0"
    body, trained = state(pretrained), state(fold)
    weights = [name for name in trained if name.endswith("weight") and not name.startswith("fc")]
    assert weights and all(torch.allclose(trained[name], body[f"body.{name}"], atol=1e-5) for name in weights)
    told, source = (files.read_json(folder / "model.json") for folder in (fold, pretrained))
    assert (told["mean"], told["std"]) == (source["mean"], source["std"])
    assert told["labelled"] == {"share": 0.5, "seed": 42, "patients": 3, "of": 6}
    start = told["initial_weights"]
    assert (
        start["experiment"] == "p"
        and start["method"] == "autoencoder"
        and start["sha256"] == files.sha256(pretrained / "best.pt")
    )
    record = files.read_json(fold / "01_train.run.json")
    assert "outputs/toy/pretrain/p/fold0/best.pt" in record["inputs"]
    frame = pd.read_csv(fold / "predictions.csv")
    assert set(frame["part"]) == {"val", "test"} and len(frame) == 16
    assert step("task1_classification/02_evaluate.py", "--experiment", "e").code == 0
    content = files.read_json(work.task(1) / "e" / "metrics.json")
    assert "trained with the labels of 3 of 6 training patients" in content["folds_done"]
    assert content["labelled"] == [told["labelled"]]


def test_tasks_3_and_4_start_from_it(work, step, monkeypatch):
    toy_types.make(work)
    size = Image.open(next(work.raw.glob("*.png"))).size[0]
    words = (*SMALL[:2], "--image-size", size, *SMALL[4:], "--method", "simclr", "--experiment", "p")
    assert step(STEP, *words).code == 0
    result = step("task4_multilabel/02_train.py", *TASK1[:2], "--image-size", size, *TASK1[4:], "--fold", 0, "--weights", "p",
                  "--context", 1, "--labelled", 0.5, "--lr", "1e-12", "--experiment", "e")  # fmt: skip
    assert result.code == 0, result.err
    fold = work.task(4) / "e" / "fold0"
    told = files.read_json(fold / "model.json")
    assert told["initial_weights"]["method"] == "simclr" and told["labelled"]["patients"] < told["labelled"]["of"]
    first, grey = (state(folder)["body.conv1.0.weight"] for folder in (fold, work.pretrained / "p" / "fold0"))
    assert first.shape[1] == 3 and torch.allclose(first, grey.expand_as(first) / 3, atol=1e-5)
    assert step("task4_multilabel/03_evaluate.py", "--experiment", "e").code == 0


def test_task_3_takes_it_as_the_encoder(work, step):
    toy.make(work, size=64, boxes=True, masks=True)
    assert step(STEP, *SMALL, "--experiment", "p").code == 0
    words = ("--region", "slice", "--encoder", "tu-test_resnet", *SMALL[2:4], "--epochs", 1, *SMALL[6:], "--weights", "p", "--lr",
             "1e-12")  # fmt: skip
    result = step("task3_segmentation/02_train.py", *words, "--experiment", "e")
    assert result.code == 0, result.err
    trained, body = state(work.task(3) / "e" / "fold0"), state(work.pretrained / "p" / "fold0")
    encoder = [name for name in trained if name.startswith("encoder.") and name.endswith("weight")]
    assert encoder
    for name in encoder:
        assert torch.allclose(trained[name], body[f"body.{name.removeprefix('encoder.model.')}"], atol=1e-5), name
    result = step("task3_segmentation/02_train.py", *words, "--normalise", "window", "--experiment", "w")
    assert refused(result, "normalised by the data set", "leave out --normalise")
    result = step("task3_segmentation/02_train.py", *words, "--validation", 2, "--experiment", "v")
    assert refused(result, "has seen the patients that --validation 2 validates with")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--weights", "p", "--fold", 1), "holds no finished pre-training"),
        (("--weights", "{p}/best.pt", "--fold", 1), "test patients would leak"),
        (("--weights", "p", "--fold", 0, "--protocol", "slice"), "test patients would leak"),
        (("--weights", "p", "--fold", 0, "--backbone", "test_vit"), "another backbone (test_resnet, here test_vit)"),
        (("--weights", "p", "--fold", 0, "--prepare", "invert"), "another prepare (none, here invert)"),
        (("--weights", "q", "--fold", 0), "no such pre-training of toy (there are: p)"),
        (("--weights", "none", "--fold", 0, "--labelled", 0), "a number above 0, up to 1"),
        (("--weights", "none", "--fold", 0, "--labelled", 0.05), "of 6 training patients that is none"),
    ],
)  # fmt: skip
def test_what_does_not_fit_stops_with_one_line(step, pretrained, words, said):
    words = [str(word).replace("{p}", str(pretrained)) for word in words]
    assert refused(step("task1_classification/01_train.py", *TASK1, *words), said)


def test_a_pre_training_of_other_folds_or_that_was_changed_stops(work, step, pretrained):
    told = json.loads((pretrained / "model.json").read_text())
    (pretrained / "model.json").write_text(json.dumps(told | {"mean": 0.0}))
    words = ("task1_classification/01_train.py", *TASK1, "--fold", 0, "--weights", "p")
    assert refused(step(*words), "is not the one that was trained")
    (pretrained / "model.json").write_text(json.dumps(told | {"splits_sha256": "of other data"}))
    assert refused(step(*words), "test patients would leak")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "simclr", "--batch-size", 1), "above 1"),
        (("--method", "simclr", "--augment", "none"), "two views"),
        (("--labelled", 0.5), "goes with --method supcon"),
        (("--image-size", 32), "gives no feature maps"),
        (("--backbone", "resnet1"), "unknown to timm"),
        (("--limit-patients", 2), "too few to learn from"),
    ],
)
def test_a_pre_training_that_cannot_be_stops_with_one_line(work, step, words, said):
    toy.make(work, size=64)
    assert refused(step(STEP, *SMALL, *words), said)


def test_labels_that_a_training_should_not_know_stop(work, step):
    toy.make(work, size=64)
    assert step(STEP, *SMALL, "--method", "supcon", "--experiment", "all").code == 0
    assert step(STEP, *SMALL, "--method", "supcon", "--labelled", 0.5, "--experiment", "half").code == 0
    words = ("task1_classification/01_train.py", *TASK1, "--fold", 0)
    assert refused(step(*words, "--weights", "all", "--labelled", 0.5), "would know more labels")
    assert refused(step(*words, "--weights", "half", "--labelled", 0.5, "--seed", 1), "would know more labels")
    assert step(*words, "--weights", "half", "--labelled", 0.5).code == 0
    assert step(STEP, *SMALL, "--weights", "all", "--experiment", "after").code == 0
    assert refused(step(*words, "--weights", "after", "--labelled", 0.5), "would know more labels")
