"""Step 02: every repair and every dropped file is listed; the folder is there whole or not at all."""

import errno
import json
import os
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from hemoct.base.workspace import Workspace
from hemoct.ingest import annotations as ingest_annotations

STEP = "scripts/02_merge_annotations.py"
BOX = "<object><name>a</name><bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>{}</xmax><ymax>6</ymax></bndbox></object>"
BOMB = '<!DOCTYPE a [<!ENTITY x "xx"><!ENTITY y "&x;&x;">]>'
SIZE = "<size><width>8</width><height>6</height><depth>1</depth></size>"


def phe(work: Workspace, *names: str) -> Path:
    """Images NNNN_MM of 8 x 6 px in the PNG set; returns the set's folder."""
    base = work.raw / "SubdatasetC_PNG"
    for name in names:
        folder = base / "set" / f"image{int(name[:4])}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 6)).save(folder / f"{name}.png")
    return base


def add(base: Path, name: str, inside: str, head: str = "") -> None:
    path = base / "annotation" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{head}<annotation>{inside}</annotation>", encoding="utf-8")


def merge(run_step, work: Workspace, *words: str):
    return run_step(STEP, "--root", work.root, "--dataset", work.dataset, *words)


def repairs(work: Workspace) -> dict[str, list[tuple[str, str]]]:
    table = pd.read_csv(work.work / "repairs.csv", dtype=str)
    return {
        Path(file).name: list(rows[["problem", "repair"]].itertuples(index=False, name=None))
        for file, rows in table.groupby("file")
    }


def test_repairs_of_the_real_defects(work: Workspace, run_step):
    base = phe(work, "0013_05", "0025_05", "0001_00")
    add(base, "annotation13/013_05.xml", "<filename>013_05.jpg</filename>" + SIZE + BOX.format(1, 5))
    add(base, "annotation25/0025_05.xml", "<filename>5.png</filename>" + SIZE.replace("8", "80"))
    add(base, "annotation1/0001_00.xml", "<filename>0001_00.png</filename>")
    result = merge(run_step, work)
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == f"Next: python scripts/03_make_labels.py --dataset toy --root {work.root}"
    merged = work.work / "merged_annotation"
    assert sorted(path.name for path in merged.iterdir()) == ["0001_00.xml", "0013_05.xml", "0025_05.xml"]
    for path in merged.iterdir():
        read = ingest_annotations.read_voc(path)
        assert read.filename == f"{path.stem}.png"
        assert read.size == (8, 6, 1)
    assert ingest_annotations.read_voc(merged / "0013_05.xml").boxes == [ingest_annotations.Box("a", 1, 1, 5, 6)]
    assert ingest_annotations.read_voc(merged / "0013_05.xml").source == "SubdatasetC_PNG/annotation/annotation13/013_05.xml"
    assert repairs(work) == {
        "013_05.xml": [
            ("other name than its image: 013_05.xml", "renamed to 0013_05.xml"),
            ("wrong <filename>: 013_05.jpg", "<filename> set to 0013_05.png"),
        ],
        "0025_05.xml": [
            ("wrong <filename>: 5.png", "<filename> set to 0025_05.png"),
            ("wrong <size>: 80 x 6 x 1", "<size> set to 8 x 6 x 1"),
        ],
        "0001_00.xml": [("no <size>", "<size> set to 8 x 6 x 1")],
    }


def test_what_cannot_be_repaired_is_listed_and_stays(work: Workspace, run_step):
    base = phe(work, "0001_00", "0001_01", "0001_02", "0001_03")
    add(base, "annotation1/0001_00.xml", SIZE)
    add(base, "annotation1/001_00.xml", SIZE)
    add(base, "annotation1/0001_01.xml", SIZE + BOX.format(5, 1))
    add(base, "annotation1/0001_02.xml", "<filename>&y;</filename>", BOMB)
    add(base, "annotation1/0001_09.xml", SIZE)
    (base / "annotation" / "annotation1" / "0001_03.xml").write_text("no markup")
    before = {path: path.read_bytes() for path in work.raw.rglob("*.xml")}
    result = merge(run_step, work)
    assert result.code == 0, result.err
    assert "1 XML in" in result.out
    assert "5 dropped" in result.out
    assert [path.name for path in (work.work / "merged_annotation").iterdir()] == ["0001_00.xml"]
    dropped = {file: problem for file, rows in repairs(work).items() for problem, repair in rows if repair.startswith("dropped:")}
    assert dropped["001_00.xml"].startswith("a second annotation of 0001_00")
    assert dropped["0001_01.xml"] == "object 1 is reversed: xmax 1 < xmin 5"
    assert dropped["0001_02.xml"] == "a DOCTYPE with entities is not accepted"
    assert dropped["0001_03.xml"].startswith("not XML")
    assert dropped["0001_09.xml"] == "no image that matches"
    assert {path: path.read_bytes() for path in work.raw.rglob("*.xml")} == before


