"""01_make_yolo_dataset: boxes exact, every slice in its part, links that last, nothing half-written, mistakes in one line."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import REPOSITORY
from PIL import Image
from pycocotools.coco import COCO

from helpers import toy
from helpers.refusals import refused
from helpers.simulated_boxes import some_boxes
from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.links import Links
from hemoct.base.workspace import Workspace
from hemoct.data import images, splits
from hemoct.detection import data as detection_data
from hemoct.ingest import annotations as ingest_annotations, yolo_reader

MAKE = "task2_detection/01_make_yolo_dataset.py"


@pytest.fixture
def make(work, run_step):
    return lambda *words: run_step(MAKE, "--root", work.root, "--dataset", "toy", *words)


def export(work: Workspace, fold: int = 0, protocol: str = "patient", form: str = "yolo") -> Path:
    return work.work / f"{form}_dataset" / protocol / f"fold{fold}"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def draw_sizes(work: Workspace, random: np.random.Generator) -> None:
    """Give each image of a toy data set a size of its own, and up to three boxes that came through a VOC XML."""
    rows = []
    for name in tables.read_labels(work, tables.read_dataset(work))["image_id"]:
        width, height = random.integers(5, 700, 2).tolist()
        Image.new("L", (width, height)).save(work.raw / f"{name}.png")
        drawn = some_boxes(random, random.integers(0, 4), width, height).astype(int).tolist()
        voc = ingest_annotations.Annotation(
            f"{name}.png", (width, height, 1), [ingest_annotations.Box("disk", *box) for box in drawn], ""
        )
        ingest_annotations.write_voc(work.root / "one.xml", voc)
        for box in ingest_annotations.read_voc(work.root / "one.xml").boxes:
            rows.append([name, box.name, *(getattr(box, corner) for corner in ingest_annotations.CORNERS)])
    tables.write_boxes(work, pd.DataFrame(rows, columns=tables.BOX_COLUMNS))


@pytest.mark.parametrize("seed", range(3))
def test_from_voc_to_yolo_and_back_boxes_are_exact(work, make, seed):
    toy.make(work, boxes=True, slices=10)
    draw_sizes(work, np.random.default_rng(seed))
    assert make("--fold", "2").code == 0
    truth = tables.read_boxes(work).groupby("image_id")
    count = 0
    for label in (export(work, 2) / "labels").rglob("*.txt"):
        image = next((export(work, 2) / "images" / label.parent.name).glob(f"{label.stem}.*"))
        found = yolo_reader.read_labels(label, {0: "disk"}, *Image.open(image).size).boxes
        corners = np.array([[getattr(box, name) for name in ingest_annotations.CORNERS] for box in found]).reshape(-1, 4)
        wanted = truth.get_group(label.stem)[list(ingest_annotations.CORNERS)] if label.stem in truth.groups else np.zeros((0, 4))
        np.testing.assert_allclose(corners, wanted, atol=0.001)
        count += len(found)
    assert count == len(tables.read_boxes(work)) > 50


def test_every_slice_lies_in_its_part_and_those_without_a_box_have_an_empty_file(work, make):
    labels = toy.make(work, boxes=True).astype({"hemorrhage": "Int64"})
    labels.loc[labels["image_id"].isin(["0003_00", "0004_02"]), "hemorrhage"] = None  # unknown, and without a box
    tables.write_labels(work, labels, tables.read_dataset(work))
    result = make()
    assert result.code == 0 and "2 of 40 slices are left out" in result.out
    split = tables.read_splits(work).set_index("image_id")["fold"].drop(["0003_00", "0004_02"])
    with_box = set(tables.read_boxes(work)["image_id"])
    for fold in range(5):
        for name, wanted in {"test": [fold], "val": [(fold + 1) % 5], "train": [(fold + k) % 5 for k in (2, 3, 4)]}.items():
            ids = set(split.index[split.isin(wanted)])
            assert {path.stem for path in (export(work, fold) / "images" / name).iterdir()} == ids
            sizes = {path.stem: path.stat().st_size for path in (export(work, fold) / "labels" / name).iterdir()}
            assert set(sizes) == ids and all((size > 0) == (image_id in with_box) for image_id, size in sizes.items())
        assert f"fold{fold}: train {len(split) - split.isin([fold, (fold + 1) % 5]).sum()}" in result.out
    content = yaml.safe_load((export(work) / "data.yaml").read_text())
    assert content == {"train": "images/train", "val": "images/val", "test": "images/test", "names": {0: "disk"}}
    assert make("--skip-if-done").out.count("up to date") == 5


def test_numbers_of_two_classes(work, make):
    toy.make(work, boxes=True, classes=("bright", "dark"))
    assert make("--fold", "0").code == 0
    number = {row.image_id: 0 if row[2] == "bright" else 1 for row in tables.read_boxes(work).itertuples()}
    for label in (export(work) / "labels").rglob("*.txt"):
        assert [int(line.split()[0]) for line in label.read_text().splitlines()] == (
            [number[label.stem]] if label.stem in number else []
        )
    assert set(number.values()) == {0, 1}


def test_links_outlive_a_move_of_the_root_and_raw_data_that_are_links_themselves(tmp_path, run_step):
    work = Workspace(tmp_path / "here", "toy")
    toy.make(work, boxes=True)
    elsewhere = tmp_path / "disk" / "pixels"
    elsewhere.parent.mkdir()
    work.raw.rename(elsewhere)
    work.raw.symlink_to(elsewhere)
    assert run_step(MAKE, "--root", work.root, "--dataset", "toy", "--fold", "0").code == 0

    def images(folder: Path) -> list[Path]:
        found = sorted((folder / "images").rglob("*.png"))
        assert len(found) == 40 and all(path.is_symlink() and not os.path.isabs(os.readlink(path)) for path in found)
        return found

    before = [path.read_bytes() for path in images(export(work))]
    assert before == [(elsewhere / path.name).read_bytes() for path in images(export(work))]
    moved = Workspace(tmp_path / "far" / "away", "toy")
    moved.root.parent.mkdir()
    work.root.rename(moved.root)
    assert [path.read_bytes() for path in images(export(moved))] == before


def test_derived_data_on_another_disk(tmp_path, run_step):
    work = Workspace(tmp_path / "here", "toy")
    toy.make(work, boxes=True)
    (tmp_path / "a" / "b").mkdir(parents=True)
    work.work.rename(tmp_path / "a" / "b" / "derived")
    work.work.symlink_to(tmp_path / "a" / "b" / "derived")
    assert run_step(MAKE, "--root", work.root, "--dataset", "toy", "--fold", "0").code == 0
    assert all(path.is_file() for path in (export(work) / "images").rglob("*.png"))


@pytest.mark.parametrize("form", ["yolo", "coco"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".gif", ".jfif"])
def test_images_that_others_would_read_otherwise_are_written_turned(work, make, form, suffix):
    labels = toy.make(work, boxes=True, size=(48, 32))
    exif = Image.Exif()
    exif[0x0112] = 6
    for row in labels.itertuples():
        with Image.open(work.raw / row.image) as image:
            about = {} if suffix == ".gif" else {"exif": exif}
            turned = image.copy() if suffix == ".gif" else image.rotate(90, expand=True)  # a viewer turns it back
        (work.raw / row.image).unlink()
        turned.save(work.raw / f"{row.image_id}{suffix}", "JPEG" if suffix == ".jfif" else None, **about)
    tables.write_labels(work, labels.assign(image=labels["image_id"] + suffix), tables.read_dataset(work))
    assert make("--format", form).code == 0
    written = sorted(export(work, form=form).glob("images/*/*"))
    assert len(written) == len(labels) and {path.suffix for path in written} == {".png"}
    for path in written:
        with Image.open(path) as image:
            assert image.size == (48, 32) and not image.getexif()
            assert (np.asarray(image) == images.read_grey(work.raw / f"{path.stem}{suffix}")).all()
    if form == "yolo":
        data = detection_data.load(work)
        rows = np.flatnonzero(data.part_of(0, "patient", "folds") == "test")
        assert len(detection_data.check_export(work, export(work), data, rows, "test")) == len(rows) > 0


def test_coco_files_load_in_pycocotools(work, make):
    toy.make(work, boxes=True, size=(48, 32), classes=("bright", "dark"))
    assert make("--format", "coco", "--fold", "1").code == 0
    truth = tables.read_boxes(work).set_index("image_id")
    seen = 0
    for part in tables.PARTS:
        coco = COCO(export(work, 1, form="coco") / "annotations" / f"instances_{part}.json")
        assert {one["name"] for one in coco.loadCats(coco.getCatIds())} == {"bright", "dark"}
        for image in coco.loadImgs(coco.getImgIds()):
            assert (image["width"], image["height"]) == (48, 32)
            assert (export(work, 1, form="coco") / "images" / part / image["file_name"]).is_file()
            for box in coco.loadAnns(coco.getAnnIds(image["id"])):
                row = truth.loc[image["file_name"].removesuffix(".png")]
                assert box["bbox"] == [row.xmin, row.ymin, row.xmax - row.xmin, row.ymax - row.ymin]
                assert (
                    coco.loadCats(box["category_id"])[0]["name"] == row["class"]
                    and box["area"] == box["bbox"][2] * box["bbox"][3]
                )
                seen += 1
    assert seen == len(truth) == 20


def test_the_slice_protocol_and_the_given_split(work, make):
    labels = toy.make(work, boxes=True)
    assert make("--protocol", "slice", "--fold", "0").code == 0
    parts = splits.parts(tables.read_splits(work), 0, "slice")
    assert {path.stem for path in (export(work, protocol="slice") / "images/test").iterdir()} == set(parts.index[parts == "test"])
    assert not export(work).exists()
    labels["given_split"] = np.where(labels["patient"] > "0008", "test", np.where(labels["patient"] > "0006", "val", "train"))
    tables.write_labels(work, labels, tables.read_dataset(work))
    assert make("--split", "given").code == 0
    found = {path.stem for path in (export(work, protocol="given") / "images/val").iterdir()}
    assert found == set(labels["image_id"][labels["given_split"] == "val"]) and len(found) == 8


@pytest.mark.parametrize("form", ["yolo", "coco"])
def test_killed_in_the_middle_the_old_export_stays_whole(work, make, monkeypatch, form):
    toy.make(work, boxes=True)
    assert make("--fold", "0", "--format", form).code == 0
    before = contents(export(work, form=form))
    tables.write_boxes(work, tables.read_boxes(work).assign(xmin=0))
    calls, link = [], Links.link

    def killed(*words):
        calls.append(words)
        if len(calls) == 20:
            raise KeyboardInterrupt
        link(*words)

    monkeypatch.setattr(Links, "link", killed)
    assert make("--fold", "0", "--format", form).code == 130
    after = contents(export(work, form=form))
    record = "01_make_yolo_dataset.run.json"
    assert json.loads(after.pop(record))["status"] == "unfinished" and before.pop(record) and after == before
    assert not [path for path in export(work, form=form).parent.iterdir() if path.name.startswith(".tmp")]
    monkeypatch.setattr(Links, "link", link)
    assert make("--fold", "0", "--format", form).code == 0
    assert contents(export(work, form=form)) != before


def test_images_are_linked_in_a_time_that_grows_with_their_number(work, make, monkeypatch):
    """One look at each image's header and one link each, however many there are."""
    toy.make(work, boxes=True, patients=15, slices=8)
    counts = {"size_of": 0, "link": 0}

    def count(name: str, real: Callable) -> Callable:
        def counted(*words):
            counts[name] += 1
            return real(*words)

        return counted

    for module, name in ((images, "size_of"), (Links, "link")):
        monkeypatch.setattr(module, name, count(name, getattr(module, name)))
    assert make().code == 0
    assert counts == {"size_of": 120, "link": 5 * 120}


