"""Task 4 training on a toy data set with types: files, history, resume to the bit, what flags do, and mistakes of users."""

import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY
from sklearn.metrics import precision_recall_fscore_support

from helpers import quick, toy_types, trained
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.multilabel import networks, working_set
from hemoct.training import fit as training_fit

STEP = "task4_multilabel/02_train.py"
SMALL = ("--dataset", "toy", "--weights", "none", "--image-size", "32", "--batch-size", "8", "--lr", "1e-3", "--device", "cpu",
         "--fold", "0")  # fmt: skip
SIMPLE = ("--backbone", "simplecnn")
LABELS = toy_types.LABELS
RESULTS = {"best.pt", "last.pt", "model.json", "history.csv", "predictions.csv", "train_predictions.csv", "02_train.run.json"}


@pytest.fixture
def call(work, run_step):
    """Call the step; the last of two equal flags counts."""
    return lambda *words: run_step(STEP, "--root", work.root, *SMALL, *SIMPLE, "--experiment", "e", "--epochs", "1", *words)


def folder_of(work, experiment: str = "e", fold: int = 0):
    return work.task(4) / experiment / f"fold{fold}"


def history_of(work, experiment: str = "e") -> pd.DataFrame:
    return tables.read_csv(folder_of(work, experiment) / "history.csv", ["epoch", "train_loss", "val_loss", "val_f1_at_half"])


def predicted(work, name: str = "predictions.csv", experiment: str = "e") -> pd.DataFrame:
    return tables.read_csv(folder_of(work, experiment) / name, tables.PREDICTION_COLUMNS)


def weights_of(work, name: str = "best.pt", experiment: str = "e") -> dict[str, torch.Tensor]:
    return torch.load(folder_of(work, experiment) / name, weights_only=True)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def bce(frame: pd.DataFrame) -> float:
    """The mean of binary cross entropy over what is known, from predictions."""
    truth = frame[[f"y_{name}" for name in LABELS]].to_numpy(dtype=float)
    p = frame[[f"p_{name}" for name in LABELS]].to_numpy(dtype=float)
    return float(np.nanmean(-truth * np.log(p) - (1 - truth) * np.log(1 - p)))


def scores(frame: pd.DataFrame, label: str) -> tuple[float, float, float]:
    """Precision, recall and F1 of a label at 0.5, by scikit-learn."""
    known = frame[frame[f"y_{label}"].notna()]
    found = precision_recall_fscore_support(
        known[f"y_{label}"].astype(int), known[f"p_{label}"] > 0.5, average="binary", zero_division=np.nan
    )
    return found[:3]


# --- what is written


def test_a_fold_leaves_exactly_its_files_and_learns(work, call):
    labels = toy_types.make(work)
    labels.loc[[0, 7, 31], "IPH"] = pd.NA
    toy_types.save(work, labels)
    result = call("--epochs", "8")
    assert result.code == 0, result.err
    assert {path.name for path in folder_of(work).iterdir()} == RESULTS
    record = files.read_json(folder_of(work) / "02_train.run.json")
    assert record["status"] == "ok" and len(record["outputs"]) == 6
    assert record["inputs"]["data/work/toy/task4/working_set.csv"]
    history = history_of(work)
    assert len(history) == 8 and history["train_loss"].iloc[-1] < 0.7 * history["train_loss"].iloc[0]
    assert history["val_f1_at_half"].iloc[-1] > 0.5

    evaluated, learned = predicted(work), predicted(work, "train_predictions.csv")
    columns = [f"{kind}_{name}" for name in LABELS for kind in "yp"]
    assert list(evaluated.columns) == list(learned.columns) == [*tables.PREDICTION_COLUMNS, *columns]
    assert set(evaluated["part"]) == {"val", "test"} and set(learned["part"]) == {"train"}
    both = pd.concat([evaluated, learned]).set_index("image_id")
    assert sorted(both.index) == sorted(labels["image_id"]), "each image of the working set once"
    both = both.reindex(labels["image_id"])
    for name in LABELS:
        pd.testing.assert_series_equal(both[f"y_{name}"].astype("Int64"), labels.set_index("image_id")[name], check_names=False)
        assert both[f"p_{name}"].between(0, 1).all(), "an image with an unknown label has a probability too"


