"""What each preparation does to a head, to text that is burnt in, and to what is no head."""

import numpy as np
import pytest

from helpers import heads as drawn
from hemoct.prepare import head as heads, methods

SIDE = 256
EMPTY = np.zeros((SIDE, SIDE), np.uint8)


@pytest.fixture
def grey():
    return drawn.slices()[3]


def test_a_head_is_found_without_its_holder(grey):
    found = heads.find(grey)
    mask = found.full(found.mask, grey.shape)
    assert 0.15 < mask.mean() < 0.6 and mask[SIDE // 2, SIDE // 2]
    assert (grey[~mask] > 200).any(), "the holder"
    assert heads.find(EMPTY) is None and heads.find(EMPTY + 200) is None


def test_the_head_is_cut_with_a_margin_and_the_holder_is_off(grey):
    found = heads.find(grey)
    xmin, ymin, xmax, ymax = methods.head_part(found, grey.shape)
    rows, columns = np.nonzero(found.full(found.mask, grey.shape))
    assert 0 <= xmin < columns.min() and columns.max() < xmax <= SIDE
    assert 0 <= ymin < rows.min() and rows.max() < ymax <= SIDE
    assert (xmax - xmin) * (ymax - ymin) < 0.9 * SIDE**2
    out = methods.outside(found, grey.shape)
    assert out[:, -8:].all() and not out[rows, columns].any()


@pytest.mark.parametrize("height", [10, 14, 20])
@pytest.mark.parametrize("place", ["upper left", "upper right", "lower left", "lower right"])
def test_text_in_a_corner_is_filled(grey, place, height):
    x, y = (150 if "right" in place else 4), (SIDE - height - 8 if "lower" in place else 4)
    shown = drawn.written(grey, "R 1.25 mm", (x, y), height)
    found = heads.find(grey)
    head = found.full(found.mask, grey.shape)
    new = (shown != grey) & ~head
    cleaned = methods.without_text(shown, heads.find(shown))
    assert (cleaned[head] == shown[head]).all(), "nothing in the head is changed"
    left = (cleaned[new].astype(int) - grey[new] > 64).mean()
    assert left < 0.06, f"{left:.0%} of the text are left"


def test_text_over_the_edge_of_a_head_goes_as_far_as_the_head(grey):
    found = heads.find(grey)
    part = methods.head_part(found, grey.shape)
    place = (part[0] - 30, (part[1] + part[3]) // 2)
    shown = drawn.written(grey, "0013 M 62", place, 14)
    near = methods.protected(heads.find(shown), grey.shape)
    new = (shown != grey) & ~near
    assert new.sum() > 20
    cleaned = methods.without_text(shown, heads.find(shown))
    assert (cleaned[near] == shown[near]).all() and (cleaned[new] < 64).mean() > 0.9
    assert near[found.full(found.mask, grey.shape)].mean() > 0.98


@pytest.mark.parametrize("number", range(6))
def test_without_text_a_head_stays_as_it_is(number):
    grey = drawn.slices()[number]
    found = heads.find(grey)
    head = found.full(found.mask, grey.shape)
    assert (methods.without_text(grey, found)[head] == grey[head]).all()


def test_frames_and_bright_borders_go():
    grey = np.random.default_rng(0).integers(60, 120, (120, 160)).astype(np.uint8)
    framed = grey.copy()
    framed[:, :9] = 255
    framed[-5:] = 200
    cleaned = methods.without_text(framed, None)
    assert (cleaned[:, :9] == 0).all() and (cleaned[-5:] == 0).all()
    assert (cleaned[20:100, 30:130] == grey[20:100, 30:130]).all()
    lines = EMPTY.copy()
    lines[3], lines[:, 4] = 255, 255
    assert not methods.without_text(lines, None).any()


def test_a_brain_is_what_the_skull_encloses(grey):
    inside = methods.brain(grey, heads.find(grey))
    hu = drawn.slices()[3]
    assert inside is not None and 0.08 < inside.mean() < 0.45
    assert (hu[inside] >= methods.BONE).mean() < 0.05 and not inside[:, -8:].any()
    bright = grey.copy()
    rows, columns = (int(np.median(places)) for places in np.nonzero(inside))
    bright[rows - 8 : rows + 8, columns - 8 : columns + 8] = 255
    assert methods.brain(bright, heads.find(bright))[rows - 8 : rows + 8, columns - 8 : columns + 8].all(), "bright blood is kept"
    open_skull = grey.copy()
    open_skull[: SIDE // 2] = 0
    assert methods.brain(open_skull, heads.find(open_skull)) is None


def test_grey_values_alone_are_changed(grey):
    assert (methods.invert(methods.invert(grey)) == grey).all() and methods.invert(grey)[0, 0] == 255 - grey[0, 0]
    speck = np.full((9, 9), 50, np.uint8)
    speck[4, 4] = 255
    assert (methods.median(speck) == 50).all()
    flat = np.tile(np.linspace(100, 120, 64).astype(np.uint8), (64, 1))
    assert np.ptp(methods.clahe(flat)) > np.ptp(flat)