def test_starts_without_torch():
    code = (
        f"import sys, runpy; sys.argv = ['x', '--help']\ntry: runpy.run_path({str(REPOSITORY / MAKE)!r}, run_name='__main__')\n"
    )
    code += "except SystemExit: pass\nprint([name for name in ('torch', 'ultralytics') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and "--format" in done.stdout


# --- mistakes: one line, exit code 2, nothing half-written


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"xmax": 33.5}, ("outside", "0001_01, 32 x 32 px")),
        ({"ymin": -2}, ("outside", "0001_01")),
        ({"xmin": 40, "xmax": 30}, ("empty or reversed", "0001_01")),
        ({"class": "dusk"}, ("class that is not in dataset.json (disk)", "0001_01")),
        ({"xmin": "wide"}, ("xmin is 'wide' in row 2 where a number belongs",)),
        ({"image_id": "0099_01"}, ("no image of labels.csv", "0099_01")),
    ],
)
def test_boxes_that_no_detector_can_learn(work, make, changes, words):
    toy.make(work, boxes=True)
    boxes = tables.read_boxes(work).astype(object)
    boxes.loc[0, list(changes)] = list(changes.values())
    tables.write_boxes(work, boxes)
    assert refused(make(), "boxes.csv", *words)
    assert not export(work).parent.exists()


