"""The bright core of a lesion and ABC/2: against the true bleeding of phantoms, and small cases worked by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import toy
from hemoct.base import figure as base_figure, tables
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.ct import hounsfield
from hemoct.segmentation import figures, hematoma, metrics
from hemoct.sources import phantom

SIZE = 128
BRAIN, BLOOD, CSF, BONE = 110, 200, 20, 255
BOX = np.array([[40.0, 40.0, 88.0, 88.0]])


def disk(x: float, y: float, radius: float) -> np.ndarray:
    down, right = np.ogrid[:SIZE, :SIZE]
    return (right - x) ** 2 + (down - y) ** 2 < radius**2


def painted(*layers: tuple[np.ndarray, int]) -> np.ndarray:
    """Brain with a little noise, and masks painted over it with their grey values."""
    level = np.full((SIZE, SIZE), BRAIN)
    for mask, value in layers:
        level[mask] = value
    noise = np.random.default_rng(0).normal(0, 4, level.shape)
    return np.where(level == BONE, BONE, level + noise).round().clip(0, 255).astype(np.uint8)


def dice(found: np.ndarray, true: np.ndarray) -> float:
    both = (found & true).sum()
    return metrics.dice(np.array([both, found.sum() - both, true.sum() - both, 0]))


@pytest.fixture(scope="module")
def lesions_of_phantoms() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Slices of six patients with at least 30 px of bleeding, 50 HU or more: grey, box around bleeding and edema, bleeding."""
    cases = []
    for number in range(1, 7):
        head = phantom.make_head((42, number), 12)
        volume = phantom.draw_volume(head, np.linspace(0, 1, 12), 256)
        for hu, bleeding, edema in zip(volume.hu, volume.bleeding, volume.edema, strict=True):
            if bleeding.sum() >= 30 and head.lesion.hu >= 50:
                y, x = np.nonzero(bleeding | edema)
                box = np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1]], dtype=float)
                cases.append((hounsfield.window(hu, phantom.BRAIN), box, bleeding))
    return cases


@pytest.mark.parametrize("margin", [0, 8], ids=["tight boxes", "boxes with a margin"])
def test_the_core_is_the_true_bleeding_of_phantoms(lesions_of_phantoms: list, margin: int):
    wider = margin * np.array([-1, -1, 1, 1])
    values = [dice(hematoma.core(grey, box + wider), bleeding) for grey, box, bleeding in lesions_of_phantoms]
    assert len(values) > 12
    assert np.median(values) > 0.95 and np.mean(values) > 0.9 and min(values) > 0.6


def test_otsu_by_hand():
    values = np.repeat([10, 20, 100, 110], [5, 5, 3, 3]).astype(np.uint8)
    threshold = hematoma.otsu(values)
    assert 20 < threshold <= 100
    variances = {t: (values < t).mean() * (values >= t).mean() * (values[values >= t].mean() - values[values < t].mean()) ** 2
                 for t in range(11, 111)}  # fmt: skip
    assert variances[threshold] == pytest.approx(max(variances.values()))
    assert hematoma.otsu(np.full(9, 77, dtype=np.uint8)) == 256


def test_a_ventricle_in_the_box_is_not_what_is_split_off():
    blood, ventricle = disk(58, 64, 8), disk(76, 64, 10)
    assert dice(hematoma.core(painted((ventricle, CSF), (blood, BLOOD)), BOX), blood) > 0.9


def test_bone_in_the_box_is_no_core():
    blood, bone = disk(58, 64, 8), np.broadcast_to(np.arange(SIZE) >= 78, (SIZE, SIZE))
    edge = np.broadcast_to(np.isin(np.arange(SIZE), range(74, 78)), (SIZE, SIZE))  # partial volume, as bright as blood
    grey = painted((blood, BLOOD), (edge, BLOOD), (bone, BONE))
    assert dice(hematoma.core(grey, BOX), blood) > 0.9
    assert not hematoma.core(painted((edge, BLOOD), (bone, BONE)), BOX).any()


def test_blood_above_the_window_is_no_bone():
    blood = disk(64, 64, 10)
    assert dice(hematoma.core(painted((blood, BONE)), BOX), blood) > 0.9


def test_pieces_belong_to_the_core_but_specks_and_what_touches_the_edge_do_not():
    large, piece, speck, outside = disk(56, 56, 8), disk(74, 74, 6), disk(54, 78, 2.5), disk(88, 50, 8)
    core = hematoma.core(painted(*((mask, BLOOD) for mask in (large, piece, speck, outside))), BOX)
    assert dice(core, large | piece) > 0.9
    assert not (core & (speck | outside)).any()


