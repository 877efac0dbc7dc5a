"""01_get_data: three sources, one result; a mistake is one line, exit code 2, and nothing half-written."""

import errno
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from helpers.fake_figshare import Server, random_bytes, zip_of
from helpers.refusals import refused
from hemoct.ingest.options import LAYOUTS
from hemoct.sources import figshare, phantom_dataset

STEP = "scripts/01_get_data.py"
SMALL = ("--patients", 6, "--slices", 4, "--size", 64)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy")
    phantom_dataset.draw_dataset(folder, patients=6, slices=4, size=64)
    return folder


def left_over(root: Path) -> list[str]:
    """What lies in data/raw, hidden names too."""
    raw = root / "data" / "raw"
    return sorted(os.listdir(raw)) if raw.exists() else []


def test_demo_is_drawn_whole_and_named(run_step, tmp_path: Path) -> None:
    done = run_step(STEP, "--demo", *SMALL, "--root", tmp_path)
    assert done.code == 0, done.err
    assert "PHE-SICH-CT-IDS" in done.out and "6 patients" in done.out
    assert done.out.splitlines()[-1] == f"Next: python scripts/02_merge_annotations.py --dataset demo --root {tmp_path}"
    assert left_over(tmp_path) == ["demo"]
    record = json.loads((tmp_path / "data" / "work" / "demo" / "01_get_data.run.json").read_text())
    assert record["status"] == "ok" and record["outputs"] == ["data/raw/demo"]


def test_help_names_all_folders_that_demo_draws(run_step, drawn: Path) -> None:
    told = run_step(STEP, "--help").out
    writes = told[told.index("\nWrites") : told.index("\nNext")]
    beside = {path.name for path in drawn.iterdir() if path.is_dir() and not path.name.startswith("Subdataset")}
    assert beside >= {"types", "dicom", "nifti"} and all(name in writes for name in beside), writes
    assert "--from data/raw/demo/types" in writes


def test_demo_takes_another_name(run_step, tmp_path: Path) -> None:
    assert run_step(STEP, "--demo", *SMALL, "--root", tmp_path, "--dataset", "toy").code == 0
    assert left_over(tmp_path) == ["toy"]


def test_demo_is_drawn_once(run_step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--demo", *SMALL, "--root", tmp_path)
    run_step(STEP, *words)
    monkeypatch.setattr(phantom_dataset, "draw_dataset", lambda *_, **__: pytest.fail("drawn again"))
    assert "up to date" in run_step(STEP, *words, "--skip-if-done").out
    assert run_step(STEP, *words).code == 0, "the same demo is there: fine without a record, too"
    other = run_step(STEP, *words, "--seed", 7)
    assert other.code == 2 and other.err.count("\n") == 1 and "holds something else" in other.err


def test_stopped_drawing_leaves_nothing_and_is_cleaned_up(run_step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path, **_: int) -> None:
        (folder / "SubdatasetC_PNG").mkdir(parents=True)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "0001_00.png"))

    killed = tmp_path / "data" / "raw" / ".drawing-demo" / "SubdatasetC_PNG"
    killed.mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setattr(phantom_dataset, "draw_dataset", full)
        failed = run_step(STEP, "--demo", *SMALL, "--root", tmp_path)
    assert failed.code == 2 and failed.err.count("\n") == 1 and "No space left" in failed.err
    assert left_over(tmp_path) == []
    assert run_step(STEP, "--demo", *SMALL, "--root", tmp_path, "--skip-if-done").code == 0
    assert left_over(tmp_path) == ["demo"]


@pytest.mark.parametrize("words", [("--patients", 5), ("--slices", 3), ("--size", 32), ("--seed", -1)])
def test_too_small_a_demo_is_a_bad_flag(run_step, tmp_path: Path, words: tuple) -> None:
    failed = run_step(STEP, "--demo", *words, "--root", tmp_path)
    assert failed.code == 2 and words[0] in failed.err and str(words[1]) in failed.err and failed.err.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_just_one_source(run_step, tmp_path: Path) -> None:
    for words in ((), ("--demo", "--figshare"), ("--demo", "--from", tmp_path)):
        failed = run_step(STEP, *words, "--root", tmp_path)
        assert failed.code == 2 and failed.err.count("\n") == 1


