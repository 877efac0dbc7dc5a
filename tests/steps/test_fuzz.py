"""Six hundred broken data sets: each is read whole and right, or stops with one line; nothing is lost without a word.

A small data set of a random layout is drawn, and one to three random things happen to it that happen to data: bytes flip, a file
is cut off, copied, renamed, moved, emptied; a table gets another separator, coding, blank or quote. Everything follows a seed, so
that a failure can be called again by its number: `pytest tests/steps/test_fuzz.py -k "[17]"`.
"""

import csv
import io
import json
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.dicom_files import head, write_series
from hemoct.base import files, tables
from hemoct.base.workspace import Workspace

CASES, SLOW_CASES, GROUPS, SECONDS = 400, 1500, 20, 60
TOLD = r"left out|not used|not read|passed over|skipped|dropped"
STEPS = ("scripts/01_get_data.py", "scripts/02_merge_annotations.py", "scripts/03_make_labels.py")
PATIENTS, SLICES = 3, 2
Random = np.random.Generator


def names() -> list[str]:
    return [f"{patient:04d}_{number:02d}" for patient in range(1, PATIENTS + 1) for number in range(SLICES)]


def draw(path: Path, random: Random, mask: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = random.integers(0, 256, (8, 10), dtype=np.uint8)
    Image.fromarray(np.where(grey > 200, 255, 0).astype(np.uint8) if mask else grey).save(path)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def make_csv(folder: Path, random: Random) -> None:
    rows = [f"{name}.png,{name[:4]},{number % 2},{1 - number % 2},0.5" for number, name in enumerate(names())]
    write(folder / "labels.csv", "\n".join(["image,patient,IVH,SAH,spacing_row", *rows, ""]))
    for name in names():
        draw(folder / "images" / f"{name}.png", random)


def make_masks(folder: Path, random: Random) -> None:
    rows = [f"{name}.png,{name}.png,{name[:4]},1" for name in names()]
    write(folder / "labels.csv", "\n".join(["image,mask,patient,hemorrhage", *rows, ""]))
    for name in names():
        draw(folder / "images" / f"{name}.png", random)
        draw(folder / "masks" / f"{name}.png", random, mask=True)


def make_rsna(folder: Path, random: Random) -> None:
    kinds = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
    rows = [f"ID_{name}_{kind},{number % 2}" for number, name in enumerate(names()) for kind in kinds]
    write(folder / "stage_2_train.csv", "\n".join(["ID,Label", *rows, ""]))
    for name in names():
        draw(folder / "stage_2_train" / f"ID_{name}.png", random)


def make_yolo(folder: Path, random: Random) -> None:
    write(folder / "data.yaml", "train: images\nnames: [EDH, SAH]\n")
    for number, name in enumerate(names()):
        draw(folder / "images" / f"{name}.png", random)
        write(folder / "labels" / f"{name}.txt", f"{number % 2} 0.5 0.5 0.25 0.25\n" * (number % 3))


def make_voc(folder: Path, random: Random) -> None:
    for number, name in enumerate(names()):
        draw(folder / "images" / f"{name}.png", random)
        write(folder / "annotations" / f"{name}.xml", xml(f"{name}.png", number % 2))


def make_phe(folder: Path, random: Random) -> None:
    for number, name in enumerate(names()):
        patient = int(name[:4])
        draw(folder / "PNG" / "set" / f"image{patient}" / f"{name}.png", random)
        draw(folder / "PNG" / "label" / f"label{patient}" / f"{name}.png", random, mask=True)
        write(folder / "PNG" / "annotation" / f"annotation{patient}" / f"{name}.xml", xml(f"{name}.png", number % 2))


def xml(image: str, boxes: int) -> str:
    box = "<object><name>a</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox></object>\n"
    size = "<size><width>10</width><height>8</height><depth>1</depth></size>"
    return f"<annotation>\n<filename>{image}</filename>\n{size}\n{box * boxes}</annotation>\n"


def make_folders(folder: Path, random: Random) -> None:
    for number, name in enumerate(names()):
        draw(folder / ("train", "test")[number // 4] / ("NORMAL", "ICH")[number % 2] / f"{name}.png", random)


def make_dicom(folder: Path, random: Random) -> None:
    for number in range(2):
        write_series(folder / f"P{number}", head(3, size=16, seed=number), number + 1)
    paths = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.dcm"))]
    write(
        folder / "labels.csv", "\n".join(["image,hemorrhage", *(f"{path},{number % 2}" for number, path in enumerate(paths)), ""])
    )


LAYOUTS = (make_csv, make_masks, make_rsna, make_yolo, make_voc, make_phe, make_folders, make_dicom)
TEXT = {".csv", ".txt", ".xml", ".yaml"}


# ---- what happens to data


def flip_bytes(path: Path, random: Random) -> None:
    content = bytearray(path.read_bytes())
    for place in random.integers(0, max(1, len(content)), 3):
        if len(content):
            content[place] = random.integers(0, 256)
    path.write_bytes(bytes(content))


def cut(path: Path, random: Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: random.integers(0, len(content) + 1)])


def delete(path: Path, random: Random) -> None:
    path.unlink()


def rename(path: Path, random: Random) -> None:
    stem, suffix = path.stem, path.suffix
    new = (
        *(f"{stem}{suffix.upper()}", f"{stem} copy{suffix}", f"Kopie von {stem}{suffix}", f"{stem}é{suffix}", f" {stem}{suffix}"),
        *(f"{stem}.bak", f"0{stem}{suffix}", f"{stem.upper()}{suffix}", f"{stem}{suffix}{suffix}", f"脑出血{suffix}", stem),
    )
    target = path.with_name(str(random.choice(new)))
    if not target.exists():
        path.rename(target)


def copy(path: Path, random: Random) -> None:
    places = [path.with_name(f"{path.stem} (1){path.suffix}"), path.parent / "old" / path.name, path.parents[1] / path.name,
              path.with_suffix(".jpg"), path.with_suffix(path.suffix.upper())]  # fmt: skip
    target = places[random.integers(len(places))]
    target.parent.mkdir(exist_ok=True)
    if not target.exists():
        shutil.copy(path, target)


def become_folder(path: Path, random: Random) -> None:
    path.unlink()
    path.mkdir()


def lead_nowhere(path: Path, random: Random) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nothing")


STRAYS = {
    **{"Thumbs.db": b"IVH", ".DS_Store": b"\0", "notes.txt": b"none\n", "readme.csv": b"about,this\nset,1\n", "preview.png": b""},
    **{"classes.txt": b"IVH\n", "a.webp": b"RIFF", "x.xml": b"<html/>"},
}
MARKS = (",", ";", "\t", '"', "'", "\n", "\0", "é", "nan", " ", "-", "1e9", "0", "\ufeff", "<", "&", ">", "{", "1,0")


def add_stray(path: Path, random: Random) -> None:
    name = str(random.choice([*STRAYS]))
    (path.parent / name).write_bytes(STRAYS[name])


def insert(path: Path, random: Random) -> None:
    text = path.read_bytes().decode("latin-1")
    place = random.integers(0, len(text) + 1)
    path.write_text(text[:place] + MARKS[random.integers(len(MARKS))] + text[place:], encoding="utf-8")


def change_lines(path: Path, random: Random) -> None:
    lines = path.read_bytes().decode("latin-1").split("\n")
    place = random.integers(0, len(lines))
    kind = random.integers(5)
    if kind == 0:
        lines.insert(place, lines[place])
    elif kind == 1:
        del lines[place]
    elif kind == 2:
        lines[place] = ",".join(reversed(lines[place].split(",")))
    elif kind == 3:
        lines[place] = re.sub(r"\d", lambda digit: str(random.integers(10)), lines[place])
    else:
        random.shuffle(lines)
    path.write_text("\n".join(lines), encoding="utf-8")


def recode(path: Path, random: Random) -> None:
    text = path.read_bytes().decode("utf-8", errors="replace")
    ways: list[Callable[[], bytes]] = [
        lambda: text.encode("utf-16"), lambda: text.encode("utf-8-sig"), lambda: text.replace("\n", "\r\n").encode(),
        lambda: text.replace("\n", "\r").encode(), lambda: text.upper().encode(), lambda: text.replace(",", ";").encode(),
        lambda: text.replace(",", ", ").encode(), lambda: (text + "\n,,,\n\n").encode(), lambda: b"",
        lambda: text.replace("1", "yes").encode(), lambda: text.replace(".png", ".dcm").encode(),
        lambda: re.sub(r"(?m)^(\w)", r"/mnt/data/\1", text).encode(),
    ]  # fmt: skip
    path.write_bytes(ways[random.integers(len(ways))]())


ANY = (flip_bytes, cut, delete, rename, copy, become_folder, lead_nowhere, add_stray)
OF_TEXT = (insert, insert, change_lines, change_lines, recode, recode)


def spoil(folder: Path, random: Random) -> list[str]:
    """One to three mishaps; returns their names."""
    told = []
    for _ in range(random.integers(1, 4)):
        paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        texts = [path for path in paths if path.suffix in TEXT]
        kind = (ANY + OF_TEXT)[random.integers(len(ANY + OF_TEXT))]
        candidates = texts if kind in OF_TEXT else paths
        if candidates:
            path = candidates[random.integers(len(candidates))]
            told.append(f"{kind.__name__} {path.relative_to(folder)}")
            kind(path, random)
    return told


# ---- what must be true


def accounted(work: Workspace, about: str, out: str) -> None:
    """Every image is in labels.csv, as image or mask, or named as a problem, or counted in what was printed; so is every row."""
    labels = pd.read_csv(work.work / "labels.csv", dtype=str, keep_default_na=False)
    problems = work.work / "label_problems.csv"
    listed = set(pd.read_csv(problems, dtype=str, keep_default_na=False)["name"]) if problems.exists() else set()
    images = {path.as_posix() for path in files.walk(work.raw) if path.suffix.lower() in files.IMAGE_SUFFIXES}
    lost = images - {*labels["image"], *labels["mask"]} - listed
    told = re.search(TOLD, out)
    assert not lost or told, f"{about}{out}lost without a word: {sorted(lost)[:3]}"
    assert len(labels) == labels["image"].nunique() == labels["image_id"].nunique()
    assert not labels["patient"].eq("").any()
    dataset = json.loads((work.work / "dataset.json").read_text())
    assert labels[dataset["labels"]].isin(["0", "1", ""]).all(axis=None)
    boxes = tables.read_boxes(work)
    assert set(boxes["image_id"]) <= set(labels["image_id"])
    if dataset["layout"] == "csv" and "None" not in out:
        source = next((path for path in sorted(work.raw.glob("labels*")) if path.suffix.lower() == ".csv"), None)
        rows = count_rows(source) if source else 0
        assert not source or len(labels) >= rows or told or listed or "repeat" in out, f"{about}{out}{rows} rows"


def count_rows(source: Path) -> int:
    """The rows of a table of UTF-8 that hold anything, less the header."""
    try:
        text = source.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        return 0
    rows = csv.reader(io.StringIO(text.replace("\0", ""), newline=None))
    return sum(any(map(str.strip, row)) for row in rows) - 1


def try_case(case: int, source: Path, work: Workspace, run_step) -> int:
    """Draw, spoil and read one data set; returns the exit code. Whatever is wrong is an AssertionError that tells the case."""
    random = np.random.default_rng(case)
    make = LAYOUTS[case // GROUPS % len(LAYOUTS)]
    make(source, random)
    about, out = f"case {case}, {make.__name__}: {'; '.join(spoil(source, random))}\n", ""
    for step in STEPS:
        if step == STEPS[1] and make not in (make_voc, make_phe):
            continue
        words = ("--from", source, "--workers", 1) if step == STEPS[0] else ()
        result = run_step(step, *words, "--root", work.root, "--dataset", work.dataset)
        out += result.out
        assert result.code in (0, 2), f"{about}{out}{result.err}"
        if result.code:
            assert result.err.count("\n") == 1 and "Traceback" not in result.err, f"{about}{result.err}"
            assert not (work.work / "labels.csv").exists(), about
            assert str(work.work) not in result.err, f"{about}what a step made itself is not what is wrong: {result.err}"
            return 2
    accounted(work, about, out)
    return 0


@pytest.mark.parametrize("make", LAYOUTS, ids=lambda make: make.__name__)
def test_the_same_data_unbroken_are_read_whole(tmp_path: Path, run_step, make, monkeypatch):
    monkeypatch.setitem(globals(), "spoil", lambda folder, random: [])
    work = Workspace(tmp_path / "root", "toy")
    assert try_case(LAYOUTS.index(make) * GROUPS, tmp_path / "in", work, run_step) == 0
    labels = tables.read_labels(work, tables.read_dataset(work))
    truth = labels[tables.read_dataset(work).labels[0]].tolist()
    assert len(labels) == 6 and truth == {make_masks: [1] * 6, make_yolo: [0, 0, 1, 0, 1, 0]}.get(make, [0, 1] * 3), truth
    assert (labels["mask"] != "").all() == (make in (make_masks, make_phe))
    boxes = len(tables.read_boxes(work))
    assert boxes == {make_yolo: 4, make_voc: 3, make_phe: 3}.get(make, 0)


@pytest.mark.parametrize("group", range(GROUPS))
def test_broken_data_are_read_or_refused_in_one_line(tmp_path: Path, run_step, group: int):
    try_cases(range(group, CASES, GROUPS), tmp_path, run_step)


@pytest.mark.slow
@pytest.mark.parametrize("group", range(GROUPS))
def test_more_broken_data_are_read_or_refused_in_one_line(tmp_path: Path, run_step, group: int):
    try_cases(range(CASES + group, SLOW_CASES, GROUPS), tmp_path, run_step)


def try_cases(cases: range, tmp_path: Path, run_step) -> None:
    def too_slow(*_: object) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    signal.signal(signal.SIGALRM, too_slow)
    ended, wrong = Counter(), []
    for case in cases:
        signal.alarm(SECONDS)
        try:
            ended[try_case(case, tmp_path / f"in{case}", Workspace(tmp_path / f"root{case}", "toy"), run_step)] += 1
        except Exception as error:  # whatever it is, it is wrong: all of a group are shown together
            wrong.append(f"case {case}: {error!r}" if not isinstance(error, AssertionError) else str(error))
        finally:
            signal.alarm(0)
    assert not wrong, "\n\n".join(wrong)
    assert min(ended[0], ended[2]) > 2, f"a test that reads or refuses all tests little: {ended}"