def test_what_touches_the_edge_stays_where_there_is_nothing_else():
    """A predicted box may cut the bleeding: its larger part inside of the box is the core."""
    large, small = disk(42, 64, 14), disk(87, 64, 5)
    inside = np.zeros((SIZE, SIZE), dtype=bool)
    inside[40:88, 40:88] = True
    core = hematoma.core(painted((large, BLOOD), (small, BLOOD)), BOX)
    assert dice(core, large & inside) > 0.9
    assert not core[small].any()


def test_a_thread_is_no_part_of_the_core():
    blood, thread = disk(64, 64, 10), np.zeros((SIZE, SIZE), dtype=bool)
    thread[63:65, 64:84] = True
    core = hematoma.core(painted((blood | thread, BLOOD)), BOX)
    assert dice(core, blood) > 0.9 and not core[thread & ~disk(64, 64, 12)].any()


def test_holes_are_filled():
    blood, hole = disk(64, 64, 14), disk(64, 64, 4)
    assert hematoma.core(painted((blood, BLOOD), (hole, BRAIN)), BOX)[hole].all()


def test_what_hardly_differs_from_the_brain_is_no_core():
    blood = disk(64, 64, 10)
    assert not hematoma.core(painted(), BOX).any()
    assert not hematoma.core(painted((blood, BRAIN + 8)), BOX).any()
    assert hematoma.core(painted((blood, BRAIN + 24)), BOX).any()


@pytest.mark.parametrize(
    "box",
    [[64, 64, 64, 64], [70, 70, 60, 60], [-30, -30, -5, -5], [200, 40, 240, 80], [62, 62, 66, 66]],
    ids=["no size", "reversed", "left of the image", "right of the image", "too small for a threshold"],
)
def test_a_box_without_anything_in_the_image_has_no_core(box: list[float]):
    grey = painted((disk(64, 64, 10), BLOOD))
    core = hematoma.core(grey, np.array([box], dtype=float))
    assert core.shape == grey.shape and core.dtype == bool and not core.any()
    assert (hematoma.core(grey, np.array([box, *BOX], dtype=float)) == hematoma.core(grey, BOX)).all()


def test_a_box_over_the_edge_of_the_image_is_cut():
    blood = disk(10, 64, 8)
    assert dice(hematoma.core(painted((blood, BLOOD)), np.array([[-20, 40, 40, 90.0]])), blood) > 0.9


def test_no_box_no_core():
    assert not hematoma.core(painted((disk(64, 64, 10), BLOOD)), np.zeros((0, 4))).any()
    assert not hematoma.core(np.zeros((SIZE, SIZE), dtype=np.uint8), BOX).any()


def test_abc2_by_hand():
    """Areas 80, 60 (75 %), 20 (25 %), 19: the slices count 1, 1, 1/2 and 0, so A B C / 2 = 10 x 8 x 2.5 / 2."""
    sides = np.array([[10, 8], [6, 10], [5, 4], [19, 1]], dtype=float)
    assert hematoma.abc2(sides, np.ones(4)) == pytest.approx(100)
    assert hematoma.abc2(sides[::-1], np.full(4, 0.005)) == pytest.approx(0.5)


def test_abc2_of_a_finely_sliced_ellipsoid():
    """Slices count fully to half the height, by half to sqrt(3)/2 of it: 3 (1/2 + (sqrt(3)/2 - 1/2)/2) / pi of 4/3 pi abc."""
    level = np.linspace(-1, 1, 2001)
    half = np.sqrt(1 - level**2)[:, None] * [30, 20]
    share = 3 / np.pi * (1 / 2 + (np.sqrt(3) / 2 - 1 / 2) / 2)
    assert hematoma.abc2(2 * half, np.full(2001, 0.01)) == pytest.approx(share * 4 / 3 * np.pi * 30 * 20 * 10, rel=0.005)


# ---- the table of a data set


@pytest.fixture
def drawn(work: Workspace) -> tuple[pd.DataFrame, list[Path], pd.DataFrame]:
    """Two patients of four slices, a bright disk of radius 5 on slices 1 and 3, tight boxes; no spacing."""
    toy.make(work, patients=5, slices=4, size=SIZE, boxes=True)  # as few as can be split
    slices = tables.read_labels(work, tables.read_dataset(work))[:8]
    return slices, [work.raw / name for name in slices["image"]], tables.read_boxes(work)[:4]


def test_table_of_single_slices(drawn: tuple):
    table = hematoma.table(*drawn)
    assert list(table.columns) == hematoma.COLUMNS
    assert list(table["lesion"]) == ["0001_1", "0001_2", "0002_1", "0002_2"]
    assert list(table["first_slice"]) == list(table["last_slice"]) == [1, 3, 1, 3]
    assert set(table["unit"]) == {"px"} and set(table["note"]) == {"unvalidated estimate"}
    np.testing.assert_allclose(table["abc2_volume"], 9 * 9 / 2)  # the disk is 9 px wide
    np.testing.assert_allclose(table["core_volume"], 69, atol=8)  # and has 69 px


