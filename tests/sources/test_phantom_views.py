"""The drawn angiograms: eight of each patient, two views, lesions where they belong and seen where they are labelled."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from hemoct.sources import phantom_views
from hemoct.sources.phantom_views import ANGLES, LABELS, VIEWS


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views") / "a"
    phantom_views.draw_dataset(folder, patients=12, size=64)
    return folder, pd.read_csv(folder / "labels.csv")


def test_eight_images_of_each_patient_in_two_views(drawn):
    folder, table = drawn
    assert list(table) == ["image", "patient", "group", *LABELS] and len(table) == 12 * 8
    assert (table.groupby(["patient", "group"]).size() == len(ANGLES)).all() and set(table["group"]) == set(VIEWS)
    assert sorted(path.name for path in (folder / "images").iterdir()) == sorted(table["image"])
    assert Image.open(folder / "images" / table["image"][0]).size == (64, 64)


def test_each_view_has_its_lesions_and_one_image_of_four_hides_them(drawn):
    _, table = drawn
    for view, lesions in VIEWS.items():
        shown = table[table["group"] == view]
        assert (shown[[name for name in LABELS if name not in lesions]] == 0).all(axis=None)
        counts = shown.groupby("patient")[list(lesions)].sum()
        assert set(np.unique(counts)) == {0, len(ANGLES) - 1}
    assert (table.groupby("patient")[list(LABELS)].max().mean() > 0).all(), "each label is there"


def test_a_lesion_is_seen(drawn):
    """Of one head: an aneurysm is darker than no vessel, what is narrowed or closed is brighter than a vessel."""
    vessels = phantom_views.tree("front", np.random.default_rng(0))
    same = {label: phantom_views.draw(vessels, {label}, (0, 0.0), 64, np.random.default_rng(1)).astype(int) for label in LABELS}
    plain = phantom_views.draw(vessels, set(), (0, 0.0), 64, np.random.default_rng(1)).astype(int)
    assert (same["aneurysm"] - plain).min() < -50 and (same["stenosis"] - plain).max() > 20
    assert (same["occlusion"] - plain).max() > 50


def test_the_same_call_draws_the_same_bytes(drawn, tmp_path):
    folder, _ = drawn
    phantom_views.draw_dataset(tmp_path / "b", patients=12, size=64)
    digests = [
        [hashlib.sha256(path.read_bytes()).digest() for path in sorted(place.rglob("*.*"))] for place in (folder, tmp_path / "b")
    ]
    assert digests[0] == digests[1]