def test_copy_is_registered_by_a_link(run_step, tmp_path: Path, drawn: Path) -> None:
    for _ in range(2):  # the same again is fine
        done = run_step(STEP, "--from", drawn, "--root", tmp_path)
        assert done.code == 0 and "6 patients" in done.out
    link = tmp_path / "data" / "raw" / "phe-sich"
    assert link.is_symlink() and link.resolve() == drawn.resolve()


def test_class_folders_go_to_step_03(run_step, tmp_path: Path, drawn: Path) -> None:
    source = next(drawn.glob("SubdatasetC_PNG/set/image1/*.png"))
    for name in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "x-ray" / "train" / name).mkdir(parents=True)
        (tmp_path / "x-ray" / "train" / name / "1.png").write_bytes(source.read_bytes())
    done = run_step(STEP, "--from", tmp_path / "x-ray", "--root", tmp_path, "--dataset", "cxr")
    assert done.code == 0 and "python scripts/03_make_labels.py --dataset cxr" in done.out


def test_what_is_there_is_never_overwritten(run_step, tmp_path: Path, drawn: Path) -> None:
    mine = tmp_path / "data" / "raw" / "phe-sich"
    mine.mkdir(parents=True)
    (mine / "precious.png").write_bytes(b"mine")
    for words in (("--from", drawn), ("--demo", "--dataset", "phe-sich", *SMALL), ("--figshare", "--api", "http://127.0.0.1:9")):
        failed = run_step(STEP, *words, "--root", tmp_path)
        assert failed.code == 2 and "is there already and holds something else" in failed.err
    assert (mine / "precious.png").read_bytes() == b"mine"


def test_dangling_link_is_not_overwritten(run_step, tmp_path: Path, drawn: Path) -> None:
    link = tmp_path / "data" / "raw" / "phe-sich"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "gone")
    for step, words in ((STEP, ("--from", drawn)), ("scripts/03_make_labels.py", ())):
        failed = run_step(step, *words, "--root", tmp_path)
        assert failed.code == 2 and "gone, which is no longer there; bring it back, or delete the link and run:" in failed.err
    assert os.readlink(link) == str(tmp_path / "gone")
    link.unlink()
    assert run_step(STEP, "--from", drawn, "--root", tmp_path).code == 0


def test_folders_that_are_no_data_set(run_step, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.txt").write_text("nothing here")
    for source, message in ((tmp_path / "notes", ", ".join(LAYOUTS)), (tmp_path / "none", "no such folder")):
        failed = run_step(STEP, "--from", source, "--root", tmp_path)
        assert failed.code == 2 and failed.err.count("\n") == 1 and message in failed.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("number", "message"), [(errno.EPERM, "no symbolic links"), (errno.EROFS, "Read-only file system")])