def test_an_image_without_a_header_drops_its_annotation(work: Workspace, run_step):
    base = phe(work, "0001_00", "0001_01")
    (base / "set" / "image1" / "0001_01.png").write_text("no image")
    for name in ("0001_00", "0001_01"):
        add(base, f"annotation1/{name}.xml", SIZE)
    assert merge(run_step, work).code == 0
    assert "0001_01.png cannot be read" in repairs(work)["0001_01.xml"][0][0]


def test_no_usable_xml_stops_and_keeps_the_earlier_folder(work: Workspace, run_step):
    base = phe(work, "0001_00")
    add(base, "annotation1/0001_00.xml", SIZE)
    assert merge(run_step, work).code == 0
    add(base, "annotation1/0001_00.xml", SIZE + BOX.format(5, 1))
    result = merge(run_step, work)
    assert result.code == 2
    assert result.err.count("\n") == 1
    assert "no XML that can be used" in result.err
    assert "0001_00.xml: object 1 is reversed" in result.err
    assert [path.name for path in (work.work / "merged_annotation").iterdir()] == ["0001_00.xml"]
    assert not list(work.work.glob(".tmp-*"))


def test_a_full_disk_keeps_the_earlier_folder(work: Workspace, run_step, monkeypatch: pytest.MonkeyPatch):
    base = phe(work, "0001_00", "0001_01")
    add(base, "annotation1/0001_00.xml", SIZE)
    assert merge(run_step, work).code == 0
    add(base, "annotation1/0001_01.xml", SIZE)
    written = ingest_annotations.write_voc

    def full(path: Path, annotation: ingest_annotations.Annotation) -> None:
        if path.stem == "0001_01":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        written(path, annotation)

    monkeypatch.setattr(ingest_annotations, "write_voc", full)
    result = merge(run_step, work)
    assert result.code == 2
    assert "No space left on device" in result.err
    assert [path.name for path in (work.work / "merged_annotation").iterdir()] == ["0001_00.xml"]
    assert not list(work.work.glob(".tmp-*"))
    assert json.loads((work.work / "02_merge_annotations.run.json").read_text())["status"] == "unfinished"


def test_a_second_run_drops_what_is_gone(work: Workspace, run_step):
    base = phe(work, "0001_00", "0001_01")
    for name in ("0001_00", "0001_01"):
        add(base, f"annotation1/{name}.xml", SIZE)
    merge(run_step, work)
    assert "up to date" in merge(run_step, work, "--skip-if-done").out
    (base / "annotation" / "annotation1" / "0001_01.xml").unlink()
    assert "up to date" not in merge(run_step, work, "--skip-if-done").out
    assert [path.name for path in (work.work / "merged_annotation").iterdir()] == ["0001_00.xml"]
    assert not list(work.work.glob(".old-*"))


def test_labelimg_folder_takes_the_image_with_its_real_suffix(work: Workspace, run_step):
    for name in ("JPEGImages/a.JPG", "JPEGImages/b.png"):
        (work.raw / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(work.raw / name)
    add(work.raw, "a.xml", "<filename>a.jpg</filename>")
    add(work.raw, "old_name.xml", "<filename>b.png</filename>")
    assert merge(run_step, work).code == 0
    read = {path.name: ingest_annotations.read_voc(path) for path in (work.work / "merged_annotation").iterdir()}
    assert {name: (one.filename, one.size) for name, one in read.items()} == {
        "a.xml": ("a.JPG", (8, 6, 3)),
        "b.xml": ("b.png", (8, 6, 3)),
    }


def test_a_data_set_without_xml_has_nothing_to_merge(work: Workspace, run_step):
    for name in ("A/1.png", "B/2.png"):
        (work.raw / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 6)).save(work.raw / name)
    result = merge(run_step, work)
    assert result.code == 0
    assert "nothing to merge" in result.out and "Next: python scripts/03_make_labels.py" in result.out
    assert [path.name for path in work.work.iterdir()] == ["02_merge_annotations.run.json"]
    assert "up to date" in merge(run_step, work, "--skip-if-done").out


