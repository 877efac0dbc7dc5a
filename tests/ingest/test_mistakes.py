"""Mistakes that people make in tables, names and sheets: each is one line, or harmless."""

import datetime
import errno
import os
import re
import zipfile

import numpy as np
import openpyxl
import pytest
from PIL import Image

from helpers import bombs
from helpers.dicom_files import head, write_series
from helpers.refusals import refused
from hemoct.audit import reading
from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.data import images
from hemoct.ingest import conversion, layouts
from hemoct.sources.folder import Contents

STEPS = ("scripts/01_get_data.py", "scripts/02_merge_annotations.py", "scripts/03_make_labels.py", "scripts/04_check_data.py",
         "scripts/05_make_splits.py")  # fmt: skip


def draw(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(1, 256, (16, 16), dtype=np.uint8)).save(path)


def csv_set(folder, header="image,patient,A", row=lambda i: f"s{i:02d}.png,P{i // 2},{i % 2}"):
    for number in range(20):
        draw(folder / "images" / f"s{number:02d}.png", number)
    (folder / "labels.csv").write_text("\n".join([header, *map(row, range(20)), ""]), encoding="utf-8")
    return folder


def yolo_set(folder, yaml):
    for number in range(4):
        draw(folder / "images" / f"{number}.png", number)
        (folder / "labels").mkdir(exist_ok=True)
        (folder / "labels" / f"{number}.txt").write_text(f"{number % 2} 0.5 0.5 0.25 0.25\n")
    (folder / "data.yaml").write_text(yaml)
    return folder


def voc_set(folder, xmax="6", tail=""):
    for number in range(20):
        draw(folder / "images" / f"p{number // 2}_{number}.png", number)
        (folder / "xml").mkdir(exist_ok=True)
        corners = f"<xmin>1</xmin><ymin>2</ymin><xmax>{xmax}</xmax><ymax>6</ymax>"
        box = f"<object><name>{'ab'[number % 2]}{tail}</name><bndbox>{corners}</bndbox></object>" * (number % 3)
        text = f"<annotation><filename>x</filename>{box}</annotation>"
        (folder / "xml" / f"p{number // 2}_{number}.xml").write_text(text)
    return folder


def phe_set(folder, change):
    for patient in range(1, 4):
        for number in range(2):
            name = f"{patient:04d}_{number:02d}"
            draw(folder / "C" / "set" / f"image{patient}" / f"{name}.png")
            notes = folder / "C" / "annotation" / f"annotation{patient}"
            notes.mkdir(parents=True, exist_ok=True)
            (notes / f"{name}.xml").write_text("<annotation><filename>x</filename></annotation>")
    book = openpyxl.Workbook()
    for row in (("number", "side", "seen"), *((patient, "left", datetime.date(2024, 1, patient)) for patient in range(1, 4))):
        book.active.append(row)
    book.save(folder / "MedInfo.xlsx")
    change(folder / "MedInfo.xlsx")
    return folder


@pytest.fixture
def chain(tmp_path, run_step):
    """Run steps 01 to 05, or to the first that stops, on a folder; returns what that one said."""

    def run(folder, steps=STEPS):
        for step in steps:
            words = ("--from", folder, "--workers", 1) if step == STEPS[0] else ()
            result = run_step(step, *words, "--root", tmp_path / "root", "--dataset", "toy")
            if result.code:
                break
        return result

    return run


@pytest.mark.parametrize("label", ["patients", "images", "fold_", "$A$\\frac$b$", "n", "macro avg", "True"])
def test_odd_names_of_labels_are_names(tmp_path, chain, label):
    result = chain(csv_set(tmp_path / "in", f"image,patient,{label}"))
    assert result.code == 0 and label in result.out, result.err


@pytest.mark.parametrize("label", ["width", "mask_pixels", "digest", "mm2"])
def test_a_label_that_is_called_as_what_is_measured_stops_at_once(tmp_path, chain, label):
    refused(chain(csv_set(tmp_path / "in", f"image,patient,{label}")), f"{label!r} has the name of a column", "rename it")


