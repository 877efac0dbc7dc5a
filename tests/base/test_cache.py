"""Several memory maps that are read as one array."""

import numpy as np
import pytest

from hemoct.base import cache


@pytest.fixture
def parts():
    whole = np.random.default_rng(0).integers(0, 256, (11, 3, 2), np.uint8)
    return whole, cache.joined([whole[:4], whole[4:5], whole[5:]])


def test_rows_are_those_of_the_whole(parts):
    whole, joined = parts
    assert joined.shape == whole.shape and len(joined) == 11 and joined.nbytes == whole.nbytes and joined.dtype == whole.dtype
    np.testing.assert_array_equal(np.asarray(joined), whole)
    asked = [0, 4, -1, np.int64(5), slice(None), slice(3, 9, 2), slice(9, 2, -3), [10, 0, 4, 4, -7], np.arange(11) % 3 == 0, []]
    for rows in asked:
        rows = np.array(rows, dtype=int) if isinstance(rows, list) else rows
        np.testing.assert_array_equal(joined[rows], whole[rows])


@pytest.mark.parametrize("row", [11, -12, [0, 11]])
def test_a_row_beyond_the_end_is_an_error(parts, row):
    with pytest.raises(IndexError, match="of 11"):
        parts[1][row]


@pytest.mark.parametrize("rows", [(0, 1), (slice(None), 0), [[0, 1]]])
def test_other_indices_are_an_error(parts, rows):
    with pytest.raises(IndexError, match="one index, of one axis"):
        parts[1][rows]


def test_one_part_is_the_array_itself(parts):
    assert cache.joined([parts[0]]) is parts[0]