def test_up_to_date_is_not_trained_again_and_other_flags_do_not_write_over(work, call):
    trained.types(work)
    before = (folder_of(work) / "best.pt").stat().st_mtime_ns
    assert call("--epochs", "4", "--skip-if-done").out.startswith("up to date")
    assert call("--epochs", "4", "--skip-if-done", "--oversample", "SAH=2").code == 2
    assert refused(call("--epochs", "4", "--loss", "focal"), "--loss bce", "--overwrite")
    assert (folder_of(work) / "best.pt").stat().st_mtime_ns == before
    assert call("--loss", "focal", "--overwrite").code == 0
    chosen = working_set.read(work).table
    tables.write_csv(working_set.folder(work) / "working_set.csv", chosen.iloc[:-1])
    assert "epoch 1/1" in call("--loss", "focal", "--skip-if-done").out, "another working set"


def test_the_best_epoch_is_that_of_the_lowest_validation_loss(work, call):
    labels = toy_types.make(work)
    random = np.random.default_rng(3)
    labels[LABELS] = random.integers(0, 2, (len(labels), 3))  # nothing to learn but by heart
    toy_types.save(work, labels)
    result = call("--epochs", "12", "--lr", "3e-3", "--schedule", "constant")
    losses = history_of(work)["val_loss"]
    assert losses.idxmin() < 11 and losses.iloc[-1] > losses.min() + 0.01, "the last epoch must not be the best here"
    assert f"best epoch {losses.idxmin() + 1}" in result.out
    found = predicted(work)
    assert bce(found[found["part"] == "val"]) == pytest.approx(losses.min(), rel=1e-5)


def test_the_history_of_each_label_is_that_of_scikit_learn(work, call, monkeypatch):
    """A trained network, and a learning rate of next to nothing: that of each step is that which predicts in the end."""
    labels = toy_types.make(work)
    wrong = np.random.default_rng(0).random((len(labels), 3)) < 0.2
    labels[LABELS] = labels[LABELS].where(~wrong, 1 - labels[LABELS])
    labels.loc[::4, "IVH"] = pd.NA
    toy_types.save(work, labels)
    assert call("--epochs", "4", "--lr", "3e-3").code == 0
    trained, build = weights_of(work), networks.build

    def built(*words):
        model = build(*words)
        model.load_state_dict(trained)
        return model

    monkeypatch.setattr(networks, "build", built)
    assert call("--lr", "1e-12", "--schedule", "constant", "--experiment", "f").code == 0
    history, evaluated = history_of(work, "f").iloc[0], predicted(work, experiment="f")
    parts = {"train": predicted(work, "train_predictions.csv", "f"), "val": evaluated[evaluated["part"] == "val"]}
    wanted = {(part, label): scores(frame, label) for part, frame in parts.items() for label in LABELS}
    for (part, label), numbers in wanted.items():
        found = [history[f"{part}_{name}_{label}"] for name in ("precision", "recall", "f1")]
        np.testing.assert_allclose(found, numbers, rtol=1e-6)
    assert history["val_f1_at_half"] == pytest.approx(np.nanmean([wanted["val", label][2] for label in LABELS]), rel=1e-6)
    assert len({number for numbers in wanted.values() for number in numbers}) > 9, "or little was compared"


def test_every_epoch_of_the_history_has_its_own_numbers(work):
    trained.types(work)
    history, found = history_of(work), predicted(work)
    best = int(history["val_loss"].idxmin())
    assert history["epoch"].tolist() == [1, 2, 3, 4] and history["train_f1_IVH"].nunique() > 1
    for label in LABELS:
        assert history[f"val_f1_{label}"].iloc[best] == pytest.approx(scores(found[found["part"] == "val"], label)[2])


