"""A conversion in shards gives what one in a single run gives, and stops where a shard is missing or not of these files."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import REPOSITORY

from helpers.dicom_files import head, write_series
from helpers.refusals import refused
from hemoct.ingest import conversion
from hemoct.ingest.options import Shard

STEP = "scripts/01_get_data.py"
HIDDEN = "data/raw/.converting-ct"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two patients, the second scanned twice at each position; a name that two files share, a bad file, a table."""
    folder = tmp_path / "in"
    for number, slices in ((1, 7), (2, 6)):
        write_series(folder, head(slices, seed=number), number, edit=lambda header, _: None)
        (folder / "dicom").rename(folder / f"series{number}")

    def again(header, index):
        header.SOPInstanceUID = header.file_meta.MediaStorageSOPInstanceUID = f"1.2.{index}"
        header.InstanceNumber = index + 100

    write_series(folder, head(6, seed=3), 2, edit=again)
    (folder / "dicom").rename(folder / "series2" / "again")
    shutil.copy(folder / "series1" / "02.dcm", folder / "series1" / "01")
    (folder / "bad.dcm").write_text("no scan")
    (folder / "labels.csv").write_text("image,bleeding\n02,1\n")
    return folder


@pytest.fixture
def convert(run_step, tmp_path, source):
    def run(*words: object, root: Path = tmp_path):
        return run_step(STEP, "--from", source, "--root", root, "--dataset", "ct", "--workers", 1, *words)

    return run


def content(root: Path) -> dict[str, bytes]:
    folder = root / "data/raw/ct"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_shards_and_one_run_make_the_same_bytes(convert, tmp_path):
    whole = convert(root=tmp_path / "whole")
    assert whole.code == 0, whole.err
    told = [convert("--shard", f"{number}/3") for number in (3, 1, 2)]
    assert [each.code for each in told] == [0, 0, 0] and not (tmp_path / "data/raw/ct").exists()
    counts = [int(each.out.split()[2]) for each in told]
    assert sum(counts) == 21 and all(0 < count < 21 for count in counts)
    again = convert("--shard", "3/3")
    assert again.code == 0 and f" of {counts[0]} files are already converted" in again.out
    done, told = convert(), whole.out.replace(str(tmp_path / "whole"), str(tmp_path))
    assert done.code == 0 and done.out == f"21 of 21 files are already converted\n{told}"
    made = content(tmp_path)
    assert made == content(tmp_path / "whole") and "images/series1/01.dcm.png" in made
    late = convert("--shard", "2/3")
    assert late.code == 0 and content(tmp_path) == made, "what is converted is left alone"


def test_a_missing_shard_stops_and_is_named(convert, tmp_path):
    assert convert("--shard", "1/3").code == convert("--shard", "3/3").code == 0
    assert refused(convert(), "shard 2/3 is missing", "--shard 2/3")
    assert refused(convert("--shard", "1/4"), "holds shard 1/3", "--shard I/3")
    assert convert("--shard", "2/3").code == 0
    assert convert().code == 0


@pytest.mark.parametrize("word", ["4/3", "0/3", "x", "1/", "-1/2"])
def test_what_is_no_shard_is_refused(convert, word):
    assert refused(convert(f"--shard={word}"), "is no shard")


def test_shards_of_other_flags_stop(convert):
    assert convert("--shard", "1/2").code == convert("--shard", "2/2", "--window", "bone").code == 0
    assert refused(convert(), "with other flags")


def test_a_shard_of_files_that_changed_is_refused_until_it_runs_again(convert, source):
    assert convert("--shard", "1/2").code == convert("--shard", "2/2").code == 0
    shutil.copy(source / "series1" / "04.dcm", source / "series1" / "03.dcm")
    shard = Shard.that_holds("images/series1/03", 2)
    assert refused(convert(), f"shard {shard} was made of other files", "series1/03.dcm", f"--shard {shard}")
    assert convert("--shard", shard).code == 0
    assert convert().code == 0


def test_a_file_that_is_gone_since_a_shard_is_refused(convert, source):
    assert convert("--shard", "1/2").code == convert("--shard", "2/2").code == 0
    os.rename(source / "series1" / "05.dcm", source / "late.dcm")
    shard = Shard.that_holds("images/series1/05", 2)
    assert refused(convert(), f"shard {shard} was made of other files", "series1/05.dcm")
    assert refused(convert("--shard", shard), "1 file(s)", "no longer in", "convert again")
    os.rename(source / "late.dcm", source / "series1" / "05.dcm")
    assert convert().code == 0


def test_a_killed_shard_goes_on(convert, source, tmp_path, monkeypatch):
    words = [REPOSITORY / STEP, "--from", source, "--root", tmp_path, "--dataset", "ct", "--workers", 1, "--shard", "1/1"]
    slow = "import sys, time; from hemoct.ingest import conversion as c; one = c.convert_one; c.CHUNK = 1\n"
    slow += "c.convert_one = lambda *words: (time.sleep(0.3), one(*words))[1]\n"
    slow += f"sys.argv = {[str(word) for word in words]}; import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "scripts")}
    running = subprocess.Popen([sys.executable, "-c", slow], env=environment, stdout=subprocess.DEVNULL)
    images = tmp_path / HIDDEN / "images"
    while running.poll() is None and len(list(images.rglob("*.png"))) < 3:
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert refused(convert(), "shard 1/1 was made of other files, or not to its end")
    with closing(sqlite3.connect(tmp_path / HIDDEN / "conversion/journal-1-of-1.sqlite")) as base:
        before = base.execute("SELECT COUNT(done) FROM sources").fetchone()[0]
    asked, convert_one = [], conversion.convert_one
    monkeypatch.setattr(conversion, "convert_one", lambda *words: asked.append(words[0].path) or convert_one(*words))
    assert convert("--shard", "1/1").code == 0 and before >= 2 and len(asked) in (21 - before, 22 - before)
    assert convert().code == 0