def test_missing_and_unknown_data_stop_in_one_line(work: Workspace, run_step):
    result = merge(run_step, work)
    assert result.code == 2
    assert "data/raw/toy is missing; make it with: python scripts/01_get_data.py" in result.err
    work.raw.mkdir(parents=True)
    (work.raw / "notes.txt").write_text("nothing here")
    result = merge(run_step, work)
    assert (result.code, result.err.count("\n")) == (2, 1)
    assert "has no layout that is known here" in result.err


def test_the_real_annotations(work: Workspace, run_step, real_data: Path):
    work.raw.parent.mkdir(parents=True)
    work.raw.symlink_to(real_data / "PHE-SICH-CT-IDS")
    assert merge(run_step, work).code == 0
    merged = list((work.work / "merged_annotation").iterdir())
    assert len(merged) == 2947
    table = pd.read_csv(work.work / "repairs.csv", dtype=str)
    assert not table["repair"].str.startswith("dropped").any()
    renamed = table[table["repair"].str.startswith("renamed")]
    assert (len(renamed), renamed["file"].str.contains("/annotation13/013_").all()) == (32, True)
    assert (table["problem"].str.fullmatch(r"wrong <filename>: \d+\.png")).sum() == 25


# ---- several XML, other sizes, the same object twice


def voc(work: Workspace, *names: str, size: tuple[int, int] = (64, 64)) -> None:
    (work.raw / "JPEGImages").mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("L", size).save(work.raw / "JPEGImages" / f"{name}.png")


def label(work: Workspace, place: str, *xmax: int, size: int | None = None, filename: str = "", ymax: int = 6) -> None:
    """An XML with a box 1, 1, xmax, ymax for each `xmax`."""
    path = work.raw / place
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"<size><width>{size}</width><height>{size}</height><depth>1</depth></size>" if size else ""
    boxes = "".join(BOX.format(1, each).replace("<ymax>6<", f"<ymax>{ymax}<") for each in xmax)
    path.write_text(f"<annotation><filename>{filename}</filename>{head}{boxes}</annotation>", encoding="utf-8")


def corners(work: Workspace, name: str) -> list[float]:
    """xmax of the boxes that were merged."""
    return [box.xmax for box in ingest_annotations.read_voc(work.work / "merged_annotation" / f"{name}.xml").boxes]


def dropped(work: Workspace) -> list:
    table = pd.read_csv(work.work / "repairs.csv", dtype=str)
    return list(table[table["repair"].str.startswith("dropped")].itertuples())


@pytest.mark.parametrize(
    "other",
    ["Annotations/a (copy).xml", "Annotations/A - Copy.xml", "Annotations/0.xml", "Annotations/backup/a.xml",
     "Annotations/_old/new/a.xml", "Annotations 2/a.xml", "a/a.xml"],
)  # fmt: skip
def test_the_exact_name_and_the_nearest_place_win(work: Workspace, run_step, other):
    voc(work, "a")
    label(work, "Annotations/a.xml", 30, filename="a.png")
    label(work, other, 9, filename="a.png")
    assert merge(run_step, work).code == 0
    assert corners(work, "a") == [30]
    [(file, problem)] = [(row.file, row.problem) for row in dropped(work)]
    assert (file, problem) == (other, "a second annotation of a, Annotations/a.xml is its own")


def test_an_old_copy_does_not_take_the_place_of_a_broken_xml(work: Workspace, run_step):
    voc(work, "a", "b")
    label(work, "Annotations/b.xml", 30)
    label(work, "Annotations/a.xml", 0)  # reversed
    label(work, "Annotations/a (copy).xml", 9, filename="a.png")
    assert merge(run_step, work).code == 0
    assert [path.name for path in (work.work / "merged_annotation").iterdir()] == ["b.xml"]
    assert [row.file for row in dropped(work)] == ["Annotations/a (copy).xml", "Annotations/a.xml"]