def test_linked_slices_are_one_lesion_in_millilitres(drawn: tuple):
    """The image of slice 1 stands for slice 2, too: twice the volume. A voxel of 0.5 x 0.5 x 4 mm has 0.001 ml."""
    slices, paths, boxes = drawn
    slices = slices.assign(spacing_row=0.5, spacing_col=0.5, spacing_z=4.0)
    alone = hematoma.table(slices, paths, boxes).iloc[0]
    paths[2] = paths[1]
    boxes = pd.concat([boxes[::-1], boxes[:1].assign(image_id="0001_02")])
    boxes = boxes[boxes["image_id"].isin(["0001_01", "0001_02"])]
    lesion = hematoma.table(slices, paths, boxes).iloc[0]
    assert (lesion["first_slice"], lesion["last_slice"], lesion["slices"], lesion["core_slices"]) == (1, 2, 2, 2)
    assert lesion["core_volume"] == pytest.approx(2 * alone["core_volume"])
    assert lesion["abc2_volume"] == pytest.approx(9 * 9 * 2 / 2 * 0.001) and lesion["unit"] == "ml"


def test_boxes_of_a_lesion_that_overlap_count_a_pixel_once(drawn: tuple):
    """Two boxes over one disk, both linked to that of the next slice."""
    slices, paths, boxes = drawn
    paths[2] = paths[1]
    first = boxes[:1]
    larger = first.assign(xmin=first["xmin"] - 3, ymin=first["ymin"] - 3, xmax=first["xmax"] + 3, ymax=first["ymax"] + 3)
    once = hematoma.table(slices, paths, pd.concat([larger, first.assign(image_id="0001_02")]))
    twice = hematoma.table(slices, paths, pd.concat([first, larger, first.assign(image_id="0001_02")]))
    assert len(once) == len(twice) == 1
    assert twice["slices"][0] == 2 and twice["core_volume"][0] == pytest.approx(once["core_volume"][0], rel=0.1)


def test_a_lesion_without_a_core_has_no_volume_rather_than_0(drawn: tuple):
    slices, paths, boxes = drawn
    Image.fromarray(painted()).save(paths[1])
    table = hematoma.table(slices, paths, boxes)
    assert np.isnan(table["core_volume"][0]) and table["core_slices"][0] == 0 and table["abc2_volume"][0] > 0
    assert table["core_volume"][1:].notna().all()


def test_boxes_without_area_and_rows_without_a_box_are_left_out(drawn: tuple):
    slices, paths, boxes = drawn
    nothing = boxes[:2].assign(xmax=boxes["xmin"])
    nothing.loc[1, ["xmin", "ymin", "xmax", "ymax"]] = np.nan  # as predictions.csv has it for an image without any
    pd.testing.assert_frame_equal(hematoma.table(slices, paths, pd.concat([nothing, boxes])), hematoma.table(*drawn))
    empty = hematoma.table(slices, paths, nothing)
    assert empty.empty and list(empty.columns) == hematoma.COLUMNS


def test_an_image_smaller_than_its_boxes_stops_with_its_name(drawn: tuple):
    slices, paths, boxes = drawn
    with Image.open(paths[1]) as image:
        small = image.resize((16, 16))
    small.save(paths[1])
    with pytest.raises(UserError, match=r"0001_01\.png is 16 x 16 px, its boxes reach .* another image size"):
        hematoma.table(slices, paths, boxes)


# ---- figures


def test_figures_say_that_nothing_is_validated(drawn: tuple, tmp_path: Path):
    table = hematoma.table(*drawn)
    table.loc[0, "core_volume"] = np.nan
    table.loc[3, "unit"] = "ml"
    figure = figures.core_and_abc2(table, "toy")
    assert [axis.get_title() for axis in figure.axes] == [
        "lesions: 1 with a core, 0 without",
        "lesions: 2 with a core, 1 without",
    ]
    assert "unvalidated" in figure.get_suptitle()
    assert base_figure.save(figure, tmp_path / "volumes.png").stat().st_size > 5000

    blood, rim = disk(64, 64, 8), disk(64, 64, 13) & ~disk(64, 64, 9)
    nothing = np.zeros_like(blood)
    cases = [("a", painted((blood, BLOOD)), blood, rim), ("b", painted(), nothing, nothing), ("c", painted(), nothing, rim)]
    figure = figures.core_and_edema(cases, "toy")
    assert "unvalidated" in figure.get_suptitle()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["hematoma, estimated core", "edema, predicted"]
    assert [len(axis.collections) for axis in figure.axes] == [0, 2, 0, 0, 0, 1, 0, 0]
    base_figure.save(figure, tmp_path / "panels.png")


def test_without_anything_to_show_there_is_no_figure(drawn: tuple):
    assert figures.core_and_abc2(hematoma.table(*drawn)[:0], "toy") is None
    assert figures.core_and_edema([], "toy") is None
