"""A bundle is read as it was exported or not at all, without PyTorch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import untrained
from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.scan import bundle, choose, graphs
from hemoct.scan.result import Model
from hemoct.scan.runners import Around, Task

REPOSITORY = Path(__file__).resolve().parents[2]
UNNEEDED = ("torch", "torchvision", "timm", "ultralytics", "segmentation_models_pytorch", "monai", "captum", "onnx", "numba",
            "sklearn", "pycocotools", "safetensors", "huggingface_hub")  # fmt: skip


def task(number: int, folds: int = 2, **more) -> Task:
    model = Model(number, f"e{number}", "toy", list(range(folds)), "AUROC 0.9", [f"{number}{fold}" for fold in range(folds)])
    usual = {
        "model": model, "size": 64, "channels": 1, "context": 0, "window": "brain", "prepare": ["text"], "orientation": "left",
        "classes": ["hemorrhage"] if number == 1 else ["a"] if number == 2 else [], "rule": "mean of 2 folds",
        "thresholds": [128.0 if number == 3 else 0.4], "load": list,
    }  # fmt: skip
    return Task(**usual | more)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Tasks 1 and 3, two folds each; the graphs of task 3 and its detector are none, for nobody runs them."""
    root = tmp_path_factory.mktemp("made")
    folder = root / "bundle"
    folder.mkdir()
    graphs.write(1, untrained.put(root / "fold0", untrained.classifier(image_size=64)), folder / "task1-fold0.onnx")
    shutil.copy(folder / "task1-fold0.onnx", folder / "task1-fold1.onnx")
    names = {number: [f"task{number}-fold{fold}.onnx" for fold in (0, 1)] for number in (1, 2, 3)}
    for name in (*names[2], *names[3]):
        (folder / name).write_bytes(name.encode())
    around = Around(0.1, 32, [0.2, 0.3], task(2))
    content = [
        bundle.describe(task(1), ("classifier", 64, names[1]), [], {}),
        bundle.describe(task(3, means="perihematomal edema"), ("patches", 32, names[3]), [], {}),
    ]
    content[1]["around"] = bundle.around(around, bundle.describe(task(2), ("candidates", 64, names[2]), [], {}))
    bundle.write(folder, {"tasks": content}, "# card\n")
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "bundle")


def change(folder: Path, **fields) -> None:
    """Change bundle.json, and its checksum with it."""
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    lines = [line for line in (folder / "SHA256SUMS").read_text().splitlines() if not line.endswith("bundle.json")]
    (folder / "SHA256SUMS").write_text("\n".join([*lines, f"{files.sha256(path)}  bundle.json"]) + "\n")


def refused(folder: Path, *words: str) -> bool:
    with pytest.raises(UserError) as stopped:
        bundle.load(folder)
    said = str(stopped.value)
    assert "\n" not in said and all(word in said for word in words), said
    return True


def test_what_was_exported_is_what_is_read(folder):
    models = bundle.load(folder)
    assert [one.model.task for one in models.tasks] == [1, 3] and models.learned == [] and len(models.said) == 1
    for read, written in zip(models.tasks, (task(1), task(3, means="perihematomal edema")), strict=True):
        for name in ("model", "size", "channels", "context", "window", "prepare", "orientation", "classes", "thresholds", "rule",
                     "means"):  # fmt: skip
            assert getattr(read, name) == getattr(written, name), name
    around = models.tasks[1].around
    assert (around.margin, around.least_side, around.least_confidence) == (0.1, 32, [0.2, 0.3])
    assert around.detector.model == task(2).model and len(around.detector.load()) == 2
    networks = models.tasks[0].load()
    found = [one.probabilities(np.zeros((9, 1, 64, 64), np.uint8)) for one in networks]
    assert len(found) == 2 and found[0].shape == (9, 1) and np.array_equal(*found)
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("OK") == 8


def test_one_fold_is_enough_where_it_is_asked_for(folder):
    (folder / "task3-fold1.onnx").unlink()
    models = bundle.load(folder, fast=True)
    assert [one.model.folds for one in models.tasks] == [[0], [0]] and len(models.tasks[0].load()) == 1
    around = models.tasks[1].around
    assert around.least_confidence == [0.2] and around.detector.model.folds == [0] and len(models.files) == 4


def test_one_fold_decides_by_its_own_threshold(folder):
    tasks = json.loads((folder / "bundle.json").read_text())["tasks"]
    tasks[0]["evaluation"] = {"folds": [{"fold": 0, "threshold": 0.25}, {"fold": 1, "threshold": 0.75}]}
    change(folder, tasks=tasks)
    one, mean = (bundle.load(folder, fast=fast).tasks[0] for fast in (True, False))
    assert one.thresholds == [0.25] and one.rule == "of the fold, chosen on validation"
    assert mean.thresholds == tasks[0]["thresholds"] and mean.rule == tasks[0]["rule"]


