"""02_train: both families learn toy disks, are quiet and offline, go on after a kill, and refuse what they cannot serve."""

import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY
from torch import nn

from helpers import simulated_boxes, toy, trained
from helpers.refusals import refused
from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import fusion
from hemoct.detection import data as detection_data, metrics, networks, predictions as detection_predictions, torchvision_models
from hemoct.evaluation import metrics as evaluation_metrics
from hemoct.training import checkpoints, fit as training_fit, weights
from hemoct.training.options import Initial, Training

EXPORT, TRAIN = "task2_detection/01_make_yolo_dataset.py", "task2_detection/02_train.py"
COMMON = ("--dataset", "toy", "--weights", "none", "--image-size", "64", "--batch-size", "4", "--fold", "0", "--device", "cpu",
          "--threads", "1")  # fmt: skip
RCNN = "fasterrcnn_mobilenet_v3_large_fpn"
BACKBONE = "tf_efficientnet_lite0"
EPOCH = re.compile(r"  epoch (\d+)/\d+  .*\d s(  \*)?(  about .* to go)?")


def epochs(out: str) -> list[int]:
    return [int(found[1]) for line in out.splitlines() if (found := EPOCH.fullmatch(line))]


def precision(work: Workspace, folder: Path, part: str) -> dict[str, float]:
    """mAP of a fold's predictions.csv, recomputed from the tables."""
    predictions = tables.read_predictions(folder, ["class", "confidence"])
    classes = tables.read_dataset(work).classes
    scene = detection_predictions.scene(predictions[predictions["part"] == part], tables.read_boxes(work), classes)
    found = metrics.average_precision(metrics.match(scene), evaluation_metrics.ones(len(scene)))
    return {name: float(value[0]) for name, value in found.items()}


def keeps_the_contract(work: Workspace, folder: Path, fold: int) -> bool:
    """predictions.csv and train_predictions.csv: each slice of their parts, boxes sorted and inside their image."""
    data = detection_data.load(work)
    part = pd.Series(data.part_of(fold, "patient", "folds"), data.table["image_id"])
    for name, parts in {"predictions.csv": ("val", "test"), "train_predictions.csv": ("train",)}.items():
        frame = tables.read_csv(folder / name, detection_predictions.COLUMNS)
        assert list(frame) == detection_predictions.COLUMNS and set(frame["image_id"]) == set(part.index[part.isin(parts)])
        assert (frame["part"] == part[frame["image_id"]].to_numpy()).all() and (frame["fold"] == fold).all()
        empty = frame["confidence"].isna()
        assert (frame.loc[empty, "class"] == "").all() and frame.loc[empty, detection_predictions.CORNERS].isna().all(axis=None)
        assert not frame.loc[empty, "image_id"].duplicated().any() and frame.loc[~empty, "class"].isin(data.classes).all()
        boxes = frame[~empty]
        assert boxes["confidence"].between(fusion.LEAST_CONFIDENCE, 1).all()
        grouped = boxes.groupby("image_id")["confidence"]
        assert grouped.size().max() <= fusion.MOST_BOXES and (grouped.diff().dropna() <= 0).all()
        assert (boxes["xmax"] > boxes["xmin"]).all() and (boxes["ymax"] > boxes["ymin"]).all() and boxes["xmin"].min() >= 0
        assert boxes["xmax"].max() <= 80 and boxes["ymax"].max() <= 64 and boxes["ymin"].min() >= 0
    return True


# --- Ultralytics

OFFLINE = """
import runpy, socket, sys

def refuse(*words, **more):
    print("NETWORK", words, file=sys.stderr)
    raise OSError("no network in tests")

socket.socket.connect = socket.getaddrinfo = refuse
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
EPOCHS = 12
YOLO = (*COMMON, "--experiment", "y", "--epochs", str(EPOCHS), "--lr", "4e-3", "--augment", "none", "--patience", "20")


@dataclass
class Trained:
    """A training that was killed after its first epoch and resumed, without a network, in an empty folder."""

    work: Workspace
    folder: Path
    cwd: Path
    first: str
    second: str
    errors: str

    @property
    def killed(self) -> Path:
        """What the kill left."""
        return self.work.root.parent / "killed"


class Call:
    """Makes a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


