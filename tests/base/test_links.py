"""Links of a fold that another fold has too are one more name of the same, and never lead elsewhere."""

import os
from pathlib import Path

from hemoct.base.links import Links


def links(tmp_path: Path, fold: str, *twins: str) -> Links:
    folder = tmp_path / "work" / fold / "train"
    return Links(tmp_path / "raw", folder, folder, [tmp_path / "work" / twin / "train" for twin in twins])


def draw(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "raw" / name).write_text(name)


def test_a_link_that_another_fold_has_gets_one_more_name(tmp_path):
    draw(tmp_path)
    links(tmp_path, "fold0").link("a.png", "x.png")
    links(tmp_path, "fold1", "fold9", "fold0").link("a.png", "x.png")
    first, second = (tmp_path / "work" / fold / "train" / "x.png" for fold in ("fold0", "fold1"))
    assert second.is_symlink() and second.read_text() == "a.png" and os.lstat(first).st_ino == os.lstat(second).st_ino
    first.unlink()
    assert second.read_text() == "a.png", "a fold that goes takes nothing of another"


def test_a_link_to_another_file_a_copy_and_a_file_are_not_taken_over(tmp_path):
    draw(tmp_path)
    links(tmp_path, "fold0").link("a.png", "x.png")
    (tmp_path / "work" / "fold0" / "train" / "y.png").write_text("an old copy")
    made = links(tmp_path, "fold1", "fold0")
    made.link("b.png", "x.png")
    made.link("b.png", "y.png")
    assert [(made.folder / name).read_text() for name in ("x.png", "y.png")] == ["b.png", "b.png"]


def test_a_small_file_is_shared_where_it_is_the_same(tmp_path):
    draw(tmp_path)
    first = links(tmp_path, "fold0")
    first.write(b"0 0.5", "x.txt")
    first.write(b"", "y.txt")
    second = links(tmp_path, "fold1", "fold0")
    second.write(b"0 0.5", "x.txt")
    second.write(b"1 0.5", "y.txt")
    assert (second.folder / "x.txt").samefile(first.folder / "x.txt")
    assert (first.folder / "y.txt").read_bytes() == b"" and (second.folder / "y.txt").read_bytes() == b"1 0.5"
