"""One process at a time writes in a folder; what holds it ends with the process, however that ends."""

import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from hemoct.base import files
from hemoct.base.errors import UserError
from hemoct.base.runs import Run

HOLD = """
import sys, time
from argparse import Namespace
from pathlib import Path
from hemoct.base.runs import Run
root = Path(sys.argv[1])
with Run("scripts/05_make_splits.py", Namespace(root=root, skip_if_done=False, command="c", seed=1), root / "e", []):
    print("held", flush=True)
    time.sleep(60)
"""


def run(root: Path, folder: str = "e") -> Run:
    return Run("scripts/02_x.py", Namespace(root=root, skip_if_done=False, command="c", seed=1), root / folder, [])


def test_a_second_writer_stops_until_the_first_one_ends_or_is_killed(tmp_path: Path):
    first = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="e: another process is writing there; wait until it ends"), run(tmp_path):
            pass
        assert not (tmp_path / "e" / "02_x.run.json").exists(), "nothing was written"
        with run(tmp_path, "other"):
            pass
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    with run(tmp_path):
        pass
    assert files.read_json(tmp_path / "e" / "02_x.run.json")["status"] == "ok"
    assert files.read_json(tmp_path / "e" / "05_make_splits.run.json")["status"] == "unfinished"


def test_a_folder_is_free_after_a_mistake_and_within_one_process(tmp_path: Path):
    with pytest.raises(ValueError, match="wrong"), run(tmp_path):
        raise ValueError("wrong")
    with run(tmp_path), run(tmp_path):
        pass
    with run(tmp_path):
        pass
