"""Regions that a gate cuts out around predicted boxes, to the pixel."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
from PIL import Image

from helpers import simulated_boxes, toy
from hemoct.base import files, tables
from hemoct.data import images, slices
from hemoct.detection import compare, gate, predictions
from hemoct.detection.options import Region
from hemoct.detection.predictions import COLUMNS, CORNERS
from hemoct.evaluation import overlays


def test_squares_by_hand():
    nothing = [np.nan] * 4
    found = np.array([[10, 20, 20, 24], [0, 0, 2, 2], nothing, [5, 5, 10, 10]])
    # 10 x 4 around (15, 22), 12 a side; 2 x 2 around (1, 1), 8 at least; nothing; 5 x 5 around (7.5, 7.5), 8 at least
    expected = [[9, 16, 21, 28], [-3, -3, 5, 5], [0, 0, 0, 0], [4, 4, 12, 12]]
    np.testing.assert_array_equal(gate.squares(found, Region(margin=0.1, least_side=8)), expected)
    sides = np.ptp(gate.squares(found, Region(least_side=1)).reshape(-1, 2, 2), axis=1)
    np.testing.assert_array_equal(sides, [[15, 15], [3, 3], [0, 0], [8, 8]])


def test_regions_are_cut_at_native_resolution_and_black_beyond_the_image():
    grey = np.arange(1, 7 * 11 + 1, dtype=np.uint8).reshape(7, 11)  # wider than high, no black of its own
    np.testing.assert_array_equal(gate.crop(grey, np.array([2, 1, 6, 5])), grey[1:5, 2:6])
    over = gate.crop(grey, np.array([-2, 4, 3, 9]))
    np.testing.assert_array_equal(over[:3, 2:], grey[4:, :3])
    assert (over[:, :2] == 0).all() and (over[3:] == 0).all()
    np.testing.assert_array_equal(gate.crop(grey, np.zeros(4, int)), grey)


def test_every_slice_has_its_best_region_in_the_cache(work):
    frame = toy.make(work, size=(40, 32), boxes=True)
    simulated_boxes.predict_exactly(work)
    data = slices.load(work, None, None)
    kept, best = gate.read(work, work.task(2) / "d" / "fold0", data)
    assert list(best.index) == list(kept.table["image_id"]) and len(best) == 40
    confidence, found = best["confidence"].to_numpy(), best[CORNERS].to_numpy()
    positive = frame.set_index("image_id")["hemorrhage"].reindex(kept.table["image_id"]).to_numpy() == 1
    assert (confidence[positive] == 0.9).all() and set(confidence[~positive]) == {0.0, 0.2}
    truth = tables.read_boxes(work).set_index("image_id")[CORNERS].reindex(kept.table["image_id"])
    np.testing.assert_array_equal(found[positive], truth[positive])

    squares = gate.squares(found, Region(margin=0.0, least_side=16))
    pixels = gate.cached(work, kept.table, squares, 16)
    assert isinstance(pixels, np.memmap) and pixels.shape == (40, 16, 16) and pixels.dtype == np.uint8
    for row in (0, 1, 2, 39):
        grey = np.asarray(Image.open(work.raw / kept.table["image"][row]))
        expected = np.pad(grey, 16)[squares[row, 1] + 16 :, squares[row, 0] + 16 :][:16, :16] if squares[row].any() else None
        np.testing.assert_array_equal(pixels[row], images.resize(grey, 16) if expected is None else expected)
    assert pixels.filename == gate.cached(work, kept.table, squares, 16).filename
    assert pixels.filename != gate.cached(work, kept.table, squares + 1, 16).filename


def test_only_boxes_of_the_class_of_the_label_count(work):
    toy.make(work, boxes=True, classes=("disk", "hole"))
    simulated_boxes.predict_exactly(work)
    folder = work.task(2) / "d" / "fold0"
    files.write_json(folder / "model.json", files.read_json(folder / "model.json") | {"classes": ["disk", "hemorrhage"]})
    for name in predictions.NEEDED[1:]:
        frame = tables.read_csv(folder / name, COLUMNS)
        frame.loc[frame["confidence"] == 0.3, "class"] = "hemorrhage"
        tables.write_csv(folder / name, frame)
    _, best = gate.read(work, folder, slices.load(work, None, None))
    assert set(best["confidence"]) == {0.0, 0.3}


def test_the_figure_shows_the_region_and_black_beyond_the_slice(work, monkeypatch):
    work.raw.mkdir(parents=True)
    Image.fromarray(np.full((20, 20), 200, np.uint8)).save(work.raw / "grey.png")
    case = pd.DataFrame({"image_id": ["a"], "fold": [0], "confidence": [0.9], "p": [0.7], "called": [True]})
    squares = case.set_index(["image_id", "fold"])[["confidence"]]
    squares[CORNERS] = [-10, 0, 10, 20]
    data = SimpleNamespace(table=pd.DataFrame({"image_id": ["a"], "image": ["grey.png"]}), layout="csv")
    monkeypatch.setattr(compare, "examples", lambda *_: {"a lesion": case})
    monkeypatch.setattr(tables, "read_boxes", lambda _: pd.DataFrame(columns=tables.BOX_COLUMNS))
    drawn = []
    monkeypatch.setattr(overlays, "sheet", lambda tiles, *_: drawn.extend(tiles) or tiles[0][0])
    content = dict.fromkeys(("experiment", "dataset", "folds_done"), "")
    compare.regions(work, data, SimpleNamespace(alone=True, evaluation=None, content=content), squares, 1)
    assert [text for _, text in drawn] == ["a lesion\na, detector 0.900", "gate 0.700: positive"]
    whole, region = (np.asarray(picture)[:, :, 0] for picture, _ in drawn)
    middle = overlays.TILE // 2
    assert (np.asarray(drawn[0][0])[middle, middle - 1] == overlays.RED).all(), "the region ends in the middle of the slice"
    assert (
        (region[:, : middle - 2] == 0).all() and (region[:, middle + 2 :] == 200).all() and (whole[:, middle + 2 :] == 200).all()
    )