def test_a_box_that_leaves_its_image_by_a_pixel_is_cut(work, make):
    toy.make(work, boxes=True)
    boxes = tables.read_boxes(work)
    boxes.loc[0, ["xmin", "xmax"]] = [-1, 33]
    tables.write_boxes(work, boxes)
    assert make("--fold", "0").code == 0
    label = next((export(work) / "labels").rglob(f"{boxes['image_id'][0]}.txt"))
    assert [float(word) for word in label.read_text().split()[1::2]] == [0.5, 1.0]


def test_data_without_boxes(work, make):
    toy.make(work)
    assert refused(make(), "boxes.csv has no box", "VOC XML")


def test_an_image_that_is_gone_or_broken(work, make):
    toy.make(work, boxes=True)
    (work.raw / "0003_01.png").write_bytes(b"no image")
    assert refused(make(), "0003_01.png")
    (work.raw / "0003_01.png").unlink()
    assert refused(make(), "0003_01.png")
    assert not export(work).parent.exists()


def test_missing_tables_name_the_step_that_makes_them(work, make):
    toy.make(work, boxes=True)
    (work.work / "splits.csv").unlink()
    assert refused(make(), "splits.csv", "05_make_splits.py")
    (work.work / "boxes.csv").unlink()
    assert refused(make(), "boxes.csv", "03_make_labels.py")


