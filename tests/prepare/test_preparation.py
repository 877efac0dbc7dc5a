"""What --prepare takes, and how its parts work together."""

import argparse

import numpy as np
import pytest

from helpers import heads as drawn
from hemoct.base.errors import UserError
from hemoct.prepare import head as heads, methods, options
from hemoct.prepare.options import NAMES
from hemoct.prepare.preparation import NOTHING, Preparation


def test_names_are_known_and_keep_their_order():
    assert options.names("head,text,invert") == ["head", "text", "invert"] and options.names("none") == []
    for wrong in ("skull", "head,,text", "", "head,head"):
        with pytest.raises(argparse.ArgumentTypeError):
            options.names(wrong)
    with pytest.raises(argparse.ArgumentTypeError, match="there are: head, text, invert, median, clahe, brain"):
        options.names("head,skull")


def test_nothing_is_done_by_default():
    planes = drawn.slices()[2:3]
    grey = planes[0]
    done = NOTHING.apply(planes)
    assert (done.planes == planes).all() and done.geometry.size == (256, 256) and NOTHING.key == b""
    assert NOTHING.grey(grey) is grey and not done.kept_whole


def test_parts_follow_one_another():
    grey = drawn.slices()[3]
    done = Preparation(("head", "invert"), turns=1).apply(grey[None])
    width, height = done.geometry.size
    assert done.planes.shape == (1, height, width) and width < 256
    turned = np.rot90(grey)
    head = heads.find(turned)
    assert done.geometry.part == methods.head_part(head, turned.shape)
    cut = done.geometry.image(np.where(np.rot90(methods.outside(head, turned.shape), -1), 0, grey))
    assert (done.planes[0] == 255 - cut).all()


def test_planes_are_cut_alike():
    grey = drawn.slices()[3]
    three = np.stack([grey, grey // 2, np.zeros_like(grey)])
    done = Preparation(("head", "brain")).apply(three)
    assert len(done.planes) == 3 and (done.planes[1] == done.planes[0] // 2).all() and not done.planes[2].any()
    assert 0 < (done.planes[0] > 0).mean() < (Preparation(("head",)).apply(three).planes[0] > 0).mean()


@pytest.mark.parametrize("names", [("head",), ("brain",), ("head", "brain")])
def test_an_empty_image_is_kept_whole_and_told(names):
    done = Preparation(names).apply(np.zeros((1, 64, 48), np.uint8))
    assert done.planes.shape == (1, 64, 48) and done.kept_whole == names


def test_each_way_to_prepare_has_a_key_of_its_own():
    made = [Preparation(), Preparation(turns=1), Preparation(("brain",)), Preparation(("brain",), bone=153), *(
        Preparation(names) for names in (("head",), ("head", "text"), ("text", "head"), ("invert",)))]  # fmt: skip
    assert len({each.key for each in made}) == len(made)
    assert Preparation(("head",), bone=153).key == Preparation(("head",)).key, "bone matters for a brain alone"


def test_what_moves_pixels_is_refused_where_nothing_can_follow():
    options.stop_if_moving([name for name in NAMES if name != "head"], "x")
    with pytest.raises(UserError, match="head moves each image by itself, which boxes cannot follow; there text, invert"):
        options.stop_if_moving(["text", "head"], "boxes cannot follow")
