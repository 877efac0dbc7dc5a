"""01_make_seg_dataset: masks exact, no test patient in training, nnU-Net's format, nothing half-written, mistakes in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REPOSITORY
from PIL import Image
from test_task2_dataset import contents, refused

from helpers.simulated_masks import masked
from hemoct.base import tables
from hemoct.base.links import Links
from hemoct.base.workspace import Workspace
from hemoct.data import contents as data_contents, splits
from hemoct.segmentation import data as segmentation_data

MAKE = "task3_segmentation/01_make_seg_dataset.py"
WITHOUT = ("0003_00", "0004_01")  # images without a mask file


@pytest.fixture
def make(work, run_step):
    return lambda *words: run_step(MAKE, "--root", work.root, "--dataset", "toy", *words)


def export(work: Workspace, fold: int = 0, protocol: str = "patient") -> Path:
    return work.work / "seg_dataset" / protocol / f"fold{fold}"


def raw_nnunet(work: Workspace, name: str = "Dataset001_toy") -> Path:
    return work.work / "nnunet_raw" / name


def names(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir()}


def bright(work: Workspace, image_id: str) -> np.ndarray:
    """The lesion as it was drawn: bool (height, width)."""
    return np.asarray(Image.open(next(work.raw.glob(f"{image_id}.*"))).convert("L")) > 200


def grey(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "L" and image.format == "PNG"
        return np.asarray(image)


def nothing_made(work: Workspace) -> bool:
    return not (work.work / "seg_dataset").exists() and not list((work.work / "nnunet_raw").glob("*"))


# ---- folders of images and masks


def test_every_slice_with_a_mask_lies_in_its_part_with_its_mask(work, make):
    masked(work, without=WITHOUT)
    result = make()
    assert result.code == 0 and "2 of 40 slices have no mask file" in result.out
    fold_of = tables.read_splits(work).set_index("image_id")["fold"].drop(list(WITHOUT))
    for fold in range(5):
        line = next(line for line in result.out.splitlines() if f"(fold {fold})" in line)
        for name, wanted in {"test": [fold], "val": [(fold + 1) % 5], "train": [(fold + k) % 5 for k in (2, 3, 4)]}.items():
            ids = set(fold_of.index[fold_of.isin(wanted)])
            assert names(export(work, fold) / "images" / name) == names(export(work, fold) / "masks" / name) == ids
            found = {one: grey(export(work, fold) / "masks" / name / f"{one}.png") for one in ids}
            assert all((mask == bright(work, one) * np.uint8(255)).all() for one, mask in found.items())
            assert f"{name} {len(ids)} ({sum(mask.any() for mask in found.values())} with a mask pixel)" in line
    assert make("--skip-if-done").out.count("up to date") == 5


def test_what_fits_is_linked_and_the_rest_written(work, make):
    labels = masked(work)
    files = work.raw / labels["mask"]
    mask = [np.asarray(Image.open(path)) > 0 for path in files]
    Image.fromarray(mask[1].astype(np.uint8)).save(files[1])  # 0 and 1
    Image.fromarray(mask[3]).save(files[3])  # 1 bit
    Image.fromarray(np.stack([mask[5] * np.uint8(255)] * 3, axis=2)).save(files[5])
    Image.fromarray(mask[7] * np.uint8(255)).save(files[7], "BMP")  # whatever the name says
    assert make("--fold", "0").code == 0
    written = {path.stem for path in (export(work) / "masks").rglob("*.png") if not path.is_symlink()}
    assert written == {labels["image_id"][row] for row in (1, 3, 5, 7)}
    for path in (export(work) / "masks").rglob("*.png"):
        assert (grey(path) == bright(work, path.stem) * np.uint8(255)).all()
    links = [path for path in export(work).rglob("*.png") if path.is_symlink()]
    assert len(links) == 40 + 36 and not any(os.path.isabs(os.readlink(path)) for path in links)


def test_an_export_outlives_a_move_of_the_root(work, make, tmp_path):
    masked(work)
    assert make("--fold", "0").code == 0 and make("--format", "nnunet").code == 0
    (tmp_path / "far").mkdir()
    (tmp_path / "data").rename(tmp_path / "far" / "data")
    moved = Workspace(tmp_path / "far", "toy")
    found = [*export(moved).rglob("*.png"), *raw_nnunet(moved).rglob("*.png")]
    assert len(found) == 2 * 40 + 2 * 40 + 2 * 40 and all(path.is_file() for path in found)


def test_the_value_that_is_named_is_the_lesion(work, make):
    labels = masked(work)
    for image_id, path in zip(labels["image_id"], work.raw / labels["mask"], strict=True):
        classes = bright(work, image_id) * np.uint8(2)
        classes[0, 0] = 1
        Image.fromarray(classes).save(path)
    assert refused(make(), "mask_0001_01.png", "3 grey values (0, 1, 2)", "--mask-value")
    assert nothing_made(work)
    assert make("--mask-value", "2", "--fold", "0").code == 0
    for path in (export(work) / "masks").rglob("*.png"):
        assert (grey(path) == bright(work, path.stem) * np.uint8(255)).all()
    assert refused(make("--mask-value", "7"), "none of the 40 masks", "of the value 7")


def test_the_slice_protocol_and_the_given_split(work, make):
    labels = masked(work)
    assert make("--protocol", "slice", "--fold", "0").code == 0
    part = splits.parts(tables.read_splits(work), 0, "slice")
    assert names(export(work, protocol="slice") / "images" / "test") == set(part.index[part == "test"])
    assert not export(work).exists()
    labels["given_split"] = np.where(labels["patient"] > "0006", "val", "train")  # as some data come, without a test part
    tables.write_labels(work, labels, tables.read_dataset(work))
    result = make("--split", "given")
    assert result.code == 0 and "val 16 (8 with a mask pixel), test 0 (0 with a mask pixel)" in result.out
    assert names(export(work, protocol="given") / "masks" / "test") == set()


def test_a_changed_mask_is_not_up_to_date(work, make):
    labels = masked(work)
    data_contents.write(work, labels)
    assert make("--fold", "0").code == 0
    assert "up to date" in make("--fold", "0", "--skip-if-done").out
    mask = Image.new("L", (32, 32), 1)
    mask.putpixel((0, 0), 0)
    mask.save(work.raw / labels["mask"][0])
    assert refused(make("--fold", "0"), labels["mask"][0], "is not the file that images.csv was made of", "03_make_labels.py")
    data_contents.write(work, labels)
    assert "up to date" not in make("--fold", "0", "--skip-if-done").out
    assert (grey(next((export(work) / "masks").rglob("0001_00.png"))) == 255).sum() == 32 * 32 - 1


# ---- nnU-Net


def test_a_raw_data_set_of_nnunet(work, make):
    """What its documentation of the dataset format asks for; its own integrity check was run on such a folder."""
    masked(work, without=WITHOUT, size=(48, 32))
    assert make("--format", "nnunet").code == 0
    with_mask = set(tables.read_labels(work, tables.read_dataset(work))["image_id"]) - set(WITHOUT)
    assert {path.name for path in (raw_nnunet(work) / "imagesTr").iterdir()} == {f"{one}_0000.png" for one in with_mask}
    assert {path.name for path in (raw_nnunet(work) / "labelsTr").iterdir()} == {f"{one}.png" for one in with_mask}
    for one in with_mask:
        assert (grey(raw_nnunet(work) / "labelsTr" / f"{one}.png") == bright(work, one)).all()
        image = raw_nnunet(work) / "imagesTr" / f"{one}_0000.png"
        assert image.is_symlink() and image.read_bytes() == (work.raw / f"{one}.png").read_bytes()
    assert json.loads((raw_nnunet(work) / "dataset.json").read_text()) == {
        "channel_names": {"0": "rgb_to_0_1"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 38,
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
    }


@pytest.mark.parametrize("protocol", ["patient", "slice"])
def test_no_test_slice_of_a_fold_is_in_its_split(work, make, protocol):
    masked(work, without=WITHOUT)
    assert make("--format", "nnunet", "--protocol", protocol).code == 0
    target = raw_nnunet(work, "Dataset001_toy" + "-slice" * (protocol == "slice"))
    found = json.loads((target / "splits_final.json").read_text())
    table, patient_of = tables.read_splits(work), tables.read_splits(work).set_index("image_id")["patient"]
    assert len(found) == 5
    for fold, split in enumerate(found):
        part = splits.parts(table, fold, protocol).drop(list(WITHOUT))
        assert set(split) == {"train", "val"}
        assert all(sorted(split[name]) == sorted(part.index[part == name]) for name in split)
        seen, test = set(split["train"]) | set(split["val"]), set(part.index[part == "test"])
        assert test and not seen & test
        if protocol == "patient":
            assert not set(patient_of[list(seen)]) & set(patient_of[list(test)])


def test_what_a_fold_predicts_is_what_it_has_not_learned_from(work, make):
    """Also slices without a mask: the evaluation wants a row and a map of each."""
    masked(work, without=WITHOUT)
    assert make("--format", "nnunet").code == 0
    data = segmentation_data.load(work)
    for fold in range(5):
        part = data.part_of(fold, "patient", "folds")
        folder = raw_nnunet(work) / "imagesTs" / f"fold{fold}"
        rows = tables.read_predictions(folder)
        assert list(rows["image_id"]) == list(data.table["image_id"][part != "train"])
        assert list(rows["part"]) == list(part[part != "train"]) and set(rows["fold"]) == {fold}
        assert {path.name for path in folder.glob("*.png")} == {f"{one}_0000.png" for one in rows["image_id"]}


def test_of_a_given_split_nnunet_gets_one(work, make):
    labels = masked(work)
    labels["given_split"] = np.where(labels["patient"] > "0008", "test", np.where(labels["patient"] > "0006", "val", "train"))
    tables.write_labels(work, labels, tables.read_dataset(work))
    assert make("--format", "nnunet", "--split", "given").code == 0
    (split,) = json.loads((raw_nnunet(work, "Dataset001_toy-given") / "splits_final.json").read_text())
    assert split["val"] == list(labels["image_id"][labels["given_split"] == "val"]) and len(split["train"]) == 24
    assert [path.name for path in (raw_nnunet(work, "Dataset001_toy-given") / "imagesTs").iterdir()] == ["fold0"]


def test_images_that_nnunet_cannot_take_as_they_are_become_grey_png(work, make):
    """JPEG is lossy, which it refuses; of a colour image it would see three channels."""
    labels = masked(work)
    first = work.raw / labels["image"][0]
    Image.open(first).save(first.with_suffix(".jpg"), quality=95)
    first.unlink()
    labels.loc[0, "image"] = f"{first.stem}.jpg"
    second = work.raw / labels["image"][1]
    Image.open(second).convert("RGB").save(second)
    tables.write_labels(work, labels, tables.read_dataset(work))
    assert make("--format", "nnunet").code == 0
    for row, source in enumerate((first.with_suffix(".jpg"), second)):
        places = [path for path in raw_nnunet(work).rglob(f"{labels['image_id'][row]}_0000.*") if "images" in str(path)]
        assert len(places) == 3 and not any(path.is_symlink() for path in places)  # to learn from, and as val and as test
        assert all((grey(path) == np.asarray(Image.open(source).convert("L"))).all() for path in places)


def test_names_and_numbers_that_nnunet_cannot_take(work, make):
    labels = masked(work)
    split = tables.read_splits(work)
    assert refused(make("--format", "nnunet", "--fold", "1"), "--format nnunet", "all folds")
    assert refused(make("--format", "nnunet", "--dataset-id", "1000"), "three digits")
    assert make("--format", "nnunet", "--dataset-id", "12").code == 0 and raw_nnunet(work, "Dataset012_toy").is_dir()
    assert refused(make("--format", "nnunet", "--dataset-id", "12", "--protocol", "slice"), "Dataset012_toy", "--dataset-id")
    labels["image_id"], split["image_id"] = labels["image_id"] + "_seg", split["image_id"] + "_seg"
    tables.write_labels(work, labels, tables.read_dataset(work))
    tables.write_splits(work, split)
    assert refused(make("--format", "nnunet"), "40 image(s)", "_seg (first: 0001_00_seg)")
    assert not raw_nnunet(work).exists() and make("--fold", "0").code == 0


# ---- whole or not at all, in linear time, without torch


@pytest.mark.parametrize("words", [("--fold", "0"), ("--format", "nnunet")])
def test_killed_in_the_middle_the_old_export_stays_whole(work, make, monkeypatch, words):
    labels = masked(work)
    target = raw_nnunet(work) if "nnunet" in words else export(work)
    assert make(*words).code == 0
    before = contents(target)
    Image.new("1", (32, 32), 1).save(work.raw / labels["mask"][0])
    calls, link = [], Links.link

    def killed(*paths):
        calls.append(paths)
        if len(calls) == 20:
            raise KeyboardInterrupt
        link(*paths)

    monkeypatch.setattr(Links, "link", killed)
    assert make(*words).code == 130
    after, record = contents(target), "01_make_seg_dataset.run.json"
    through_link = {name for name in before if name.startswith("masks/") and name.endswith("/0001_00.png")}
    assert json.loads(after.pop(record))["status"] == "unfinished" and before.pop(record)
    assert {name for name in after if after[name] != before[name]} == through_link and after.keys() == before.keys()
    assert not list(target.parent.glob(".tmp*"))
    monkeypatch.setattr(Links, "link", link)
    assert make(*words).code == 0 and contents(target).keys() == before.keys() | {record}


def test_masks_of_the_same_bytes_are_decoded_once_and_only_those_written_again(work, make, monkeypatch):
    labels = masked(work)
    Image.fromarray(bright(work, "0001_01")).save(work.raw / labels["mask"][1])
    calls, read = [], segmentation_data.read_mask

    def counted(*words):
        calls.append(words)
        return read(*words)

    monkeypatch.setattr(segmentation_data, "read_mask", counted)
    different = len({(work.raw / mask).read_bytes() for mask in labels["mask"]})
    assert make().code == 0 and len(calls) == different + 5 < 40
    calls.clear()
    assert make("--format", "nnunet").code == 0 and 2 * different <= len(calls) < different + 40


def test_starts_without_torch():
    code = (
        f"import sys, runpy; sys.argv = ['x', '--help']\ntry: runpy.run_path({str(REPOSITORY / MAKE)!r}, run_name='__main__')\n"
        "except SystemExit: pass\nprint([name for name in ('torch', 'ultralytics') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]" and "splits_final.json" in done.stdout


# ---- mistakes: one line, exit code 2, nothing half-written


@pytest.mark.parametrize("words", [(), ("--format", "nnunet")])
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda path: Image.new("L", (8, 9)).save(path), ("8 x 9 px, its image 32 x 32 px",)),
        (lambda path: Image.fromarray(np.arange(1024, dtype=np.uint16).reshape(32, 32)).save(path), ("1024 grey values",)),
        (lambda path: path.write_bytes(path.read_bytes()[:40]), ("cannot be decoded",)),
        (lambda path: path.unlink(), ("is missing", "03_make_labels.py")),
    ],
    ids=["size", "values", "broken", "gone"],
)
def test_a_mask_that_cannot_be_used(work, make, spoil, told, words):
    labels = masked(work)
    spoil(work.raw / labels["mask"][9])
    assert refused(make(*words), "mask_0003_01.png", *told)
    assert nothing_made(work)


def test_an_image_that_is_gone_or_broken(work, make):
    masked(work)
    (work.raw / "0003_01.png").write_bytes(b"no image")
    assert refused(make(), "0003_01.png")
    (work.raw / "0003_01.png").unlink()
    assert refused(make(), "0003_01.png") and nothing_made(work)


def test_data_without_a_mask_or_with_empty_ones_alone(work, make):
    labels = masked(work)
    for path in work.raw / labels["mask"]:
        Image.new("L", (32, 32)).save(path)
    assert refused(make(), "none of the 40 masks of toy has a pixel", str(work.raw))
    tables.write_labels(work, labels.assign(mask=""), tables.read_dataset(work))
    assert refused(make(), "labels.csv names no mask") and nothing_made(work)


def test_a_part_without_a_mask(work, make):
    labels = masked(work)
    assert refused(make("--limit-patients", "1"), "splits.csv", "in fold", "has a mask")
    fold_of = tables.read_splits(work).set_index("image_id")["fold"]
    labels.loc[labels["image_id"].map(fold_of) == 1, "mask"] = ""
    tables.write_labels(work, labels, tables.read_dataset(work))
    assert refused(make(), "no slice of val in fold 0 has a mask") and nothing_made(work)
    assert "test 0 (0 with a mask pixel)" in make("--fold", "1").out


def test_missing_tables_name_the_step_that_makes_them(work, make):
    masked(work)
    (work.work / "splits.csv").unlink()
    assert refused(make(), "splits.csv", "05_make_splits.py")
