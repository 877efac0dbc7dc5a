"""Masks that change with the order of the patients are found; masks that differ at random are not."""

import numpy as np
import pandas as pd
import pytest

from hemoct.audit import drift
from hemoct.audit.reading import Audited


def audited(share: np.ndarray, boxes: bool = True, names: list[str] | None = None) -> Audited:
    """Patients with two slices each, a box of 1,000 px and a mask of `share` of it on each; one more slice of each has no box."""
    names = names or [str(number) for number in range(1, len(share) + 1)]
    rows = [(f"{name}_{slice_}", name, 1000 * part if slice_ < 2 else 400.0, "") for name, part in zip(names, share, strict=True)
            for slice_ in range(3)]  # fmt: skip
    images = pd.DataFrame(rows, columns=["image_id", "patient", "mask_pixels", "mask_state"])
    there = images["image_id"].str.endswith(("_0", "_1")) & boxes
    corners = {"xmin": 10.0, "ymin": 10.0, "xmax": 60.0, "ymax": 30.0}
    boxed = images.loc[there, ["image_id"]].assign(**corners)
    data = Audited.__new__(Audited)
    for name, value in {"images": images, "boxes": boxed, "dataset": type("D", (), {"patient_source": ""})}.items():
        object.__setattr__(data, name, value)
    return data


def random(n: int = 60) -> np.ndarray:
    return np.exp(np.random.default_rng(3).normal(-3, 0.5, n))


def test_shares_are_of_slices_with_a_box_in_the_order_in_which_people_count():
    share = random(22)
    found = drift.shares(audited(share))
    assert list(found.index) == [str(number) for number in range(1, 23)], "2 before 10"
    np.testing.assert_allclose(found, share)


def test_a_rule_that_changed_half_way_is_found_and_one_rule_is_not():
    share = random()
    told = drift.measure(audited(share))
    assert told["p"] > drift.UNLIKELY and abs(told["correlation"]) < 0.3
    changed = np.where(np.arange(60) < 30, share, share / 8)
    told = drift.measure(audited(changed))
    assert told["p"] < drift.UNLIKELY and told["correlation"] > 0.5
    assert [run["first"] for run in told["runs"]] == ["1", "11", "21", "31", "41", "51"]
    assert told["runs"][0]["median"] == pytest.approx(np.median(share[:10]), rel=0.01)
    assert "median of 10 patients" in drift.words(told) and drift.words(told).endswith("p = 0.0005")
    shuffled = np.random.default_rng(1).permutation(changed)
    assert drift.measure(audited(shuffled))["p"] > drift.UNLIKELY, "the same shares in another order"


def test_the_correlation_is_that_of_neighbours():
    share = random(40)
    logs = np.log(share)
    told = drift.measure(audited(share))["correlation"]
    expected = ((logs[1:] - logs.mean()) * (logs[:-1] - logs.mean())).mean() / logs.var()
    assert told == pytest.approx(expected, abs=1e-3)


def test_without_boxes_the_mask_itself_counts_and_few_patients_say_nothing():
    share = random(30)
    found = drift.shares(audited(share, boxes=False))
    np.testing.assert_allclose(found, (2 * 1000 * share + 400) / 3)
    assert drift.measure(audited(share, boxes=False))["of"] == "mask area, px"
    assert drift.measure(audited(random(drift.LEAST - 1))) is None and drift.mask_drift(audited(random(5))) is None
    assert drift.measure(audited(np.full(30, 0.1))) is None, "all alike"


def test_the_figure_shows_each_patient_and_each_run():
    (axis,) = drift.mask_drift(audited(random(35))).axes
    assert len(axis.lines) == 1 + 4 and len(axis.lines[0].get_xdata()) == 35
    assert axis.get_yscale() == "log"
