"""How many images of a data set are looked at to find where the nose points."""

import numpy as np
import pandas as pd
import pytest

from hemoct.data import prepared
from hemoct.prepare.options import KNOWN, UNKNOWN


@pytest.mark.parametrize(("wrong", "looks", "share"), [(0, 1, 1.0), (15, 2, 0.85), (50, 2, 0.5)])
def test_a_third_is_enough_where_nearly_all_agree(work, monkeypatch, wrong, looks, share):
    names = [f"{patient:04d}" for patient in range(100) for _ in range(6)]
    labels = pd.DataFrame({"patient": names, "slice": list(range(6)) * 100, "image_id": range(600), "image": "x.png"})
    asked = []

    def weighed(pairs):
        asked.append(len(pairs))
        for patient, _ in pairs:
            yield patient, 9.0 * np.eye(4)[int(int(patient) % 100 < wrong)]

    monkeypatch.setattr(prepared, "_weighed", weighed)
    found = prepared.look(work, labels)
    assert asked == [133, 400][:looks] and (found.votes, found.share) == (100, pytest.approx(share))
    assert found.orientation == (KNOWN[0] if wrong < 30 else UNKNOWN)