@pytest.mark.parametrize(
    ("made_for", "says"),
    [(256, "made for 256 x 256, 4 times the image in both directions, the image is 64 x 64 px"),
     (32, "made for 32 x 32, 0.5 times the image in both directions, the image is 64 x 64 px")],
)  # fmt: skip
def test_boxes_of_another_size_are_a_finding_here_and_in_the_check(work: Workspace, run_step, made_for, says):
    voc(work, "a", "b", "c", "d", "e")
    for name in "bcde":
        label(work, f"Annotations/{name}.xml", 30, size=64)
    label(work, "Annotations/a.xml", 30, size=made_for)
    result = merge(run_step, work)
    assert result.code == 0 and "1 DOUBTFUL: scale or redraw" in result.out and says in result.out
    where = ("--root", work.root, "--dataset", work.dataset)
    assert run_step("scripts/03_make_labels.py", *where).code == 0
    checked = run_step("scripts/04_check_data.py", *where)
    assert checked.code == 2 and "scripts/02_merge_annotations.py, scripts/03_make_labels.py" in checked.err
    assert "1 FATAL box_other_size" in checked.out and says in checked.out
    label(work, "Annotations/a.xml", 30, size=64)  # corrected as it says
    for step in ("02_merge_annotations", "03_make_labels", "04_check_data"):
        assert run_step(f"scripts/{step}.py", *where).code == 0


def test_boxes_of_no_known_size_or_another_depth_are_no_finding(work: Workspace, run_step):
    voc(work, "a", "b")
    label(work, "Annotations/a.xml", 30)
    label(work, "Annotations/b.xml", size=256)  # no box
    result = merge(run_step, work)
    assert result.code == 0 and "DOUBTFUL" not in result.out


def test_classes_that_differ_in_case_or_blanks_are_one(work: Workspace, run_step):
    voc(work, "a", "b", "c")
    for name in "abc":
        label(work, f"Annotations/{name}.xml", 30)
    path = work.raw / "Annotations" / "b.xml"
    path.write_text(path.read_text().replace("<name>a<", "<name>A <"))
    where = ("--root", work.root, "--dataset", work.dataset)
    assert merge(run_step, work).code == 0
    result = run_step("scripts/03_make_labels.py", *where)
    assert result.code == 0 and "A, a are a" in result.out
    assert pd.read_csv(work.work / "labels.csv")["a"].tolist() == [1, 1, 1]


def test_the_same_object_twice_is_one(work: Workspace, run_step):
    voc(work, "a")
    label(work, "Annotations/a.xml", 30, 30, 20, 30)
    path = work.raw / "Annotations" / "a.xml"
    path.write_text(path.read_text().replace("</name>", "</name><difficult>1</difficult>", 1))  # the same box nevertheless
    assert merge(run_step, work).code == 0
    assert corners(work, "a") == [30, 20]
    assert ("same object twice: 2 of 4", "each object is kept once") in repairs(work)["a.xml"]


@pytest.mark.parametrize("change", ["corrected", "added", "taken away", "dropped and corrected"])
def test_xml_that_changed_since_is_noticed(work: Workspace, run_step, change):
    voc(work, "a", "b", "c")
    label(work, "Annotations/a.xml", 30)
    label(work, "Annotations/b.xml", 0 if change == "dropped and corrected" else 30)
    where = ("--root", work.root, "--dataset", work.dataset)
    assert merge(run_step, work).code == 0 and run_step("scripts/03_make_labels.py", *where).code == 0
    path = work.raw / "Annotations" / ("c.xml" if change == "added" else "b.xml")
    if change == "taken away":
        path.unlink()
    else:
        label(work, str(path.relative_to(work.raw)), 31)
        os.utime(path, (0, 0))  # copied from elsewhere, with its old time
    result = run_step("scripts/03_make_labels.py", *where)
    assert result.code == 2 and "changed since they were merged; run scripts/02_merge_annotations.py again" in result.err
    assert merge(run_step, work).code == 0 and run_step("scripts/03_make_labels.py", *where).code == 0
    boxes = pd.read_csv(work.work / "boxes.csv").set_index("image_id")["xmax"].to_dict()
    assert boxes == {"added": {"a": 30, "b": 30, "c": 31}, "taken away": {"a": 30}}.get(change, {"a": 30, "b": 31})


@pytest.mark.parametrize(("flags", "wanted"), [((), [1, None, None]), (("--without-xml", "negative"), [1, None, 0])])
def test_images_without_an_xml(work: Workspace, run_step, flags, wanted):
    voc(work, "a", "b", "c")
    label(work, "Annotations/a.xml", 30)
    label(work, "Annotations/b.xml", 0)  # cannot be used: what it shows stays unknown
    assert merge(run_step, work).code == 0
    result = run_step("scripts/03_make_labels.py", "--root", work.root, "--dataset", work.dataset, *flags)
    assert result.code == 0 and "1 of 3 images have no XML" in result.out
    assert flags or "--without-xml negative" in result.out
    labels = pd.read_csv(work.work / "labels.csv").sort_values("image_id")["a"]
    assert [None if pd.isna(value) else value for value in labels] == wanted
