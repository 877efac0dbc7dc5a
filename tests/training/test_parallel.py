"""Two processes train one network as one would: weights, files, resuming, what is said, and what stops them."""

import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise

import pytest
import torch
from conftest import REPOSITORY

from helpers import toy, trained
from hemoct.base import files, tables
from hemoct.training import checkpoints, parallel

STEPS = {
    1: ("task1_classification/01_train.py", "--image-size", 32, "--backbone", "test_resnet", "--weights", "none"),
    3: ("task3_segmentation/02_train.py", "--image-size", 64, "--encoder", "resnet18", "--weights", "none", "--region", "slice",
        "--augment", "none"),
    4: ("task4_multilabel/02_train.py", "--image-size", 32, "--backbone", "test_resnet", "--weights", "none", "--loss",
        "weighted-bce", "--heads", "any,types"),
}  # fmt: skip
# Weights that ten steps of rounding leave alike: no batch of a few slices, no map of one pixel: its variance is rounding itself.
TEN_STEPS = {1: ("--batch-size", 8, "--epochs", 4), 3: ("--batch-size", 9, "--epochs", 4, "--lr", "1e-4"),
             4: ("--batch-size", 8, "--epochs", 2)}  # fmt: skip
DATA = {1: toy.make, 3: trained.rims, 4: trained.types}
COMMON = ("--dataset", "toy", "--device", "cpu", "--fold", 0, "--optimizer", "sgd", "--lr", "0.01", "--schedule", "constant")


def words_of(task, work, name, *more):
    step, *flags = STEPS[task]
    return [str(word) for word in (step, "--root", work.root, *COMMON, *flags, "--experiment", name, *more)]


def command(processes, *words):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    return [sys.executable, *launch, *words]


