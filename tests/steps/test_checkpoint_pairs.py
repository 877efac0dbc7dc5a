"""best.pt and model.json of a fold belong together wherever a training is killed; what is cut or exchanged is noticed."""

import itertools
import shutil
from types import SimpleNamespace

import pytest

from helpers import killed, simulated_boxes, simulated_networks, toy, trained
from helpers.refusals import refused
from hemoct.base import files
from hemoct.detection import torchvision_models
from hemoct.segmentation import networks as segmentation_networks
from hemoct.training import checkpoints

CLASSIFIER = ("--weights", "none", "--backbone", "test_resnet", "--image-size", 32, "--batch-size", 8, "--device", "cpu",
              "--fold", 0, "--experiment", "e", "--epochs", 2, "--threads", 1)  # fmt: skip
SLICE = ("--epochs", 1, "--protocol", "slice")
TASKS = {
    1: ("task1_classification/01_train.py", CLASSIFIER, SLICE),
    2: ("task2_detection/02_train.py", trained.DISKS, SLICE),
    3: ("task3_segmentation/02_train.py", trained.RIMS, ("--no-mirrored-mean", "--lr", "2e-3")),
    4: ("task4_multilabel/02_train.py", trained.TYPES, SLICE),
}
"""step, flags of a first training, and flags of another one whose model.json says something else"""


@pytest.fixture
def fold(work, monkeypatch, request):
    """The trained fold of a task."""
    monkeypatch.setattr(torchvision_models, "get_model", simulated_boxes.tiny_detector)
    monkeypatch.setattr(segmentation_networks.smp, "create_model", simulated_networks.tiny)
    step, flags, other = TASKS[request.param]
    words = [str(word) for word in ("--root", work.root, "--dataset", "toy", *flags)]
    if request.param == 1:
        toy.make(work)
        killed.run(step, words)
    else:
        {2: trained.disks, 3: trained.rims, 4: trained.types}[request.param](work)
    folder = work.task(request.param) / "e" / "fold0"
    return SimpleNamespace(work=work, step=step, words=words, other=[*map(str, other)], folder=folder)


@pytest.mark.parametrize("fold", [1, pytest.param(2, marks=pytest.mark.slow), 3, 4], indirect=True)
def test_a_killed_overwrite_leaves_no_new_weights_beside_an_old_description(fold):
    before = {name: (fold.folder / name).read_bytes() for name in ("best.pt", "model.json")}
    shutil.copytree(fold.folder, fold.work.root / "kept")
    seen = set()
    for at in itertools.count():
        shutil.rmtree(fold.folder)
        shutil.copytree(fold.work.root / "kept", fold.folder)
        if not killed.run(fold.step, [*fold.words, *fold.other, "--overwrite"], at):
            break
        if (fold.folder / "best.pt").exists():
            old = [(fold.folder / name).read_bytes() == content for name, content in before.items()]
            assert old[0] == old[1], f"write {at}"
            seen.add(old[0])
    assert seen == {True, False}


@pytest.mark.parametrize("fold", [1], indirect=True)
@pytest.mark.parametrize("name", ["best.pt", "last.pt"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_cut_checkpoint_starts_the_fold_from_the_beginning(fold, run_step, name, share):
    best, path = (fold.folder / "best.pt").read_bytes(), fold.folder / name
    record = fold.folder / "01_train.run.json"
    files.write_json(record, files.read_json(record) | {"status": "unfinished"})
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    result = run_step(fold.step, *fold.words, "--resume")
    assert result.code == 0 and f"{name} is not a torch checkpoint" in result.out and "starts from the beginning" in result.out
    assert "epoch 1/2" in result.out and (fold.folder / "best.pt").read_bytes() == best


@pytest.mark.parametrize("fold", [1, 2], indirect=True)
def test_weights_that_are_broken_or_of_another_training_predict_nothing(fold, run_step):
    step = {1: "task1_classification/04_predict.py", 2: "task2_detection/05_predict.py"}[int(fold.step[4])]
    words = ("--root", fold.work.root, "--dataset", "toy", "--experiment", "e", "--device", "cpu", fold.work.raw, "--out")
    best, out = fold.folder / "best.pt", fold.work.root / "out"
    state = checkpoints.read_state(best)
    name = next(name for name, value in state.items() if value.is_floating_point())
    checkpoints.save(best, state | {name: state[name] * 2})
    assert refused(run_step(step, *words, out), "best.pt is not the one that was trained", "restore it")
    for record in fold.folder.glob("*.run.json"):
        record.unlink()
    checkpoints.save(best, state | {name: state[name] * float("nan")})
    assert refused(run_step(step, *words, out), f"best.pt holds weights that are not finite ({name})", "--lr")
    assert not list(out.rglob("*.csv"))
