"""Folders that are replaced whole, and fingerprints that change with the data and with nothing else."""

from pathlib import Path

import pytest

from hemoct.base import files


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