def test_what_the_check_measures_is_no_name_of_a_label():
    assert {*reading.MEASURED, *reading.NOTHING} <= tables.RESERVED


def test_a_header_one_column_short_stops(tmp_path, chain):
    folder = csv_set(tmp_path / "in", row=lambda i: f"s{i:02d}.png,P{i // 2},{i % 2},{1 - i % 2}")
    refused(chain(folder), "row 2 has more cells than the header has names")


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\nnames: [A, B]\n", "it has an alias"),
        ("a: &a [" + "x," * 9 + "]\n" + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefghijklm",
         "bcdefghijklmn", strict=True)) + "names: [A, B]\n", "it has an alias"),
        ("x: " + "[" * 5000 + "]" * 5000 + "\nnames: [A, B]\n", "recursion"),
        ("names: {!!int x: A, 1: B}\n", "no data.yaml with class names"),
        ("names: {0: A, 1_0: B}\n", "no data.yaml with class names"),
        ("x: " + "a" * (1 << 21) + "\nnames: [A, B]\n", "far too long"),
    ],
    ids=["alias", "laughs", "deep", "int", "ten", "long"],
)  # fmt: skip
def test_a_yaml_that_would_not_end_or_names_nothing_stops(tmp_path, chain, yaml, words):
    refused(chain(yolo_set(tmp_path / "in", yaml)), words)


@pytest.mark.parametrize("names", ["[A, A]", "[!!int abc, B]", "[no, yes]"])
def test_class_names_are_text_and_one_that_stands_twice_is_one(tmp_path, chain, names, work):
    assert chain(yolo_set(tmp_path / "in", f"names: {names}\n"), STEPS[:3]).code == 0


@pytest.mark.parametrize(("xmax", "tail"), [("999999", ""), ("6", "$x$"), ("6", "&amp;\\frac$a$")])
def test_boxes_far_away_and_odd_classes_are_drawn(tmp_path, chain, recwarn, xmax, tail):
    result = chain(voc_set(tmp_path / "in", xmax, tail))
    assert result.code == 0 or refused(result, "fatal"), result.err
    assert not [one for one in recwarn if "constrained_layout" in str(one.message)]


@pytest.mark.parametrize("xmax", ["1_0", "1e308", "inf", "nan", "0x9", "9" * 400])
def test_a_corner_that_is_no_number_of_a_pixel_is_no_box(tmp_path, chain, xmax):
    refused(chain(voc_set(tmp_path / "in", xmax)), "no annotation has an object")


def repacked(path, change):
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in parts.items():
            if (changed := change(name, content)) is not None:
                new.writestr(name, changed)


def cut(path):
    path.write_bytes(path.read_bytes()[:2000])


def wrong_xml(path):
    repacked(path, lambda name, content: content.replace(b"</row>", b"") if "sheet1" in name else content)


def no_sheet(path):
    repacked(path, lambda name, content: None if name.endswith("sheet1.xml") else content)


def encrypted(path):
    path.write_bytes(bytes.fromhex("d0cf11e0a1b11ae1") + bytes(4096))


def entities(path):
    laughs = "".join(f'<!ENTITY x{n} "{f"&x{n - 1 or str()};" * 10}">' for n in range(1, 12))
    start = f'<!DOCTYPE a [<!ENTITY x "{"x" * 10}">{laughs}]>'.encode()
    repacked(path, lambda name, content: start + content.replace(b"<c ", b"<c>&x11;</c><c ") if "sheet1" in name else content)


def text(path):
    path.write_text("number,side\n1,left\n")


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "change", [cut, wrong_xml, no_sheet, encrypted, entities, text, empty, bombs.far_cell, bombs.packed_sheet]
)
def test_a_damaged_or_vast_sheet_is_one_line(tmp_path, chain, change):
    folder = phe_set(tmp_path / "in", change)
    with bombs.little_memory(1):
        refused(chain(folder, STEPS[:3]), "MedInfo.xlsx", ";")


