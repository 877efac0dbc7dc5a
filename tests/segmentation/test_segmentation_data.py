"""Masks: neighbours, decoding of every kind of mask file, the cache, what is missing or broken."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import toy
from helpers.simulated_masks import masked
from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.data import images
from hemoct.segmentation import data as segmentation_data

SIZE = (24, 16)


def disk(width: int = 24, height: int = 16) -> np.ndarray:
    y, x = np.ogrid[:height, :width]
    return (y - 8) ** 2 + (x - 10) ** 2 < 25


def saved(tmp_path, image: Image.Image, name: str = "mask.png"):
    image.save(tmp_path / name)
    return tmp_path / name


# ---- neighbours


def numbered(work: Workspace, slices: list, patients: list[str]) -> segmentation_data.MaskData:
    """The data of five patients of four slices, the first rows numbered anew."""
    labels = masked(work, patients=5)
    labels["slice"] = labels["slice"].astype("Int64")
    labels.loc[: len(slices) - 1, "slice"] = pd.array(slices, dtype="Int64")
    labels.loc[: len(slices) - 1, "patient"] = patients
    table = labels.iloc[: len(slices)].reset_index(drop=True)
    base = segmentation_data.load(work)
    return segmentation_data.MaskData(**{**vars(base), "table": table, "known": np.ones(len(table), bool)})


@pytest.mark.parametrize(
    ("slices", "patients", "wanted"),
    [
        ([1, 2, 3], "aaa", [[0, 0, 0, 1, 2], [0, 0, 1, 2, 2], [0, 1, 2, 2, 2]]),  # ends
        ([1, 2, 4], "aaa", [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1], [2, 2, 2, 2, 2]]),  # a gap
        ([1, 2, 3], "aab", [[0, 0, 0, 1, 1], [0, 0, 1, 1, 1], [2, 2, 2, 2, 2]]),  # another patient, with the next number
        ([1, 1, 2], "aaa", [[0] * 5, [1] * 5, [2] * 5]),  # a number twice: 2 belongs to either
        ([1, 1, 2, 2], "aaaa", [[0] * 5, [1] * 5, [2] * 5, [3] * 5]),  # two series: the second 1 and the first 2 are of both
        ([1, 1, 1], "aab", [[0] * 5, [1] * 5, [2] * 5]),
        ([3, 3, 4, 5], "abbb", [[0] * 5, [1, 1, 1, 2, 3], [1, 1, 2, 3, 3], [1, 2, 3, 3, 3]]),  # another patient's number
        ([None, None, 1], "aaa", [[0] * 5, [1] * 5, [2] * 5]),  # unknown
        ([7], "a", [[0] * 5]),
    ],
)
def test_neighbours_stop_at_gaps_and_ends_and_other_patients(work, slices, patients, wanted):
    data = numbered(work, slices, list(patients))
    np.testing.assert_array_equal(data.neighbours(2), wanted)
    np.testing.assert_array_equal(data.neighbours(1), np.array(wanted)[:, 1:4])
    np.testing.assert_array_equal(data.neighbours(0), np.arange(len(slices))[:, None])


# ---- many masks


def test_the_mask_that_most_slices_share_is_decoded_once_and_of_another_size_stops(work, monkeypatch):
    masked(work)
    data, calls = segmentation_data.load(work), []
    alone = [segmentation_data.read_mask(work.raw / name, (32, 32)) for name in data.table["mask"]]
    read = segmentation_data.read_mask
    monkeypatch.setattr(segmentation_data, "read_mask", lambda *words: calls.append(words) or read(*words))
    masks = segmentation_data.TrueMasks(work, data)
    assert all((masks.read(row, (32, 32)) == mask).all() for row, mask in enumerate(alone))
    black = [row for row, mask in enumerate(alone) if not mask.any()]
    assert len(black) > 2 and len(calls) == len(alone) - len(black) + 1
    with pytest.raises(UserError, match="32 x 32 px, its image 16 x 32 px"):
        masks.read(black[-1], (16, 32))


# ---- one mask


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 2), (0, 128), (0, 255), (1, 2), (1, 254), (127, 255)])
def test_the_higher_of_two_values_is_the_lesion(tmp_path, low, high):
    path = saved(tmp_path, Image.fromarray(np.where(disk(), high, low).astype(np.uint8)))
    found = segmentation_data.read_mask(path, SIZE)
    assert found.dtype == bool and (found == disk()).all()


def test_an_empty_and_a_full_mask(tmp_path):
    black, white = (saved(tmp_path, Image.new("L", SIZE, grey), f"{grey}.png") for grey in (0, 255))
    assert not segmentation_data.read_mask(black, SIZE).any() and segmentation_data.read_mask(white, SIZE).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda mask: Image.fromarray(mask),  # 1 bit
        lambda mask: Image.fromarray(mask.astype(np.uint16) * 65535),
        lambda mask: Image.fromarray(np.stack([mask * np.uint8(255)] * 3, axis=2)),
        lambda mask: Image.fromarray(np.stack([mask * np.uint8(255), mask * np.uint8(0), mask * np.uint8(0)], axis=2)),  # red
        lambda mask: Image.fromarray(np.stack([mask * np.uint8(255)] * 3 + [np.full_like(mask, 255, np.uint8)], axis=2)),
    ],
    ids=["1 bit", "16 bit", "grey as RGB", "red", "RGBA"],
)
def test_other_kinds_of_two_valued_images(tmp_path, make):
    assert (segmentation_data.read_mask(saved(tmp_path, make(disk())), SIZE) == disk()).all()


@pytest.mark.parametrize("quality", [60, 75, 95])
def test_a_mask_blurred_by_jpeg(tmp_path, quality):
    buffer = io.BytesIO()
    Image.fromarray(disk() * np.uint8(255)).save(buffer, "JPEG", quality=quality)
    blurred = Image.open(buffer)
    assert len(np.unique(np.asarray(blurred))) > 2
    assert (segmentation_data.read_mask(saved(tmp_path, blurred), SIZE) == disk()).all()  # also where a PNG was made of it


def palette(tmp_path):
    """Indices 0, 1, 2 with colours that are lighter and darker than their neighbours."""
    image = Image.fromarray(np.where(disk(), 1, 0).astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 90, 0])
    return saved(tmp_path, image)


def test_a_palette_is_read_by_its_colours_or_by_its_index(tmp_path):
    path = palette(tmp_path)
    assert (segmentation_data.read_mask(path, SIZE) == disk()).all()
    assert (segmentation_data.read_mask(path, SIZE, value=1) == disk()).all()
    assert (segmentation_data.read_mask(path, SIZE, value=0) == ~disk()).all()
    assert not segmentation_data.read_mask(path, SIZE, value=2).any()


@pytest.mark.parametrize("values", [(0, 1, 2), (0, 85, 170), (0, 128, 255), (0, 10, 20), (0, 1000, 2000)])
def test_several_values_stop_until_one_is_named(tmp_path, values):
    """Classes 0, 1, 2 are nearly black to the eye; taken for a black mask they would be learned as 'no lesion'."""
    background, other, lesion = values
    classes = np.where(disk(), lesion, background)
    classes[0, :5] = other
    path = saved(tmp_path, Image.fromarray(classes.astype(np.uint8 if max(values) < 256 else np.uint16)))
    with pytest.raises(UserError, match=rf"mask\.png has 3 grey values \({background}, {other}, {lesion}\).*--mask-value"):
        segmentation_data.read_mask(path, SIZE)
    assert (segmentation_data.read_mask(path, SIZE, value=lesion) == disk()).all()
    assert segmentation_data.read_mask(path, SIZE, value=other).sum() == 5


def test_a_mask_of_another_size(tmp_path):
    path = saved(tmp_path, Image.fromarray(disk() * np.uint8(255)))
    with pytest.raises(UserError, match=r"mask\.png is 24 x 16 px, its image 16 x 24 px"):
        segmentation_data.read_mask(path, (16, 24))


def test_a_mask_that_is_missing_broken_or_cut_off(tmp_path):
    with pytest.raises(UserError, match=r"none\.png is missing"):
        segmentation_data.read_mask(tmp_path / "none.png", SIZE)
    noise = np.random.default_rng(0).integers(0, 2, (64, 64), np.uint8) * np.uint8(255)
    whole = saved(tmp_path, Image.fromarray(noise)).read_bytes()
    for content in (b"", b"no image", whole[: len(whole) // 2]):
        (tmp_path / "broken.png").write_bytes(content)
        with pytest.raises(UserError, match=r"broken\.png cannot be decoded"):
            segmentation_data.read_mask(tmp_path / "broken.png", (64, 64))


# ---- all masks of a data set


def test_load_knows_which_slices_have_a_mask(work, capsys):
    masked(work, without=("0002_01", "0005_00"))
    data = segmentation_data.load(work)
    assert list(data.table["image_id"][~data.known]) == ["0002_01", "0005_00"]
    assert "2 of 40 slices have no mask file" in capsys.readouterr().out
    assert segmentation_data.load(work, limit_patients=5).table["patient"].nunique() == 5
    assert "20 of 40 slices are left out (--limit-patients)" in capsys.readouterr().out


def test_slices_are_sorted_by_number_not_by_name(work):
    labels = masked(work, slices=12).sample(frac=1, random_state=0)
    tables.write_csv(work.work / "labels.csv", labels.assign(image_id=labels["patient"] + "_" + labels["slice"].astype(str)))
    splits = tables.read_splits(work)
    splits["image_id"] = splits["patient"] + "_" + splits["image_id"].str[-2:].astype(int).astype(str)
    tables.write_splits(work, splits)
    data = segmentation_data.load(work)
    assert list(data.table["slice"][:12]) == list(range(12)) and list(data.table["image_id"][9:11]) == ["0001_9", "0001_10"]


def test_data_without_any_mask_stop(work):
    toy.make(work)
    with pytest.raises(UserError, match=r"labels\.csv names no mask: toy cannot be used for segmentation"):
        segmentation_data.load(work)


def test_the_cache_holds_masks_in_order_and_black_where_there_is_none(work):
    masked(work, without=("0001_01", "0003_02"))
    data = segmentation_data.load(work)
    cached = segmentation_data.cached(work, data, 32)
    assert cached.dtype == np.uint8 and cached.shape == (40, 32, 32) and not cached.flags.writeable
    for row, (image, known) in enumerate(zip(data.table["image"], data.known, strict=True)):
        bright = np.asarray(Image.open(work.raw / image)) > 200
        np.testing.assert_array_equal(cached[row], bright * np.uint8(255) if known else 0)


def test_the_cache_is_made_once_and_anew_for_another_value_and_changed_masks(work, monkeypatch):
    labels = masked(work)
    first = segmentation_data.cached(work, segmentation_data.load(work), 16)
    with monkeypatch.context() as context:
        context.setattr(segmentation_data, "read_mask", lambda *_: pytest.fail("decoded again"))
        np.testing.assert_array_equal(segmentation_data.cached(work, segmentation_data.load(work), 16), first)
    background = segmentation_data.cached(work, segmentation_data.load(work, mask_value=0), 32)
    np.testing.assert_array_equal(background, 255 - segmentation_data.cached(work, segmentation_data.load(work), 32))
    Image.new("L", (32, 32), 255).save(work.raw / labels["mask"][0])
    assert (segmentation_data.cached(work, segmentation_data.load(work), 16)[0] == 255).all() and not (first[0] == 255).any()


def test_another_place_of_the_slices_without_a_mask_is_another_cache(work):
    """The mask files are the same in all three; which row each belongs to is not."""
    masked(work, without=("0001_00", "0010_03"))
    both = segmentation_data.load(work)
    cached = segmentation_data.cached(work, both, 32)
    for left_out, rows in (("0001_00", slice(1, None)), ("0010_03", slice(None, -1))):
        labels = tables.read_labels(work, tables.read_dataset(work))
        tables.write_labels(work, labels[labels["image_id"] != left_out], tables.read_dataset(work))
        np.testing.assert_array_equal(segmentation_data.cached(work, segmentation_data.load(work), 32), cached[rows])
        tables.write_labels(work, labels, tables.read_dataset(work))


def test_truth_is_in_pixels_of_the_image_and_a_mask_may_belong_to_several(work):
    labels = masked(work, size=(40, 28))
    shared = labels["mask"][0]
    labels.loc[labels["hemorrhage"] == 0, "mask"] = shared
    tables.write_labels(work, labels, tables.read_dataset(work))
    data = segmentation_data.load(work)
    rows = np.array([3, 0, 2, 1, 4])
    found = list(segmentation_data.truth(work, data, rows, images.sizes(work, data.table)))
    assert len(found) == 5
    for row, mask in zip(rows, found, strict=True):
        np.testing.assert_array_equal(mask, np.asarray(Image.open(work.raw / data.table["image"][row])) > 200)
    positive = segmentation_data.positive(segmentation_data.cached(work, data, 40))
    np.testing.assert_array_equal(positive, labels["hemorrhage"] == 1)


def test_a_mask_of_another_size_than_its_image_is_named_with_both(work):
    labels = masked(work)
    Image.new("L", (8, 9)).save(work.raw / labels["mask"][6])
    with pytest.raises(UserError, match=r"mask_0002_02\.png is 8 x 9 px, its image 32 x 32 px"):
        segmentation_data.cached(work, segmentation_data.load(work), 16)
    assert not list(work.cache.glob("mask-*"))


@pytest.mark.parametrize("count", [1, 63, 64, 130])
def test_positive_looks_at_every_mask(count):
    masks = np.zeros((count, 4, 4), np.uint8)
    masks[[0, count // 2, -1], 3, 2] = [127, 128, 255]
    np.testing.assert_array_equal(segmentation_data.positive(masks), (masks >= 128).any(axis=(1, 2)))
    assert segmentation_data.positive(masks)[-1]
