"""scripts/views.sh: the commands that it runs are steps with flags that they know; wrong words stop."""

import shlex
import subprocess

import pytest
from conftest import REPOSITORY

SCRIPT = REPOSITORY / "scripts" / "views.sh"


def listed(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(["bash", SCRIPT, *words], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("words", "steps"), [((), 7), (("--dataset", "x"), 4)], ids=["phantom", "own data"])
def test_the_chain_is_that_of_the_steps(run_step, words, steps):
    done = listed("--list", "--root", "somewhere", *words, "--", "--epochs", "3")
    commands = [shlex.split(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(commands) == steps and all(words[0] == "python" for words in commands), done.stderr
    for _, step, *words in commands:
        known = run_step(step, "--help").out
        assert [word for word in words if word.startswith("--") and f"{word} " not in f"{known} "] == []
    train = next(words for _, step, *words in commands if "02_train" in step)
    assert "--share-encoder" in train and train[train.index("--epochs") + 1] == "3"
    assert {"median", "--pool", "train:q90"} <= set(commands[-1])


def test_other_words_stop():
    done = listed("--epochs", "3")
    assert done.returncode == 2 and "--epochs is none of --dataset NAME" in done.stderr and done.stderr.count("\n") == 1
