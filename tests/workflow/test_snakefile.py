"""The chain by snakemake: every rule of it in a dry run, and one fold for real, killed and gone on with."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.dicom_files import head, write_series
from hemoct.base import files
from hemoct.workflow.graph import Graph

REPOSITORY = Path(__file__).resolve().parents[2]
RUN = REPOSITORY / "scripts" / "workflow" / "run.sh"
INSTALLED = os.access(REPOSITORY / ".venv-workflow" / "bin" / "snakemake", os.X_OK) or shutil.which("snakemake")
needs_snakemake = pytest.mark.skipif(not INSTALLED, reason="no snakemake: bash scripts/workflow/run.sh --install")
FOLD = "outputs/demo/task1/resnet10t/fold0"


def start(
    root: Path, *words: str, log: Path, dataset: str = "demo", profile: str = "demo", more: tuple[str, ...] = ()
) -> subprocess.Popen:
    """Snakemake in a process group of its own, with the Python of these tests; what it says goes to a file."""
    config = [f"dataset={dataset}", f"profile={profile}", f"root={root}", f"python={sys.executable}", "threads=1", *more]
    call = ["bash", str(RUN), "--profile", "local", *words, "--quiet", "rules", "--config", *config]
    with log.open("w") as stream:
        return subprocess.Popen(call, cwd=root, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)


def jobs(text: str) -> dict[str, int]:
    """The numbers of snakemake's table of jobs, by rule."""
    table = re.search(r"^job +count\n-.*\n((?:\w+ +\d+\n)+)", text, re.MULTILINE)
    counts = {name: int(count) for name, count in (line.split() for line in table[1].splitlines())}
    assert counts.pop("total") == sum(counts.values())
    return counts


@needs_snakemake
@pytest.mark.parametrize("profile", ["demo", "laptop"])
def test_a_dry_run_has_every_step_with_all_of_its_experiments_and_folds(tmp_path: Path, profile: str) -> None:
    assert start(tmp_path, "--dry-run", log=tmp_path / "log", profile=profile).wait() == 0, (tmp_path / "log").read_text()
    chain = Graph.of({"dataset": "demo", "profile": profile, "root": tmp_path, "python": sys.executable})
    wanted = {step.name: len(chain.plan.jobs(step)) for step in chain.steps}
    assert jobs((tmp_path / "log").read_text()) == wanted | {"all": 1}


@needs_snakemake
def test_before_labels_are_made_no_more_is_known_of_ones_own_data(tmp_path: Path) -> None:
    (tmp_path / "data" / "raw" / "mine").mkdir(parents=True)
    assert start(tmp_path, "--dry-run", log=tmp_path / "log", dataset="mine").wait() == 0, (tmp_path / "log").read_text()
    assert jobs((tmp_path / "log").read_text()) == {"merge_annotations": 1, "make_labels": 1, "all": 1}


@needs_snakemake
def test_a_conversion_in_shards_has_a_job_for_each_and_is_not_done_twice(tmp_path: Path) -> None:
    write_series(tmp_path / "in", head(4))
    (tmp_path / "in" / "labels.csv").write_text("image,bleeding\n01,1\n02,0\n03,0\n04,1\n")
    told = {"dataset": "ct", "more": (f"get_flags=--from {tmp_path / 'in'}", "shards=3")}
    assert start(tmp_path, "--dry-run", log=tmp_path / "dry", **told).wait() == 0, (tmp_path / "dry").read_text()
    made = {"convert_shard": 3, "get_data": 1, "merge_annotations": 1, "make_labels": 1}
    assert jobs((tmp_path / "dry").read_text()) == made | {"all": 1}
    wanted = "data/work/ct/labels.csv"
    assert start(tmp_path, wanted, log=tmp_path / "log", **told).wait() == 0, (tmp_path / "log").read_text()
    text = (tmp_path / "log").read_text()
    assert jobs(text) == made and "4 of 4 files are already converted" in text
    assert (
        start(tmp_path, wanted, log=tmp_path / "again", **told).wait() == 0
        and "Nothing to be done" in (tmp_path / "again").read_text()
    )


@needs_snakemake
def test_killed_and_run_again_goes_on(tmp_path: Path) -> None:
    """The data steps and one fold; killed after the first epoch, no epoch is trained twice and no data step runs again."""
    first, second, third = (tmp_path / name for name in ("first.log", "second.log", "third.log"))
    wanted = f"{FOLD}/predictions.csv"
    running = start(tmp_path, wanted, log=first)
    while not (tmp_path / FOLD / "last.pt").exists():
        assert running.poll() is None, first.read_text()
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not (tmp_path / wanted).exists()
    assert jobs(first.read_text()) == dict.fromkeys(
        ["get_data", "merge_annotations", "make_labels", "check_data", "make_splits", "task1_train"], 1
    )

    assert start(tmp_path, wanted, log=second).wait() == 0, second.read_text()
    assert jobs(second.read_text()) == {"task1_train": 1}
    assert "goes on after epoch" in second.read_text() and " epoch 1/" not in second.read_text()
    record = files.read_json(tmp_path / FOLD / "01_train.run.json")
    assert record["status"] == "ok" and len(record["earlier"]) == 1

    before = (tmp_path / FOLD / "best.pt").stat().st_mtime_ns
    assert start(tmp_path, wanted, "--forcerun", "task1_train", log=third).wait() == 0, third.read_text()
    assert f"up to date: {FOLD}/01_train.run.json" in third.read_text(), "the step itself finds what snakemake left"
    assert (tmp_path / FOLD / "best.pt").stat().st_mtime_ns == before


@needs_snakemake
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    running = start(tmp_path, "--dry-run", log=tmp_path / "log", dataset="nothing")
    assert running.wait() == 2
    problem = [line for line in (tmp_path / "log").read_text().splitlines() if not line.startswith("Using profile")]
    assert len(problem) == 1 and problem[0].startswith("Snakefile: data/raw/nothing is missing in ")


def test_without_snakemake_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    copy = tmp_path / "scripts"
    copy.mkdir()
    shutil.copy(REPOSITORY / "scripts" / "setup.sh", copy)
    shutil.copytree(REPOSITORY / "scripts" / "workflow", copy / "workflow")
    words = ["bash", str(copy / "workflow" / "run.sh"), "--profile", "local", "--config", "dataset=demo"]
    done = subprocess.run(words, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    if shutil.which("snakemake", path="/usr/bin:/bin"):
        pytest.skip("the system has a snakemake")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "bash scripts/workflow/run.sh --install" in done.stderr