def test_choosing_takes_a_bundle_for_what_it_is(folder):
    assert choose.models([folder], choose.Which(fast=True, threads=1)).of(3).around.detector is not None


def test_an_experiment_that_is_named_is_not_replaced_by_that_of_the_bundle(folder):
    assert choose.models([folder], choose.Which(experiments={1: "e1"})).of(1).model.experiment == "e1"
    with pytest.raises(UserError, match=r"resnet18 \(task 1\) is not in"):
        choose.models([folder], choose.Which(experiments={1: "resnet18"}))


def test_another_version_stops(folder):
    change(folder, schema=bundle.SCHEMA + 1)
    assert refused(folder, "bundle.json", f"version {bundle.SCHEMA + 1}", "update this program")
    change(folder, schema=0)
    assert refused(folder, "version 0", "82_export.py")
    for value in (None, "1", True):
        change(folder, schema=value)
        assert refused(folder, "bundle.json", "does not say its version")


def test_what_is_missing_or_changed_is_named(folder, made):
    graph = folder / "task3-fold1.onnx"
    graph.write_bytes(graph.read_bytes() + b" ")
    assert refused(folder, "task3-fold1.onnx", "checksum")
    graph.unlink()
    assert refused(folder, "task3-fold1.onnx", "missing")
    shutil.copy(made / graph.name, graph)
    path = folder / "bundle.json"
    path.write_text(path.read_text().replace('"thresholds": [\n        0.4', '"thresholds": [\n        0.1'))
    assert refused(folder, "bundle.json", "not the file that SHA256SUMS")
    path.write_text("{")
    assert refused(folder, "bundle.json", "no JSON")
    path.unlink()
    assert refused(folder, "bundle.json", "no bundle")
    shutil.copy(made / "bundle.json", path)
    (folder / "SHA256SUMS").unlink()
    assert refused(folder, "SHA256SUMS", "missing")
    (folder / "SHA256SUMS").write_bytes(b"\xff\xfe")
    assert refused(folder, "SHA256SUMS", "damaged")


@pytest.mark.parametrize(
    "wrong",
    [
        {"networks": ["../../secret.onnx", "task1-fold1.onnx"]}, {"networks": []}, {"folds": [0]}, {"thresholds": ["0.4"]},
        {"thresholds": []}, {"kind": "candidates"}, {"task": 9}, {"classes": "hemorrhage"}, {"size": "64"}, {"more": 1},
        {"around": {"margin": 0.1}},
    ],
    ids=str,
)  # fmt: skip
def test_a_description_that_no_export_wrote_stops(folder, wrong):
    content = json.loads((folder / "bundle.json").read_text())["tasks"]
    change(folder, tasks=[content[0] | wrong])
    assert refused(folder, "bundle.json", "damaged")


def test_a_list_of_nothing_stops(folder):
    for tasks in ([], None, {}, [1], [None]):
        change(folder, tasks=tasks)
        assert refused(folder, "bundle.json", "damaged")


def test_a_graph_that_cannot_be_run_stops(folder):
    network = bundle.load(folder).of(3).load()[0]
    with pytest.raises(UserError, match=r"task3-fold0.onnx cannot be run by ONNX Runtime"):
        network.patches(np.zeros((1, 1, 64, 64), np.uint8), np.zeros(1, int), np.zeros((1, 3)))


def test_a_scan_needs_neither_torch_nor_what_trains(made, tmp_path):
    """The step itself, on images, with a bundle of task 1, in a Python in which these packages cannot be imported."""
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(made / "task1-fold0.onnx", alone)
    bundle.write(
        alone, {"tasks": [bundle.describe(task(1, folds=1), ("classifier", 64, ["task1-fold0.onnx"]), [], {})]}, "# card\n"
    )
    (tmp_path / "one").mkdir()
    for number in range(3):
        Image.new("L", (70, 60), 40 * number).save(tmp_path / "one" / f"{number}.png")
    words = ["80_predict_scan.py", str(tmp_path / "one"), "--models", str(alone), "--out", str(tmp_path / "out")]
    code = f"""
import runpy, sys
class Hidden:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {UNNEEDED!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Hidden())
sys.path.insert(0, {str(REPOSITORY / "scripts")!r})
sys.argv = {words!r}
runpy.run_path({str(REPOSITORY / "scripts" / "80_predict_scan.py")!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "out" / "scan.html").is_file(), done.stderr
    assert "hemorrhage" in done.stdout