# --- the same again


MANY = ("--augment", "light", "--augment-label", "SAH=strong", "--oversample", "SAH=2", "--context", "1", "--threads", "1")


def test_the_same_command_gives_the_same_numbers(work, call):
    toy_types.make(work)
    made = []
    for _ in range(2):
        assert call("--epochs", "2", *MANY, "--sampler", "balanced").code == 0
        made.append((weights_of(work), (folder_of(work) / "predictions.csv").read_bytes()))
    assert equal(made[0][0], made[1][0]) and made[0][1] == made[1][1]
    assert call("--epochs", "2", *MANY, "--sampler", "balanced", "--seed", "1", "--overwrite").code == 0
    assert not equal(made[0][0], weights_of(work))


def test_killed_and_resumed_equals_uninterrupted_to_the_bit(work, call):
    toy_types.make(work, patients=12, slices=8)
    flags = (*MANY, "--epochs", "8", "--backbone", "test_resnet")
    assert call(*flags).code == 0
    command = [sys.executable, REPOSITORY / STEP, "--root", work.root, *SMALL, "--experiment", "k", *flags]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    for line in running.stdout:
        if "epoch 2/8" in line:
            os.killpg(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    done = len(weights_of(work, "last.pt", "k")["history"])
    assert 2 <= done < 8 and not (folder_of(work, "k") / "predictions.csv").exists()

    resumed = call(*flags, "--experiment", "k", "--resume")
    assert resumed.code == 0 and f"goes on after epoch {done}" in resumed.out
    assert equal(weights_of(work), weights_of(work, experiment="k"))
    assert equal(weights_of(work, "last.pt")["model"], weights_of(work, "last.pt", "k")["model"])
    for name in ("predictions.csv", "train_predictions.csv"):
        assert (folder_of(work) / name).read_bytes() == (folder_of(work, "k") / name).read_bytes()
    assert refused(call(*flags, "--experiment", "k", "--resume", "--overwrite", "--oversample", "SAH=3"), "--oversample")


SETTINGS = (
    *(
        "seed",
        "epochs",
        "batch_size",
        "lr",
        "optimizer",
        "weight_decay",
        "schedule",
        "warmup",
        "patience",
        "image_size",
        "augment",
    ),
    *("mirror", "precision", "backbone", "weights", "protocol", "split", "limit_patients", "context", "loss", "ema"),
    *("heads", "channels", "attention", "pos_weight", "sampler", "oversample", "augment_label", "labels", "group"),
)
"""the flags that version 0.1 kept in last.pt"""


def test_a_training_of_version_0_1_goes_on(work, call):
    trained.types(work)
    folder = folder_of(work)
    before = (folder / "predictions.csv").read_bytes()
    (folder / "predictions.csv").unlink()
    state = torch.load(folder / "last.pt", weights_only=True)
    arguments = state.pop("arguments")
    torch.save(state | {"settings": {name: arguments[name] for name in SETTINGS} | {"mirror": "horizontal"}}, folder / "last.pt")
    record = files.read_json(folder / "02_train.run.json")
    del record["arguments"]["weights_dir"], record["sha256"]
    files.write_json(folder / "02_train.run.json", record)
    result = call("--epochs", "4", "--resume")
    assert result.code == 0 and "goes on after epoch 4" in result.out, result.err
    assert (folder / "predictions.csv").read_bytes() == before
    assert refused(call("--epochs", "4", "--resume", "--overwrite", "--sampler", "balanced"), "was trained with --sampler none")


# --- flags


@pytest.mark.parametrize(
    "flags",
    [
        ("--loss", "weighted-bce", "--pos-weight", "1,2,3.5"),
        ("--loss", "weighted-bce", "--heads", "any,types"),
        ("--loss", "focal", "--attention", "--ema", "0.9"),
        ("--loss", "asymmetric", "--heads", "any,types", "--attention", "--optimizer", "sgd", "--schedule", "cosine"),
        ("--protocol", "slice", "--sampler", "balanced", "--precision", "fp32"),
        ("--backbone", "test_vit", "--attention", "--context", "1"),
        ("--limit-patients", "6", "--patience", "1"),
    ],
)
def test_the_flags_train(work, call, flags):
    toy_types.make(work)
    result = call(*flags)
    assert result.code == 0, result.err
    assert predicted(work)["p_SAH"].nunique() > 1 and np.isfinite(history_of(work)["train_loss"]).all()


def test_experiments_are_named_so_that_they_can_be_read(work, run_step):
    toy_types.make(work)

    def name(*words: str) -> str:
        flags = ("--root", work.root, *SMALL, "--epochs", "1", *SIMPLE, "--lr", "3e-4", "--batch-size", "32", *words)
        result = run_step(STEP, *flags)
        assert result.code == 0, result.err
        return next(line for line in result.out.splitlines() if "/fold0: " in line).split("/")[3]

    assert name() == "simplecnn-scratch-32px-1ep"
    assert name("--oversample", "SAH=3") == "simplecnn-scratch-32px-oversample-SAH3-1ep"
    assert name("--oversample", "SAH=3,IVH=2", "--augment", "light", "--augment-label", "SAH=strong,IVH=none") == (
        "simplecnn-scratch-32px-oversample-SAH3-IVH2-augment-light-augment-SAH-strong-IVH-none-1ep"
    )
    assert name("--loss", "weighted-bce", "--pos-weight", "1,2.5,3") == "simplecnn-scratch-32px-weighted-bce-weights-1-2.5-3-1ep"


def test_any_is_made_of_the_types_and_has_a_head_of_its_own(work, call):
    labels = toy_types.make(work)
    labels.loc[0, LABELS] = [0, pd.NA, 0]  # nothing is shown, one is unknown: any is unknown
    labels.loc[1, LABELS] = [1, pd.NA, 0]  # one is shown: any is 1
    toy_types.save(work, labels)
    assert call("--heads", "any,types", "--epochs", "2").code == 0
    spec = files.read_json(folder_of(work) / "model.json")
    assert spec["classes"] == ["any", *LABELS] and spec["heads"] == ["any", "types"]
    assert {"head.any.2.weight", "head.types.weight"} <= weights_of(work).keys()
    found = pd.concat([predicted(work), predicted(work, "train_predictions.csv")]).set_index("image_id")
    found = found["y_any"].reindex(labels["image_id"])
    assert np.isnan(found.iloc[0]) and found.iloc[1] == 1
    assert (found.iloc[2:] == (labels[LABELS].iloc[2:] == 1).any(axis=1).to_numpy()).all()


def test_oversampling_and_the_balanced_sampler_choose_what_an_epoch_shows(work, call, monkeypatch):
    labels = toy_types.make(work)
    seen, one_epoch = [], training_fit.one_epoch

    def watched(fit, data, order):
        seen.append(order)
        return one_epoch(fit, data, order)

    monkeypatch.setattr(training_fit, "one_epoch", watched)
    for flags in ((), ("--oversample", "SAH=3"), ("--sampler", "balanced")):
        assert call(*flags, "--overwrite").code == 0
    plain, more, balanced = (order.bincount(minlength=len(labels)).numpy() for order in seen)
    part = pd.concat([predicted(work), predicted(work, "train_predictions.csv")]).set_index("image_id")["part"]
    training = (part.reindex(labels["image_id"]) == "train").to_numpy()
    rare = (labels["SAH"] == 1).to_numpy()
    assert (plain == training).all() and (more == training * np.where(rare, 3, 1)).all()
    assert balanced.sum() == training.sum() and not balanced[~training].any() and balanced.max() > 1


def test_weights_of_the_same_fold_only(work, call):
    trained.types(work)
    best = folder_of(work) / "best.pt"
    assert call("--weights", best, "--experiment", "f", "--lr", "1e-12", "--seed", "3").code == 0
    body = [name for name in weights_of(work) if name.startswith("body.")]
    for name in body:
        torch.testing.assert_close(weights_of(work)[name], weights_of(work, experiment="f")[name])
    before, after = (files.read_json(folder_of(work, name) / "model.json") for name in ("e", "f"))
    assert (before["mean"], before["std"]) == (after["mean"], after["std"])
    assert refused(call("--weights", best, "--experiment", "g", "--fold", "1"), "leak", "fold 0")
    files.write_json(folder_of(work) / "model.json", before | {"task": 1})
    assert refused(call("--weights", best, "--experiment", "g"), "is a model of task 1; name weights of task 4")


# --- labels that lack something: said, and trained all the same


def test_a_label_without_a_positive_in_a_part(work, call):
    labels = toy_types.make(work)
    fold = tables.read_splits(work)["fold"]
    labels.loc[(fold == 1).to_numpy(), "SAH"] = 0
    labels.loc[(fold > 1).to_numpy(), "IPH"] = 0
    frozen = tables.read_splits(work)
    toy_types.save(work, labels)
    tables.write_splits(work, frozen)
    result = call("--loss", "weighted-bce", "--sampler", "balanced", "--oversample", "IPH=3")
    assert result.code == 0, result.err
    assert "IPH: no positive image in train; metrics that need one will be null" in result.out
    assert "SAH: no positive image in val; metrics that need one will be null" in result.out and "IVH: no" not in result.out
    history = history_of(work).iloc[0]
    assert np.isfinite(history["val_loss"]) and np.isnan(history["val_recall_SAH"]) and np.isnan(history["train_recall_IPH"])
    assert not np.isnan(history["val_recall_IPH"])


def test_all_labels_zero(work, call):
    labels = toy_types.make(work)
    labels[LABELS] = 0
    toy_types.save(work, labels)
    result = call("--sampler", "balanced", "--heads", "any,types")
    assert result.code == 0, result.err
    assert all(f"{name}: no positive image in train, val, test" in result.out for name in ("any", *LABELS))
    assert history_of(work)["train_loss"].between(0, 10).all()


def test_a_label_that_no_training_image_knows(work, call):
    labels = toy_types.make(work)
    labels["SAH"] = pd.NA
    toy_types.save(work, labels)
    result = call("--loss", "weighted-bce")
    assert result.code == 0 and "SAH: no positive image in train, val, test" in result.out
    found, history = predicted(work), history_of(work).iloc[0]
    assert found["y_SAH"].isna().all() and found["p_SAH"].notna().all()
    assert np.isfinite(history["val_loss"]) and np.isnan(history["val_f1_SAH"])
    assert history["val_f1_at_half"] == pytest.approx(history[["val_f1_IVH", "val_f1_IPH"]].mean(skipna=False))


# --- mistakes: one line, exit code 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--backbone", "resnet81"), ("--backbone resnet81", "near it")),
        (("--image-size", "3"), ("simplecnn", "3 px", "--image-size")),
        (("--backbone", "inception_v3", "--image-size", "48"), ("inception_v3", "48 px", "--image-size")),
        (("--weights", "imagenet"), ("simplecnn", "--weights none")),
        (("--loss", "weighted-bce", "--pos-weight", "1,2"), ("--pos-weight has 2", "IVH, IPH, SAH")),
        (("--loss", "weighted-bce", "--pos-weight", "1,2,3", "--heads", "any,types"), ("--pos-weight has 3", "any, IVH")),
        (("--pos-weight", "1,2,3"), ("--pos-weight goes with --loss weighted-bce",)),
        (("--loss", "weighted-bce", "--pos-weight", "1,0,3"), ("--pos-weight", "'0' is not a number above 0")),
        (("--oversample", "EDH=3"), ("--oversample EDH", "IVH, IPH, SAH")),
        (("--oversample", "SAH"), ("--oversample", "'SAH' is not LABEL=TIMES")),
        (("--oversample", "SAH=0"), ("--oversample", "'SAH=0' is not LABEL=TIMES")),
        (("--oversample", "SAH=2,SAH=3"), ("--oversample", "each label once")),
        (("--augment-label", "EDH=strong"), ("--augment-label EDH", "IVH, IPH, SAH")),
        (("--augment-label", "SAH=much"), ("--augment-label", "'SAH=much' is not LABEL=STRENGTH")),
        (("--batch-size", "1"), ("--batch-size",)),
    ],
)
def test_mistakes_in_flags(work, call, flags, words):
    toy_types.make(work)
    assert refused(call(*flags), *words)
    assert not (folder_of(work) / "model.json").exists()