def _first(work: Workspace) -> Path:
    """The label file of a training slice with a box."""
    return next(path for path in sorted((export(work) / "labels" / "train").iterdir()) if path.stat().st_size)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_text("0 0.5 0.5 wide 0.1\n"), "other boxes than boxes.csv"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "other boxes than boxes.csv"),
        (lambda path: path.write_text("1 0.5 0.5 0.1 0.1\n"), "other boxes than boxes.csv"),
        (lambda path: path.write_text("0 1.5 0.5 0.1 0.1\n"), "other boxes than boxes.csv"),
        (lambda path: path.write_text(""), "other boxes than boxes.csv"),
        (lambda path: path.write_text(re.sub(r"^0 \S+", "0 0.5", path.read_text())), "other boxes than boxes.csv"),
        (lambda path: path.unlink(), "is missing"),
        (lambda path: (path.parents[2] / "images/train" / f"{path.stem}.png").unlink(), "is missing"),
    ],
)
def test_an_export_that_was_spoilt_is_not_learned_from(work, make, spoil, words):
    toy.make(work, boxes=True)
    assert make("--fold", "0").code == 0
    data = detection_data.load(work)
    rows = np.flatnonzero(data.part_of(0, "patient", "folds") == "train")
    assert len(detection_data.check_export(work, export(work), data, rows, "train")) == len(rows)
    spoilt = _first(work)
    spoil(spoilt)
    with pytest.raises(UserError, match=r"1 problem\(s\).*make it again") as error:
        detection_data.check_export(work, export(work), data, rows, "train")
    assert words in str(error.value) and spoilt.stem in str(error.value)
