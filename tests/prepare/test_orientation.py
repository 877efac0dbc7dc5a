"""Where the nose points is found from grey values, however a data set is turned, and never guessed."""

import numpy as np
import pytest

from helpers import heads as drawn
from hemoct.prepare import orientation
from hemoct.prepare.options import KNOWN, UNKNOWN, mirror_axis


def vote(slices):
    return orientation.vote((patient, orientation.weights(grey)) for patient, grey in slices)


def of_patients(turns: int = 0, patients: int = 6):
    return [(str(key), np.rot90(grey, turns)) for key in range(patients) for grey in drawn.slices(key, 4, 192)]


@pytest.mark.parametrize(("turns", "expected"), [(0, "left"), (1, "down"), (2, "right"), (3, "up")])
def test_all_four_are_found(turns, expected):
    found = vote(of_patients(turns))
    assert found.orientation == expected and found.share >= 2 / 3 and found.votes >= 5
    assert expected in str(found) and f"of {found.votes} agree" in str(found)


def test_turns_lead_from_one_to_the_other():
    marked = np.zeros((5, 5), np.uint8)
    marked[0, 2] = 1  # the nose is up
    where = {"up": (0, 2), "left": (2, 0), "down": (4, 2), "right": (2, 4)}
    for present in KNOWN:
        there = np.rot90(marked, orientation.turns("up", present))
        assert there[where[present]]
        for wanted in KNOWN:
            assert np.rot90(there, orientation.turns(present, wanted))[where[wanted]]
    assert orientation.turns("up", UNKNOWN) == orientation.turns(None, "up") == orientation.turns(UNKNOWN, "left") == 0


def test_nothing_is_guessed():
    random = np.random.default_rng(0)
    noise = [("", random.integers(0, 255, (64, 64)).astype(np.uint8)) for _ in range(20)]
    disc = np.hypot(*np.mgrid[-40:40, -40:40]) < 25
    round_ones = [(str(number), disc.astype(np.uint8) * 90) for number in range(20)]
    mixed = [pair for turns in range(4) for pair in of_patients(turns, 2)]
    for slices in ([], noise, round_ones, mixed, of_patients()[:3], [("", np.zeros((64, 64), np.uint8))] * 20):
        assert vote(slices).orientation == UNKNOWN


def test_the_mirror_axis_follows():
    assert [mirror_axis(where) for where in ("up", "left", "down", "right", UNKNOWN, None)] == [
        "horizontal", "vertical", "horizontal", "vertical", "horizontal", "horizontal",
    ]  # fmt: skip