def test_imagenet_weights_without_a_network(work, call, monkeypatch, tmp_path):
    toy_types.make(work)
    for name, value in {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert refused(call("--weights", "imagenet", "--backbone", "test_resnet"), "--weights none", "test_resnet")


def test_without_a_working_set_or_with_an_old_one(work, call):
    labels = toy_types.make(work)
    path = working_set.folder(work) / "working_set.csv"
    tables.write_labels(work, labels.iloc[:-1], tables.read_dataset(work))
    assert refused(call(), "working_set.csv", "1 image(s) are not in labels.csv", "01_prepare_labels.py")
    path.unlink()
    assert refused(call(), "working_set.csv is missing", "task4_multilabel/01_prepare_labels.py --dataset toy")


def test_a_fold_without_validation(work, call):
    labels = toy_types.make(work)
    fold = tables.read_splits(work)["fold"].to_numpy()
    toy_types.save(work, labels, chosen=fold != 1)
    assert refused(call(), "fold0", "too few images to train or validate with")
    assert call("--fold", "1").code == 0, "without test images there is still validation"


def test_any_of_a_working_set_that_has_nothing_else(work, call):
    labels = toy_types.make(work).rename(columns={"IVH": "any"})
    toy_types.save(work, labels, ["any"])
    assert refused(call("--heads", "any,types"), "no type of bleeding beside any", "--labels")
    assert call().code == 0


def test_a_view_has_a_model_of_its_own_for_its_images_and_labels(work, call, run_step, monkeypatch):
    quick.evaluations(monkeypatch)
    frame = toy_types.make(work)
    frame["group"] = np.where(frame["slice"] < 3, "low", "high")
    toy_types.save(work, frame)
    assert call("--group", "low", "--labels", "IPH,SAH", "--experiment", "low").code == 0
    found = pd.concat([predicted(work, name, "low") for name in ("predictions.csv", "train_predictions.csv")])
    assert sorted(found["image_id"]) == sorted(frame["image_id"][frame["group"] == "low"])
    assert [name for name in found if name.startswith("p_")] == ["p_IPH", "p_SAH"]
    assert call("--heads", "any,types", "--experiment", "all").code == 0
    cascade = ("task4_multilabel/04_cascade.py", "--root", work.root, "--dataset", "toy", "--types", "all", "--view", "low=low")
    assert refused(run_step(*cascade), "--view low=low does not know IVH", "--pool")
    result = run_step(*cascade, "--pool")
    assert result.code == 0, result.err


@pytest.mark.parametrize(
    ("flags", "words"),
    [(("--labels", "EDH"), ("--labels EDH", "IVH, IPH, SAH")), (("--group", "x"), ("no column group", "--group"))],
)
def test_views_that_are_not_there_stop(work, call, flags, words):
    toy_types.make(work)
    assert refused(call(*flags), *words)


def test_an_unknown_group_names_those_there_are(work, call):
    frame = toy_types.make(work)
    toy_types.save(work, frame.assign(group="low"))
    assert refused(call("--group", "high"), "--group high", "has low")


def test_a_convolutional_head_stands_for_that_on_pooled_features(work, call):
    toy_types.make(work)
    assert call("--head", "conv", "--heads", "any,types").code == 0
    model, spec = networks.load(folder_of(work), torch.device("cpu"))
    assert spec.head == "conv" and model.maps.out_channels == 4
    assert refused(call("--head", "conv", "--attention", "--overwrite"), "--head conv and --attention")
