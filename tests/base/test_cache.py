"""Memory maps are made once, by one process, and several are read as one array."""

import multiprocessing
import time

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


# ---- several processes


def make_all(folder, number: int, delay: float) -> None:
    """Make four maps, and say in a file which ones this process made."""

    def wanted(shard: int):
        def make():
            time.sleep(delay)
            with (folder / "made.txt").open("a") as stream:
                stream.write(f"{shard} {number}\n")
            return (2, 3), [np.full((2, 3), shard, np.uint8)]

        return folder / f"{shard}.npy", make

    made = cache.memory_maps([wanted(shard) for shard in range(4)])
    assert np.asarray(made).tolist() == [[shard] * 3 for shard in range(4) for _ in range(2)]


def test_processes_share_the_work_and_wait_for_what_others_make(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=make_all, args=(tmp_path, number, 0.3)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    made = [line.split() for line in (tmp_path / "made.txt").read_text().splitlines()]
    assert sorted(shard for shard, _ in made) == list("0123"), "each once"
    assert {number for _, number in made} == {"0", "1"}, "by both"


def test_a_single_map_is_waited_for(tmp_path, capfd):
    from filelock import FileLock

    path, calls = tmp_path / "a.npy", []
    with FileLock(tmp_path / ".a.npy.lock"):
        context = multiprocessing.get_context("fork")
        other = context.Process(target=lambda: cache.memory_map(path, lambda: calls.append(1) or ((1,), [np.zeros(1, np.uint8)])))
        other.start()
        other.join(0.5)
        assert other.is_alive() and not path.exists()
        assert "a.npy is being made by another process: waiting for it" in capfd.readouterr().out
    other.join(60)
    assert other.exitcode == 0 and path.exists()


def test_a_damaged_map_is_made_again(tmp_path, capsys):
    path = tmp_path / "a.npy"

    def make():
        return (2, 4), [np.arange(8, dtype=np.uint8).reshape(2, 4)]

    cache.memory_map(path, make)
    path.write_bytes(path.read_bytes()[:-40])
    assert cache.memory_map(path, make).sum() == 28 and "a.npy is damaged: it is made again" in capsys.readouterr().out
