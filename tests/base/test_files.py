"""Folders that are replaced whole, and fingerprints that change with the data and with nothing else."""

import re
from pathlib import Path

import pytest

from hemoct.base import files, tables
from hemoct.base.errors import UserError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """a.png, deep/b.png"""
    for name in ("a.png", "deep/b.png"):
        files.write_text(tmp_path / "data" / name, name)
    return tmp_path / "data"


def test_a_fingerprint_changes_with_names_and_contents(data: Path) -> None:
    before = files.fingerprint(data)
    assert files.fingerprint(data) == before
    (data / "deep" / "b.png").write_text("longer than it was")
    changed = files.fingerprint(data)
    (data / "a.png").rename(data / "c.png")
    assert len({before, changed, files.fingerprint(data), files.fingerprint(data / "c.png")}) == 4
    assert files.fingerprint(data / "a.png") is None


def test_a_fingerprint_passes_over_hidden_files(data: Path) -> None:
    before = files.fingerprint(data)
    for name in (".DS_Store", "deep/._b.png", ".git/config", "__MACOSX/a.png"):
        files.write_text(data / name, "not data")
    assert files.fingerprint(data) == before


def test_a_fingerprint_survives_broken_links_and_loops(data: Path) -> None:
    before = files.fingerprint(data)
    (data / "deep" / "up").symlink_to(data)
    assert files.fingerprint(data) == before
    assert list(files.walk(data)) == [Path("a.png"), Path("deep/b.png")]
    (data / "gone.png").symlink_to(data / "nowhere")
    broken = files.fingerprint(data)
    (data / "nowhere").write_text("there again")
    assert len({before, broken, files.fingerprint(data)}) == 3


def put(folder: Path, text: str) -> None:
    with files.replacing_folder(folder) as temporary:
        (temporary / "a.txt").write_text(text)


def test_a_folder_lost_between_two_renames_comes_back(tmp_path: Path) -> None:
    folder, other = tmp_path / "made", tmp_path / "not-made"
    put(folder, "first")
    put(other, "other")
    # What a process that was killed leaves behind.
    folder.rename(tmp_path / ".old-123-made")
    (tmp_path / ".old-45-not-made").mkdir()
    with pytest.raises(OSError, match="full"), files.replacing_folder(folder) as temporary:
        (temporary / "a.txt").write_text("half")
        raise OSError("full")
    assert (folder / "a.txt").read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".old-45-not-made", "made", "not-made"]
    put(other, "second")
    assert (other / "a.txt").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "not-made"], "what was replaced is gone"


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "null", '{"a": 1', "\0\0", '{"a": NaN, ', "[" * 100_000, b"\xff\xfe\x00"])
def test_a_damaged_json_file_is_named(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "dataset.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"dataset.json is damaged \(.+\); restore it, or make it again"):
        files.read_json(path)


WHOLE = {"name": "toy", "layout": "csv", "labels": ["any"]}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"image_size": None}, None),
        ({"counts": {"images": 1}}, None),
        ({"name": None}, "name is None"),
        ({"labels": "any"}, "labels is 'any'"),
        ({"labels": ["any", 1]}, "labels is"),
        ({"exclusive": 1}, "exclusive is 1"),
        ({"counts": []}, "counts is []"),
        ({"more": 1}, "has more, which is not known"),
        ({"layout": "-"}, "lacks layout"),
    ],
)
def test_a_json_file_that_lacks_something_is_named(tmp_path: Path, change: dict, why: str | None) -> None:
    content = {name: value for name, value in {**WHOLE, **change}.items() if value != "-"}
    path = tmp_path / "dataset.json"
    if why is None:
        assert files.read_into(tables.Dataset, content, path) == tables.Dataset(**content)
    else:
        with pytest.raises(UserError, match=rf"dataset.json is damaged \({re.escape(why)}"):
            files.read_into(tables.Dataset, content, path)
