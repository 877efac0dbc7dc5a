"""Checkpoints are read without running what a pickle holds, only as they were trained, and written whole."""

import errno
import os
import resource
import subprocess

import pytest
import timm
import torch
from torch import nn

from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.training import checkpoints


class Call:
    """Calls a function where it is unpickled."""

    def __init__(self, function, *words):
        self.words = function, words

    def __reduce__(self):
        return self.words


@pytest.mark.parametrize(
    ("call", "name"),
    [(lambda mark: Call(os.system, f"touch {mark}"), "posix.system"), (lambda mark: Call(open, str(mark), "w"), ".open"),
     (lambda mark: Call(subprocess.run, ["touch", str(mark)]), ".run"),
     (lambda mark: Call(torch.hub.load, str(mark), "x"), "torch.hub.load")],
)  # fmt: skip
@pytest.mark.parametrize("beside", [True, False])
def test_code_in_a_checkpoint_is_named_and_not_run(tmp_path, call, name, beside):
    path, mark = tmp_path / "evil.pt", tmp_path / "ran"
    evil = call(mark)
    torch.save({"model": nn.Linear(2, 2), "more": evil} if beside else evil, path)
    with pytest.raises(UserError, match=rf"evil\.pt names \S*{name}.* none of it was run"):
        checkpoints.read_state(path)
    assert not mark.exists() and path.exists()


@pytest.mark.parametrize("kept", [lambda network: network, lambda network: {"epoch": 3, "ema": None, "model": network}])
def test_of_a_pickled_network_the_tensors_are_read_and_no_class(tmp_path, monkeypatch, kept):
    network = timm.create_model("test_resnet", pretrained=False).half()
    network.register_buffer("passing", torch.ones(3), persistent=False)
    torch.save(kept(network), tmp_path / "network.pt")
    monkeypatch.setattr(nn.Module, "__setstate__", lambda *_: pytest.fail("a class was unpickled"))
    state, own = checkpoints.read_state(tmp_path / "network.pt"), network.state_dict()
    assert list(state) == list(own) and all(torch.equal(state[name], own[name]) for name in own)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"no checkpoint at all"])
def test_a_damaged_checkpoint(tmp_path, capsys, content):
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(checkpoints.Damaged, match=r"last\.pt is not a torch checkpoint"):
        checkpoints.read_state(path)
    assert checkpoints.left_in(tmp_path / "none.pt") is None and "nothing to resume" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["best.pt", "model.json"])
def test_a_model_that_is_not_the_one_that_was_trained(tmp_path, name):
    """The run record of a training that has ended knows its files; that of a killed one and older ones do not."""
    folder, network = tmp_path / "outputs" / "e" / "fold0", nn.Linear(1, 1)
    checkpoints.save(folder / "best.pt", network.state_dict())
    files.write_json(folder / "model.json", {"task": 1})
    hashes = {f"outputs/e/fold0/{one}": files.sha256(folder / one) for one in ("best.pt", "model.json")}
    record = {"status": "ok", "sha256": hashes}
    files.write_json(folder / "01_train.run.json", record)
    checkpoints.load_trained(network, folder)
    if name == "best.pt":
        checkpoints.save(folder / name, nn.Linear(1, 1).state_dict())
    else:
        files.write_json(folder / name, {"task": 1, "mean": 0.5})
    with pytest.raises(UserError, match=rf"{name} is not the one that was trained .*01_train\.run\.json.* restore it"):
        checkpoints.load_trained(network, folder)
    for other in ({"status": "unfinished"}, {"sha256": {}}):
        files.write_json(folder / "01_train.run.json", record | other)
        checkpoints.load_trained(network, folder)


def test_weights_that_are_not_finite(tmp_path):
    network = nn.Linear(2, 1)
    for value in (torch.nan, torch.inf):
        checkpoints.save(tmp_path / "best.pt", network.state_dict() | {"bias": torch.tensor([value])})
        with pytest.raises(UserError, match=r"best\.pt holds weights that are not finite \(bias\)"):
            checkpoints.load_trained(network, tmp_path)


def test_a_disk_that_is_full_in_the_middle_of_a_checkpoint(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoints.save(tmp_path / "last.pt", {"a": torch.zeros(3)})
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"last\.pt") as failed:
            checkpoints.save(tmp_path / "last.pt", {"a": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert failed.value.errno == errno.EFBIG
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"] and len(checkpoints.read(tmp_path / "last.pt")["a"]) == 3