def test_disk_that_takes_no_link(run_step, tmp_path: Path, drawn: Path, monkeypatch, number: int, message: str) -> None:
    def refuse(self: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    failed = run_step(STEP, "--from", drawn, "--root", tmp_path)
    assert failed.code == 2 and failed.err.count("\n") == 1 and message in failed.err


def publish(server: Server, drawn: Path) -> None:
    members = {str(path.relative_to(drawn)): path.read_bytes() for path in drawn.glob("SubdatasetC_PNG/**/*") if path.is_file()}
    server.publish(SubdatasetC_PNG__zip=zip_of(members), MedInfo__xlsx=(drawn / "MedInfo.xlsx").read_bytes())


def test_download_from_end_to_end_with_a_cut(run_step, tmp_path: Path, drawn: Path, server: Server) -> None:
    publish(server, drawn)
    server.cuts = [1000]
    words = ("--figshare", "--api", server.url, "--root", tmp_path)
    done = run_step(STEP, *words)
    assert done.code == 0, done.err
    assert "CC BY 4.0" in done.out and "6 patients" in done.out
    assert left_over(tmp_path) == ["phe-sich"]
    raw = tmp_path / "data" / "raw" / "phe-sich"
    for path in drawn.glob("SubdatasetC_PNG/**/*.*"):
        assert (raw / path.relative_to(drawn)).read_bytes() == path.read_bytes()
    asked = len(server.asked)
    assert run_step(STEP, *words).code == 0, "what is there already needs no network"
    assert len(server.asked) == asked


def test_failed_download_is_kept_and_finished_later(run_step, tmp_path: Path, drawn: Path, server: Server) -> None:
    publish(server, drawn)
    server.cuts = [1000] + [0] * 5
    words = ("--figshare", "--api", server.url, "--root", tmp_path)
    failed = run_step(STEP, *words)
    assert failed.code == 2 and failed.err.count("\n") == 1 and "continues from 1000 bytes" in failed.err
    assert left_over(tmp_path) == [".download-phe-sich"]
    server.cuts.clear()
    server.asked.clear()
    assert run_step(STEP, *words).code == 0
    assert server.asked[0] == ("SubdatasetC_PNG.zip", "bytes=1000-")


def test_bad_downloads_never_get_the_final_name(run_step, tmp_path: Path, server: Server) -> None:
    words = ("--figshare", "--api", server.url, "--root", tmp_path)
    for files, message in (
        ({"a__zip": zip_of({"../evil": b"1"})}, "points outside"),
        ({"a__rar": random_bytes(99)}, "unpack it by hand"),
        ({"a__txt": b"only text"}, "in no known layout"),
    ):
        server.publish(**files)
        failed = run_step(STEP, *words)
        assert failed.code == 2 and failed.err.count("\n") == 1 and message in failed.err
        assert left_over(tmp_path) == [".download-phe-sich"]


def test_no_network_is_one_line(run_step, tmp_path: Path) -> None:
    failed = run_step(STEP, "--figshare", "--api", "http://127.0.0.1:9", "--root", tmp_path)
    assert failed.code == 2 and failed.err.count("\n") == 1 and "check the network" in failed.err
    assert left_over(tmp_path) == []


def test_full_disk_while_downloading(run_step, tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.publish(a__zip=random_bytes(1000))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(figshare, "_read_rest", full)
    failed = run_step(STEP, "--figshare", "--api", server.url, "--root", tmp_path)
    assert failed.code == 2 and failed.err.count("\n") == 1 and "No space left" in failed.err
    assert not (tmp_path / "data" / "raw" / "phe-sich").exists()


def test_real_data_are_recognised(run_step, tmp_path: Path, real_data: Path) -> None:
    done = run_step(STEP, "--from", real_data / "PHE-SICH-CT-IDS", "--root", tmp_path)
    assert done.code == 0 and "2947 slices" in done.out and "100 patients" in done.out


def test_views_are_drawn_and_labelled(tmp_path, run_step):
    place = ("--root", tmp_path)
    result = run_step("scripts/01_get_data.py", "--demo", "views", "--patients", 6, "--size", 64, *place)
    assert result.code == 0 and "03_make_labels.py" in result.out and "--dataset demo-views" in result.out, result.err
    result = run_step("scripts/03_make_labels.py", "--dataset", "demo-views", *place)
    assert result.code == 0, result.err
    labels = pd.read_csv(tmp_path / "data" / "work" / "demo-views" / "labels.csv")
    assert set(labels["group"]) == {"front", "back"} and len(labels) == 48
    again = run_step("scripts/01_get_data.py", "--demo", "views", "--patients", 7, "--size", 64, *place)
    assert refused(again, "is there already and holds something else")
    assert refused(run_step("scripts/01_get_data.py", "--demo", "angiograms", *place), "invalid choice: 'angiograms'")