def called(processes, *words):
    """The finished call: of torchrun, or without it of one process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(processes, *words), cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=240
    )


def weights_of(folder):
    """What is learned, without the running statistics of batch normalisation."""
    state = checkpoints.read(folder / "last.pt")["model"]
    return {name: value for name, value in state.items() if "running_" not in name}


def largest_difference(one, other):
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


@pytest.mark.parametrize("task", STEPS)
def test_two_processes_learn_what_one_learns(task, work):
    DATA[task](work)
    folders = {}
    for processes in (1, 2):
        done = called(processes, *words_of(task, work, f"p{processes}", *TEN_STEPS[task]))
        assert done.returncode == 0, done.stderr
        assert len(re.findall(r"epoch 1/", done.stdout)) == 1 == done.stdout.count("Next:"), "one process speaks"
        folders[processes] = work.task(task) / f"p{processes}" / "fold0"
    one, two = folders.values()
    assert sorted(path.name for path in one.rglob("*")) == sorted(path.name for path in two.rglob("*"))
    assert checkpoints.read(two / "last.pt")["steps"] == checkpoints.read(one / "last.pt")["steps"] >= 10
    assert largest_difference(weights_of(one), weights_of(two)) < 1e-5
    of_one, of_two = (tables.read_csv(folder / "history.csv", ["train_loss", "val_loss"]) for folder in (one, two))
    assert abs(of_one[["train_loss", "val_loss"]] - of_two[["train_loss", "val_loss"]]).to_numpy().max() < 1e-5
    record = next(two.glob("*.run.json"))
    assert files.read_json(record)["processes"] == 2 and files.read_json(record)["status"] == "ok"
    if task != 3:
        predicted = [tables.read_csv(folder / "predictions.csv", ["image_id"]).filter(like="p_") for folder in (one, two)]
        assert predicted[0].shape == predicted[1].shape and abs(predicted[0] - predicted[1]).to_numpy().max() < 1e-4


def test_a_batch_in_parts_is_the_batch(work, run_step):
    trained.types(work)
    for parts in (1, 2, 4):
        flags = ("--batch-size", 8, "--epochs", 1, "--backbone", "simplecnn", "--accumulate", parts)  # no batch normalisation
        result = run_step(*words_of(4, work, f"a{parts}", *flags))
        assert result.code == 0, result.err
    whole, *others = (weights_of(work.task(4) / f"a{parts}" / "fold0") for parts in (1, 2, 4))
    assert all(largest_difference(whole, other) < 1e-6 for other in others)
    result = run_step(*words_of(4, work, "a8", "--batch-size", 8, "--accumulate", 8))
    assert result.code == 2 and "--batch-size 8 is too small" in result.err and "take 16" in result.err


def test_one_process_goes_on_where_two_were_killed(work):
    toy.make(work)
    flags = ("--batch-size", 8, "--epochs", 4)
    words = words_of(1, work, "killed", *flags)
    folder = work.task(1) / "killed" / "fold0"
    process = subprocess.Popen(command(2, *words), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                               start_new_session=True)  # fmt: skip
    for line in process.stdout:
        if "epoch 1/" in line:
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    deadline = time.monotonic() + 60
    while (done := called(1, *words, "--resume")).returncode and time.monotonic() < deadline:
        time.sleep(1)  # the processes that torchrun started end on their own when it is gone
    assert done.returncode == 0 and "goes on after epoch" in done.stdout, done.stderr
    whole = called(1, *words_of(1, work, "whole", *flags))
    assert whole.returncode == 0
    assert largest_difference(weights_of(folder), weights_of(work.task(1) / "whole" / "fold0")) < 1e-5


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--batch-size", 2, "--accumulate", 2), "--batch-size 2 is too small"),  # found by all, when they train
        (("--weights", "nowhere.pt"), "nowhere.pt: no such file"),  # found by all, before they meet
        (("--epochs", "x"), "argument --epochs"),
    ],
)
def test_all_stop_with_one_line(work, more, said):
    toy.make(work)
    done = called(2, *words_of(1, work, "e", *more))
    ours = [line for line in done.stderr.splitlines() if line.startswith("01_train.py: ")]
    assert done.returncode and len(ours) == 1 and said in ours[0], done.stderr
    assert set(re.findall(r"exitcode +: +(-?\d+)", done.stderr)) <= {"2", "-15"} and "Traceback (most recent" not in ours[0]


def test_a_locked_folder_stops_all(work):
    toy.make(work)
    from filelock import FileLock

    folder = work.task(1) / "e"
    folder.mkdir(parents=True)
    with FileLock(folder / ".fold0.lock"):
        done = called(2, *words_of(1, work, "e"))
    assert done.returncode and done.stderr.count("another process is writing there") == 1, done.stderr


def test_steps_of_one_process_say_so(work):
    done = called(2, "task1_classification/02_evaluate.py", "--root", str(work.root), "--dataset", "toy")
    assert done.returncode and done.stderr.count("02_evaluate.py: this step runs in one process") == 1


@pytest.mark.parametrize("rows", [1, 5, 8, 19, 40])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_each_row_is_computed_once(monkeypatch, rows, accumulate, processes):
    monkeypatch.setattr(parallel, "count", lambda: processes)
    shares = []
    for me in range(processes):
        monkeypatch.setattr(parallel, "number", lambda me=me: me)
        shares.append(parallel.share(rows, 8, accumulate))
    seen = []
    for index, part in enumerate(shares[0].parts):
        assert all(share.parts[index] == part for share in shares)
        for me, share in enumerate(shares):
            before = sum(share.sizes[:index])
            seen += share.own[before : before + part.sizes[me]].tolist()
    assert seen == list(range(rows))
    batches = [index for index, part in enumerate(shares[0].parts) if part.last]
    weights = [part.weight for part in shares[0].parts]
    assert all(abs(sum(weights[after + 1 : last + 1]) - 1) < 1e-9 for after, last in pairwise([-1, *batches]))


def test_gradients_go_to_the_own_rows():
    part = parallel.Part((3,), 0.5)
    rows = torch.ones(3, 2, requires_grad=True)
    assert part.whole(rows) is rows and part.weighted(rows.sum()) == 3.0