@pytest.mark.filterwarnings("ignore:Cell .* is marked as a date")
def test_a_date_that_is_none_is_no_obstacle(tmp_path, chain):
    def odd(path):
        repacked(path, lambda name, content: re.sub(rb"<v>45\d{3}</v>", b"<v>99999999999</v>", content))

    assert chain(phe_set(tmp_path / "in", odd), STEPS[:3]).code == 0


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_tag_that_no_table_can_hold_is_unreadable(tmp_path, chain, work):
    def tags(header, index):
        header.StudyDate = "20251399"
        header.add_new(0x00200012, "DS", "1e300")  # AcquisitionNumber

    write_series(tmp_path / "scans", head(3, size=16), edit=tags)
    assert chain(tmp_path / "scans", STEPS[:1]).code == 0
    headers = tables.read_csv(tmp_path / "root" / "data" / "raw" / "toy" / "conversion" / "headers.csv", [])
    assert (headers["unreadable"] == "AcquisitionNumber").all() and (headers["study_date"] == 20251399).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("image,A\n" + "x" * (1 << 24) + ",1\n", "--image-column"),
        ("x," * (1 << 23), "its first row has over"),
        ("image,A\n" + "1," * (1 << 23) + "\n", "cannot be read as CSV"),
        ('image,"A' + "a\n" * (1 << 22), "field larger than"),
    ],
    ids=["cell", "header", "row", "quote"],
)
def test_a_gigantic_line_is_one_short_line(tmp_path, chain, content, words):
    (csv_set(tmp_path / "in") / "labels.csv").write_text(content)
    with bombs.little_memory(1.5):
        result = chain(tmp_path / "in")
    assert refused(result, words) and len(result.err) < 10_000


def test_names_and_texts_in_latin_1_are_one_line(tmp_path, chain):
    folder = csv_set(tmp_path / "in")
    table = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_bytes(table.replace("P3", "Pé").encode("latin-1"))
    refused(chain(folder), "labels.csv", "UTF-8")
    (folder / "labels.csv").write_text(table)
    os.rename(os.fsencode(folder / "images" / "s01.png"), os.fsencode(folder / "images") + b"/\xe9.png")
    refused(chain(folder, STEPS[2:]), "not in UTF-8", "rename it")


@pytest.fixture
def locked(monkeypatch):
    """Folders of this name cannot be listed, as by somebody who may not read them (root may read all)."""
    listed = os.scandir

    def scandir(path="."):
        if os.path.basename(os.fspath(path)) == "locked":
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return listed(path)

    return lambda: monkeypatch.setattr(os, "scandir", scandir)


def test_a_folder_that_cannot_be_listed_stops_every_walk(tmp_path, chain, locked):
    for number in range(3):
        write_series(tmp_path / "scans" / ("locked" if number == 1 else f"P{number}"), head(3, size=16, seed=number), number)
    draw(csv_set(tmp_path / "set") / "images" / "locked" / "one.png")
    assert chain(tmp_path / "set", STEPS[:1]).code == 0
    locked()
    steps = [(tmp_path / "scans", STEPS[:1]), (tmp_path / "set", STEPS[:1]), (tmp_path / "set", STEPS[1:2]),
             (tmp_path / "set", STEPS[2:3])]  # fmt: skip
    for folder, step in steps:
        refused(chain(folder, step), "locked cannot be listed (Permission denied)", "permissions")
    walks = [lambda: list(conversion.find(tmp_path / "scans")), lambda: Contents.of(tmp_path / "scans"),
             lambda: layouts.list_files(tmp_path / "set"), lambda: images.find([tmp_path / "set"]),
             lambda: files.fingerprint(tmp_path / "set")]  # fmt: skip
    for walk in walks:
        with pytest.raises(UserError, match="locked cannot be listed"):
            walk()