@pytest.fixture(scope="module")
def yolo(tmp_path_factory) -> Trained:
    root = tmp_path_factory.mktemp("yolo")
    work, cwd = Workspace(root / "root", "toy"), root / "cwd"
    cwd.mkdir()
    toy.make(work, patients=10, slices=8, size=(80, 64), radius=10, boxes=True)
    words = ["--root", str(work.root), "--dataset", "toy", "--fold", "0"]
    subprocess.run([sys.executable, REPOSITORY / EXPORT, *words], check=True, capture_output=True, cwd=cwd)

    export = work.work / "yolo_dataset/patient/fold0/labels"
    with (export / "train.cache").open("wb") as stream:  # as Ultralytics leaves them, which loads them before it looks at them
        np.save(stream, np.array(Call(root / "ran"), dtype=object))

    environment = os.environ | {"XDG_CACHE_HOME": str(root / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", OFFLINE, str(REPOSITORY / TRAIN), *words, *YOLO]
    options = {"text": True, "cwd": cwd, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    running = subprocess.Popen(command, start_new_session=True, **options)
    first = ""
    for line in running.stdout:
        first += line
        if f"epoch 1/{EPOCHS}" in line:
            os.killpg(running.pid, signal.SIGKILL)
    killed = running.stderr.read()
    assert running.wait() == -signal.SIGKILL, killed
    shutil.copytree(work.task(2) / "y" / "fold0", root / "killed")
    resumed = subprocess.run([*command, "--resume"], **options)
    assert resumed.returncode == 0, resumed.stderr
    return Trained(work, work.task(2) / "y" / "fold0", cwd, first, resumed.stdout, killed + resumed.stderr)


def test_yolo_killed_goes_on_with_the_next_epoch(yolo):
    before, after = epochs(yolo.first), epochs(yolo.second)
    assert before[0] == 1 and after[0] in (len(before) + 1, len(before) + 2) and after[-1] == EPOCHS
    history = tables.read_csv(yolo.folder / "history.csv", ["epoch", "lr", "val_dfl_loss", "precision", "recall", "map50_95"])
    assert history["epoch"].tolist() == list(range(1, EPOCHS + 1)) and (history["seconds"] > 0).all()
    clock = pd.read_csv(yolo.folder / "ultralytics" / "results.csv", skipinitialspace=True)["time"]
    assert history["seconds"].sum() == pytest.approx(clock.iloc[-1], abs=0.1)  # it counted on
    assert history["train_box_loss"].iloc[-1] < 0.5 * history["train_box_loss"].max()


@pytest.mark.parametrize("epoch, seconds", [(0, 0.0), (1, 1.5), (2, 4.0)])
def test_yolo_counts_the_seconds_of_what_it_goes_on_with(tmp_path, epoch, seconds):
    (tmp_path / "results.csv").write_text("epoch,time\n1,1.5\n2,3.0\n2,4.0\n3,6.0\n")  # killed in the second, and after the third
    trainer = SimpleNamespace(save_dir=tmp_path, start_epoch=epoch, train_time_start=100.0)
    detection_data.count_on(trainer)
    assert trainer.train_time_start == 100 - seconds


def test_yolo_is_quiet_and_offline_and_writes_nowhere_else(yolo):
    assert yolo.errors == ""
    lines = (yolo.first + yolo.second).splitlines()
    rest = {line for line in lines if not EPOCH.fullmatch(line)}
    following = f"Next: python task2_detection/03_training_curves.py --dataset toy --root {yolo.work.root}"
    assert rest == {"device: cpu (1 threads)", "outputs/toy/task2/y/fold0: yolov8n, disk, patient protocol", following}
    assert sum("to go" in line for line in lines) == 2  # once a start
    assert list(yolo.cwd.iterdir()) == []
    assert {path.name for path in yolo.folder.iterdir()} == {
        "best.pt", "model.json", "history.csv", "predictions.csv", "train_predictions.csv", "ultralytics", "02_train.run.json"
    }  # fmt: skip
    assert {path.name for path in yolo.work.root.iterdir()} == {"data", "outputs"}


def test_yolo_predictions_have_the_precision_that_ultralytics_found_itself(yolo):
    assert keeps_the_contract(yolo.work, yolo.folder, 0)
    history = tables.read_csv(yolo.folder / "history.csv", ["map50", "map50_95"])
    best = history.loc[history["map50_95"].idxmax()]
    found = precision(yolo.work, yolo.folder, "val")
    assert best["map50"] > 0.3
    assert found["map50"] == pytest.approx(best["map50"], abs=0.02)
    # it validates on a canvas with 32 px of border more, which is half of these images: real slices differ by less than 0.02
    assert found["map50_95"] == pytest.approx(best["map50_95"], abs=0.08)


def test_yolo_finished_and_resumed_only_predicts(yolo, run_step):
    before = {name: (yolo.folder / name).read_bytes() for name in ("best.pt", "history.csv", "predictions.csv")}
    (yolo.folder / "predictions.csv").unlink()
    result = run_step(TRAIN, "--root", yolo.work.root, *YOLO, "--resume")
    assert result.code == 0 and epochs(result.out) == []
    assert {name: (yolo.folder / name).read_bytes() for name in before} == before
    assert torch.get_num_threads() == 1  # not what Ultralytics would take


def test_no_pickle_of_labels_is_loaded_or_written(yolo):
    assert not (yolo.work.root.parent / "ran").exists() and "train.cache" not in yolo.second
    assert [path.name for path in yolo.work.work.rglob("*.cache")] == ["train.cache"]


@pytest.fixture
def left(yolo, run_step, monkeypatch):
    """What a training that was killed after its first epoch goes on from, once `change` has been at its folder; and its lines."""
    from hemoct.detection import yolo as detection_yolo

    def resume(change=lambda folder: None):
        folder, states = yolo.work.task(2) / "k" / "fold0", []
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(yolo.killed, folder)
        change(folder)

        def stop(*words):
            states.append(words[-1])
            raise UserError("stopped here")

        with monkeypatch.context() as patched:
            patched.setattr(detection_yolo, "_fit", stop)
            result = run_step(TRAIN, "--root", yolo.work.root, *YOLO, "--experiment", "k", "--resume")
        return SimpleNamespace(folder=folder, state=states[0] if states else None, begun=bool(states), result=result)

    return resume


CUT = [lambda content: b"", lambda content: content[: len(content) // 2]]


@pytest.mark.parametrize("cut", CUT)
def test_yolo_with_a_cut_checkpoint_goes_on_or_starts_from_the_beginning(left, cut):
    def damage(name: str, best: bool = True):
        def change(folder: Path) -> None:
            last = folder / "ultralytics/weights/last.pt"
            checkpoints.save(last, checkpoints.read(last) | {"best": best})
            (folder / name).write_bytes(cut((folder / name).read_bytes()))

        return change

    found = left(damage("ultralytics/weights/last.pt"))
    assert found.begun and found.state is None and not (found.folder / "best.pt").exists()
    assert re.search(r"last\.pt is not a torch checkpoint .*: starts from the beginning", found.result.out)
    found = left(damage("best.pt"))  # last.pt holds the best epoch, and is what the kill came after
    assert found.state["epoch"] == 0 and checkpoints.read_state(found.folder / "best.pt")
    found = left(damage("best.pt", best=False))
    assert found.begun and found.state is None
    assert re.search(r"best\.pt is not a torch checkpoint .*: starts from the beginning", found.result.out)


def test_a_pickle_of_ultralytics_is_gone_on_with_for_its_numbers(left):
    """As versions until 0.1 left it: last.pt and best.pt, whole networks, and no best.pt of the fold."""
    from hemoct.detection import yolo as detection_yolo

    kept = {}

    def older(folder: Path) -> None:
        place = folder / "ultralytics/weights"
        kept.update(checkpoints.read(place / "last.pt"))
        network = detection_yolo._network("yolov8n", 1)
        network.load_state_dict(kept["ema"])
        stopper = {"best_fitness": kept["best_fitness"], "best_epoch": 7}  # another epoch
        torch.save(kept | {"ema": network.half(), "model": None, "stopper": stopper}, place / "last.pt")
        torch.save({"ema": None, "model": network, "epoch": -1}, place / "best.pt")
        (folder / "best.pt").unlink()

    kept_of = left(older)
    ema, best = kept_of.state["ema"], checkpoints.read_state(kept_of.folder / "best.pt")
    assert all(
        torch.equal(ema[name], kept["ema"][name]) and torch.equal(best[name], ema[name].to(best[name].dtype)) for name in ema
    )


def test_code_in_a_checkpoint_of_yolo_is_refused_and_not_run(left, yolo, run_step, tmp_path):
    def plant(folder: Path) -> None:
        torch.save({"epoch": 0, "ema": Call(tmp_path / "ran")}, folder / "ultralytics/weights/last.pt")

    found = left(plant)
    assert refused(found.result, "last.pt names posix.system", "none of it was run") and not found.begun
    torch.save({"model": Call(tmp_path / "ran")}, tmp_path / "evil.pt")
    result = run_step(TRAIN, "--root", yolo.work.root, *YOLO, "--experiment", "evil", "--weights", tmp_path / "evil.pt")
    assert refused(result, "evil.pt names posix.system") and not (tmp_path / "ran").exists()


def test_yolo_of_version_0_1_goes_on(yolo, work, run_step):
    shutil.copytree(yolo.work.root, work.root, dirs_exist_ok=True)
    folder = work.task(2) / "y" / "fold0"
    started = folder / "ultralytics" / "started.json"
    files.write_json(started, as_version_0_1(folder, files.read_json(started), 4e-3))
    result = run_step(TRAIN, "--root", work.root, *YOLO, "--resume")
    assert result.code == 0 and epochs(result.out) == [], result.err
    assert (folder / "predictions.csv").read_bytes() == (yolo.folder / "predictions.csv").read_bytes()


def test_yolo_predicts_the_same_boxes_again(yolo, run_step, tmp_path):
    frames = [tables.read_csv(yolo.folder / name, detection_predictions.COLUMNS) for name in detection_predictions.NEEDED[1:]]
    words = ("--root", yolo.work.root, "--dataset", "toy", "--experiment", "y", "--threshold", 0, "--device", "cpu")
    result = run_step("task2_detection/05_predict.py", *words, yolo.work.raw, "--batch-size", 3, "--out", tmp_path / "out")
    assert result.code == 0, result.err
    again = tables.read_csv(tmp_path / "out" / "predicted.csv", ["confidence"])
    again = again.set_index(again["image"].map(lambda path: Path(path).stem))
    assert again["confidence"].notna().any()
    columns = ["confidence", *detection_predictions.CORNERS]
    for name, rows in pd.concat(frames).groupby("image_id"):
        same = again.loc[[name]]
        assert len(same) == len(rows)
        assert np.allclose(same[columns], rows[columns], atol=0.2, equal_nan=True)
    assert len(list((tmp_path / "out" / "overlays").rglob("*.png"))) == 80


def test_yolo_resumed_with_other_flags(yolo, run_step):
    result = run_step(TRAIN, "--root", yolo.work.root, *YOLO, "--resume", "--overwrite", "--lr", "1e-3", "--negatives", "1")
    assert refused(result, "--lr 0.004", "--negatives all")


def test_yolo_learns_from_the_slices_that_were_chosen(yolo, run_step, monkeypatch):
    """The list that training reads holds all positives and exactly as many negatives as asked for."""
    from hemoct.detection import yolo as detection_yolo

    class Stop(Exception):
        pass

    def stop(*_, **__):
        raise Stop

    monkeypatch.setattr(detection_yolo, "Trainer", stop)
    with_box = set(tables.read_boxes(yolo.work)["image_id"])
    for ratio, wanted in {"0": 0, "0.5": 12, "1": 24, "9": 24, "all": 24}.items():
        with pytest.raises(Stop):
            run_step(TRAIN, "--root", yolo.work.root, *YOLO, "--experiment", f"n{ratio}", "--negatives", ratio)
        listed = [Path(line) for line in (yolo.work.task(2) / f"n{ratio}/fold0/ultralytics/train.txt").read_text().splitlines()]
        assert all(path.is_file() for path in listed)
        positive = [path.stem in with_box for path in listed]
        assert sum(positive) == 24 and len(positive) - sum(positive) == wanted


def test_coco_weights_of_yolo_without_a_network(yolo, run_step, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise OSError("no network in tests")

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(f"socket.{name}", refuse)
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    result = run_step(TRAIN, "--root", yolo.work.root, *YOLO, "--experiment", "c", "--weights", "coco")
    assert refused(result, "--weights coco", "yolov8n", "--weights none") and os.environ["YOLO_OFFLINE"] == "1"
    assert not (yolo.work.task(2) / "c" / "fold0" / "model.json").exists()


def test_a_spoilt_or_missing_export_stops_yolo(yolo, run_step, tmp_path):
    work = Workspace(tmp_path / "root", "toy")
    toy.make(work, boxes=True)
    words = ("--root", work.root, *COMMON)
    assert refused(run_step(TRAIN, *words), "yolo_dataset/patient/fold0/data.yaml is missing", "01_make_yolo_dataset.py")
    assert run_step(EXPORT, "--root", work.root, "--dataset", "toy", "--fold", "0").code == 0
    label = next(
        path for path in sorted((work.work / "yolo_dataset/patient/fold0/labels/train").iterdir()) if path.stat().st_size
    )
    label.write_text("3 0.5 0.5 0.1 0.1\n")
    assert refused(run_step(TRAIN, *words), label.name, "other boxes than boxes.csv", "make it again", "01_make_yolo_dataset.py")


# --- torchvision


@pytest.fixture
def disks(work, run_step, monkeypatch):
    """The step with the tiny detector that is trained already, `e`; later flags win."""
    trained.disks(work)
    monkeypatch.setattr(torchvision_models, "get_model", simulated_boxes.tiny_detector)
    return lambda *more: run_step(TRAIN, "--root", work.root, "--dataset", "toy", *trained.DISKS, *more)


def test_a_detector_learns_disks(work):
    trained.disks(work)
    folder = work.task(2) / "e" / "fold0"
    assert {path.name for path in folder.iterdir()} == {
        "best.pt", "last.pt", "model.json", "history.csv", "predictions.csv", "train_predictions.csv", "02_train.run.json"
    }  # fmt: skip
    assert keeps_the_contract(work, folder, 0)
    history = tables.read_csv(folder / "history.csv", ["epoch"])
    assert list(history) == ["epoch", "lr", "train_box_loss", "train_cls_loss", "val_box_loss", "val_cls_loss", "map50",
                             "map50_95", "seconds"]  # fmt: skip
    assert list(history["epoch"]) == list(range(1, 8))
    assert precision(work, folder, "test")["map50"] > 0.5
    best = history.loc[history["map50_95"].idxmax()]
    # in the square of the cache, and after the way back to the image, rounded to a tenth of a pixel
    assert precision(work, folder, "val")["map50_95"] == pytest.approx(best["map50_95"], abs=0.02)


def test_from_scratch_groups_are_normalised_and_weights_of_ours_keep_their_kind(work, disks, monkeypatch):
    """Running statistics of a short training from scratch blow up on slices unlike those of its batches."""
    folder = work.task(2) / "e" / "fold0"
    model, described = networks.load(folder, torch.device("cpu"))
    kinds = {type(layer) for layer in model.modules()}
    assert described.group_norm and nn.GroupNorm in kinds and nn.BatchNorm2d not in kinds
    own, plain = folder / "best.pt", folder / "plain.pt"
    torch.save({"backbone.1.running_mean": torch.zeros(16)}, plain)
    initial = [Initial(weights=str(name)) for name in ("none", "coco", own, plain)]
    assert [torchvision_models.group_norm(weights) for weights in initial] == [True, False, True, False]


@pytest.mark.parametrize("schedule", ["onecycle", "plateau"])
def test_a_detector_interrupted_and_resumed_equals_uninterrupted_to_the_bit(work, disks, monkeypatch, schedule):
    flags = ("--epochs", "3", "--augment", "ct", "--schedule", schedule, "--negatives", "0.5", "--limit-patients", "5")
    assert disks(*flags, "--experiment", "w").code == 0

    def interrupt(epoch: int, *_, **__):
        if epoch == 2:
            raise KeyboardInterrupt

    shown = training_fit.print_epoch
    monkeypatch.setattr(training_fit, "print_epoch", interrupt)
    assert disks(*flags, "--experiment", "k").code == 130
    monkeypatch.setattr(training_fit, "print_epoch", shown)
    resumed = disks(*flags, "--experiment", "k", "--resume")
    assert resumed.code == 0 and "goes on after epoch 2" in resumed.out and epochs(resumed.out) == [3]
    states = [torch.load(work.task(2) / name / "fold0/last.pt", weights_only=True)["model"] for name in ("w", "k")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert files.sha256(work.task(2) / "w/fold0/predictions.csv") == files.sha256(work.task(2) / "k/fold0/predictions.csv")


def test_a_finished_detector_resumed_only_predicts_and_refuses_other_flags(work, disks):
    path = work.task(2) / "e/fold0/predictions.csv"
    before = path.read_bytes()
    path.unlink()
    result = disks("--resume")
    assert result.code == 0 and epochs(result.out) == [] and path.read_bytes() == before
    assert refused(disks("--epochs", "3"), "--overwrite") and path.read_bytes() == before
    assert refused(disks("--epochs", "3", "--resume", "--overwrite"), "--epochs 7")


SETTINGS = ("seed", "epochs", "batch_size", "lr", "optimizer", "weight_decay", "schedule", "warmup", "patience", "image_size",
            "augment", "mirror", "precision", "weights", "protocol", "split", "limit_patients", "model", "negatives")  # fmt: skip


def as_version_0_1(folder: Path, state: dict, lr: float) -> dict:
    """What that version kept for resuming: some flags, in which the mirror and the rate were what they stood for."""
    record = files.read_json(folder / "02_train.run.json")
    files.write_json(folder / "02_train.run.json", {name: record[name] for name in record if name != "sha256"})
    spec = files.read_json(folder / "model.json")
    del spec["initial_weights"]
    files.write_json(folder / "model.json", spec)
    arguments = state.pop("arguments")
    return state | {"settings": {name: arguments[name] for name in SETTINGS} | {"mirror": "horizontal", "lr": lr}}


def test_a_detector_of_version_0_1_goes_on(work, disks):
    folder = work.task(2) / "e" / "fold0"
    before = (folder / "predictions.csv").read_bytes()
    torch.save(as_version_0_1(folder, torch.load(folder / "last.pt", weights_only=True), 1e-3), folder / "last.pt")
    result = disks("--resume")
    assert result.code == 0 and "goes on after epoch 7" in result.out, result.err
    assert (folder / "predictions.csv").read_bytes() == before
    assert refused(disks("--resume", "--overwrite", "--negatives", "1"), "was trained with --negatives all")


def test_a_detector_that_sees_nothing_leaves_rows_without_boxes(work, disks, monkeypatch):
    monkeypatch.setattr(fusion, "LEAST_CONFIDENCE", 1.1)
    assert disks("--resume").code == 0
    frame = tables.read_csv(work.task(2) / "e/fold0/predictions.csv", detection_predictions.COLUMNS)
    assert len(frame) == 32 and frame["confidence"].isna().all() and keeps_nothing(work)


def keeps_nothing(work: Workspace) -> bool:
    return np.nan_to_num(precision(work, work.task(2) / "e/fold0", "val")["map50"]) == 0


def test_the_first_layers_of_coco_weights_are_taken_and_their_normalisation_stays(work, disks, monkeypatch):
    """torchvision's COCO weights were trained with frozen batch normalisation, and know 91 classes."""
    torch.manual_seed(1)
    options = {"min_size": 64, "max_size": 64, **torchvision_models.PROPOSALS}
    theirs = simulated_boxes.tiny_detector("", None, None, num_classes=91, **options).state_dict()
    theirs = {name: value for name, value in theirs.items() if not name.endswith("num_batches_tracked")}
    theirs["backbone.1.running_mean"] += 0.25
    monkeypatch.setattr(torchvision_models, "_fetched", lambda _: theirs)
    assert disks("--epochs", "1", "--weights", "coco", "--limit-patients", "5", "--experiment", "c").code == 0
    ours = torch.load(work.task(2) / "c/fold0/best.pt", weights_only=True)
    assert ours["roi_heads.box_predictor.cls_score.weight"].shape[0] == 3
    kept = [name for name in theirs if re.match(r"backbone\.[147]\.", name)]
    assert len(kept) == 12 and all(torch.equal(ours[name], theirs[name]) for name in kept)
    change = (ours["backbone.0.weight"] - theirs["backbone.0.weight"]).abs().mean() / theirs["backbone.0.weight"].abs().mean()
    assert 0 < change < 0.3


def test_coco_weights_of_torchvision_without_a_network(work, run_step, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise OSError("no network in tests")

    toy.make(work, boxes=True)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    result = run_step(TRAIN, "--root", work.root, *COMMON, "--model", RCNN, "--weights", "coco", "--experiment", "c")
    assert refused(result, "--weights coco", RCNN, "--weights none")
    assert not (work.task(2) / "c/fold0/model.json").exists()


def test_a_backbone_of_timm_starts_from_its_package_without_a_network(work, run_step, monkeypatch):
    toy.make(work, boxes=True, patients=5, slices=2)
    words = ("--root", work.root, *COMMON, "--model", RCNN, "--epochs", "1", "--batch-size", "8", "--weights", "imagenet")
    result = run_step(TRAIN, *words, "--backbone", BACKBONE)
    folder = work.task(2) / f"{RCNN}-imagenet-{BACKBONE}-64px-1ep-batch8" / "fold0"
    assert result.code == 0, result.err
    described = files.read_json(folder / "model.json")
    origin = described["initial_weights"]
    assert (described["backbone"], described["group_norm"], described["mean"], described["std"]) == (BACKBONE, False, 0.5, 0.5)
    assert (origin["name"], origin["licence"], origin["sha256"][:8]) == (BACKBONE, "Apache-2.0", "57934424")
    assert networks.load(folder, torch.device("cpu"))[0].backbone.body.model.conv_stem.weight.shape == (32, 3, 3, 3)
    monkeypatch.setattr(weights, "PACKAGES", {})
    missing = run_step(TRAIN, *words, "--backbone", BACKBONE, "--experiment", "m")
    assert refused(missing, "--weights imagenet", BACKBONE, "could not be fetched", "--weights none")
    assert not list((work.task(2) / "m").rglob("best.pt"))


# --- mistakes: one line, exit code 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--model", "yolov8q"), ("--model yolov8q", "near it: yolov8")),
        (("--model", "yolov8n.pt"), ("--model yolov8n.pt", "near it: yolov8n")),
        (("--model", "yolov8n-seg"), ("--model yolov8n-seg is no detector",)),
        (("--model", "../yolov8n"), ("--model ../yolov8n",)),
        (("--model", "resnet18"), ("neither",)),
        (("--model", "fasterrcnn_resnet51_fpn"), ("near it: fasterrcnn_resnet50_fpn",)),
        (("--model", "ssd300_vgg16"), ("none of torchvision's",)),
        (("--model", RCNN, "--augment", "ct-mosaic"), ("--augment ct-mosaic", "none or ct")),
        (("--model", RCNN, "--augment", "ultralytics"), ("--augment ultralytics",)),
        (("--model", RCNN, "--image-size", "32"), ("--image-size 32", "64 px")),
        (("--image-size", "100"), ("--image-size 100", "multiple of 32")),
        (("--schedule", "plateau"), ("--schedule plateau", "onecycle, cosine, constant")),
        (("--backbone", "resnet18"), ("--backbone resnet18", "torchvision", "--model fasterrcnn_")),
        (("--model", RCNN, "--backbone", "resnet1"), ("unknown to timm", "near it: resnet")),
        (("--model", RCNN, "--backbone", "vit_tiny_patch16_224"), ("no maps at strides 16, 32",)),
        (("--model", RCNN, "--weights", "imagenet"), ("--weights imagenet", RCNN, "--backbone")),
        (("--model", RCNN, "--backbone", "resnet18", "--weights", "coco"), ("--weights coco", "on resnet18", "imagenet")),
        (("--negatives", "-1"), ("--negatives",)),
        (("--negatives", "some"), ("--negatives",)),
    ],
)
def test_names_and_flags_that_a_family_cannot_serve(work, run_step, flags, words):
    toy.make(work, boxes=True)
    assert refused(run_step(TRAIN, "--root", work.root, *COMMON, *flags), *words)
    assert not work.outputs.exists()


@pytest.mark.parametrize("model", ["yolov8n", RCNN])
def test_weights_that_cannot_be_taken(work, run_step, model, tmp_path):
    toy.make(work, boxes=True)
    assert run_step(EXPORT, "--root", work.root, "--dataset", "toy", "--fold", "0").code == 0
    digest = files.sha256(work.work / "splits.csv")

    def weights(path: Path, *more: object):
        return run_step(TRAIN, "--root", work.root, *COMMON, "--model", model, "--weights", path, *more)

    assert refused(weights(tmp_path / "absent.pt"), "absent.pt")
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"not a checkpoint")
    assert refused(weights(broken), "broken.pt")
    other = tmp_path / "other.pt"
    torch.save({"fc.weight": torch.zeros(3, 3)}, other)
    assert refused(weights(other), "other.pt", "another model", "0 of")
    ours = tmp_path / "fold1" / "best.pt"
    simulated_boxes.spec(model, ("disk",), fold=1).save(ours.parent)
    torch.save({}, ours)
    assert refused(weights(ours), "fold 1", "leak")
    files.write_json(
        ours.parent / "model.json", {"task": 1, "fold": 0, "protocol": "patient", "split": "folds", "splits_sha256": digest}
    )
    assert refused(weights(ours), "task 1")
    assert not list(work.outputs.rglob("best.pt"))


def test_data_without_boxes_and_folds_without_positives(work, run_step):
    labels = toy.make(work, boxes=True)
    words = ("--root", work.root, *COMMON, "--model", RCNN)
    boxes, split = tables.read_boxes(work), tables.read_splits(work).set_index("image_id")["fold"]
    for fold, part in {1: "val", 2: "train"}.items():
        without = [1] if fold == 1 else [2, 3, 4]
        tables.write_boxes(work, boxes[~boxes["image_id"].map(split).isin(without)])
        assert refused(run_step(TRAIN, *words), f"no slice of {part} has a box", "--split")
    tables.write_boxes(work, boxes[:0])
    assert refused(run_step(TRAIN, *words), "boxes.csv has no box")
    assert len(labels) == 40 and not list(work.outputs.rglob("best.pt"))


def test_a_box_outside_its_image_stops_torchvision_too(work, run_step):
    toy.make(work, boxes=True)
    tables.write_boxes(work, tables.read_boxes(work).assign(xmax=40))
    assert refused(run_step(TRAIN, "--root", work.root, *COMMON, "--model", RCNN), "outside", "0001_01, 32 x 32 px")


def test_a_loss_that_is_not_finite(disks):
    assert refused(disks("--lr", "1e30", "--epochs", "2", "--experiment", "f"), "not finite", "--lr")


def test_a_checkpoint_that_does_not_fit_its_model_json_and_a_new_split(work, disks):
    folder = work.task(2) / "e" / "fold0"
    described = files.read_json(folder / "model.json")
    data = detection_data.load(work)
    (folder / "02_train.run.json").unlink()  # it knows the right one
    files.write_json(folder / "model.json", described | {"classes": ["bright"]})
    with pytest.raises(UserError, match=r"best\.pt is a checkpoint of another model"):
        networks.load(folder, torch.device("cpu"))
    files.write_json(folder / "model.json", described | {"splits_sha256": "other"})
    with pytest.raises(UserError, match=r"another splits\.csv"):
        networks.predict_fold(work, folder, data, 4, torch.device("cpu"))
    files.write_json(folder / "model.json", described | {"task": 1})
    with pytest.raises(UserError, match="another task"):
        networks.DetectorSpec.read(folder)


def test_the_plateau_of_a_number_that_should_rise(tmp_path):
    """A learning rate that waits for mAP falls when mAP stands still, not while it rises."""
    training = Training(schedule="plateau", warmup=0.0, patience=3, epochs=12, optimizer="sgd", lr=0.1, weight_decay=0.0)
    fit = training_fit.Fit(nn.Linear(1, 1), SimpleNamespace(folder=tmp_path), training, 1, monitor="map50_95")
    rates = []
    for value in (0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4):
        fit.optimizer.step()
        fit.by_step.step()
        fit.by_loss.step(value)
        rates.append(fit.optimizer.param_groups[0]["lr"])
    assert rates[3] == pytest.approx(0.1) and rates[-1] == pytest.approx(0.03)
