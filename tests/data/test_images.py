"""Decoding and the cache: order, content key, broken files; batches equal the cache; the choice of targets."""

import os
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from helpers import toy
from hemoct.base import tables
from hemoct.base.errors import UserError
from hemoct.data import images, slices
from hemoct.training.batches import Gather, Stacks, Store, draw


def test_the_cache_holds_the_slices_in_the_order_of_the_labels(work):
    toy.make(work, size=32)
    labels = tables.read_labels(work, tables.read_dataset(work))
    pixels = images.cached(work, labels, 32)
    assert pixels.dtype == np.uint8 and pixels.shape == (len(labels), 32, 32)
    for row in (0, 7, len(labels) - 1):
        assert (pixels[row] == np.asarray(Image.open(work.raw / labels["image"].iloc[row]))).all()


def test_the_cache_is_made_once_and_anew_when_an_image_changes(work, monkeypatch):
    toy.make(work)
    labels = tables.read_labels(work, tables.read_dataset(work))
    images.cached(work, labels, 16)
    made = list(work.cache.glob("*.npy"))
    with monkeypatch.context() as context:
        context.setattr(images, "read_planes", lambda *_: pytest.fail("decoded again"))
        images.cached(work, labels, 16)
    Image.fromarray(np.full((40, 40), 9, np.uint8)).save(work.raw / labels["image"].iloc[0])
    assert (images.cached(work, labels, 16)[0] == 9).all()
    assert len(list(work.cache.glob("*.npy"))) == 2 and made[0].exists()


@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_a_broken_image_is_named(tmp_path, content):
    path = tmp_path / "broken.png"
    if content is None:  # truncated
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)).save(path)
        content = path.read_bytes()[:-500]
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"broken\.png"):
        images.read_grey(path)


def test_sixteen_bit_images_are_refused_not_clipped(tmp_path):
    Image.fromarray(np.full((8, 8), 3000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match=r"deep\.png holds 16"):
        images.read_grey(tmp_path / "deep.png")


def test_a_full_disk_while_caching_is_an_error_with_a_name(work, monkeypatch):
    toy.make(work)
    labels = tables.read_labels(work, tables.read_dataset(work))

    def full(self, paths, *_):
        yield np.zeros((1, 16, 16), np.uint8)
        with open("/dev/full", "wb", buffering=0) as disk:
            disk.write(b"x")

    monkeypatch.setattr(images._Fitting, "planes", full)
    with pytest.raises(OSError, match="No space left"):
        images.cached(work, labels, 16)
    assert {path.name for path in work.cache.iterdir() if path.suffix != ".lock"} <= {"contents.csv"}


def test_the_cache_is_not_that_of_other_images_of_the_same_name_size_and_time(work):
    """An image that is put in the place of another one may have its name, its size and its time of writing."""
    toy.make(work)
    labels = tables.read_labels(work, tables.read_dataset(work))
    path = work.raw / labels["image"].iloc[0]
    Image.new("L", (32, 32), 58).save(path, format="BMP")
    before, status = path.read_bytes(), path.stat()
    assert (images.cached(work, labels, 16)[0] == 58).all()
    Image.new("L", (32, 32), 18).save(path, format="BMP")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(path.read_bytes()) == len(before) and path.stat().st_mtime_ns == status.st_mtime_ns
    assert (images.cached(work, labels, 16)[0] == 18).all()


def test_workers_pickle_the_name_of_the_cache_not_its_content(work):
    toy.make(work)
    pixels = images.cached(work, tables.read_labels(work, tables.read_dataset(work)), 64)
    packed = pickle.dumps(Gather(pixels))
    assert len(packed) < 1000
    assert torch.equal(pickle.loads(packed)[[3, 1]], torch.from_numpy(pixels[[3, 1]]))


@pytest.mark.parametrize("channels", [1, 3])
def test_many_images_lie_in_shards_and_a_changed_one_renews_its_own(work, monkeypatch, channels):
    toy.make(work)
    labels = tables.read_labels(work, tables.read_dataset(work))
    whole = images.cached(work, labels, 16, channels)
    monkeypatch.setattr(images, "SHARD", 7)
    pixels = images.cached(work, labels, 16, channels)
    shards = -(-len(labels) // 7)
    assert len(list(work.cache.glob("*.npy"))) == 1 + shards > 3
    np.testing.assert_array_equal(np.asarray(pixels), whole)
    packed = pickle.dumps(Gather(pixels))
    rows = [8, 0, len(whole) - 1]
    assert len(packed) < 2000 and torch.equal(pickle.loads(packed)[rows], torch.from_numpy(whole[rows]))
    assert images.grey_statistics(pixels, np.arange(5, 20)) == images.grey_statistics(whole, np.arange(5, 20))
    Image.fromarray(np.full((40, 40), 9, np.uint8)).save(work.raw / labels["image"].iloc[8])
    assert (images.cached(work, labels, 16, channels)[8 * channels] == 9).all()
    assert len(list(work.cache.glob("*.npy"))) == 2 + shards


def test_a_killed_run_goes_on_at_the_shard_where_it_was(work, monkeypatch):
    toy.make(work)
    labels = tables.read_labels(work, tables.read_dataset(work))
    monkeypatch.setattr(images, "SHARD", 7)
    calls, read = [], images.read_planes

    def killed(path, channels):
        calls.append(path)
        if path.name == labels["image"].iloc[10].rpartition("/")[2] and len(calls) <= len(labels):
            raise KeyboardInterrupt
        return read(path, channels)

    monkeypatch.setattr(images, "read_planes", killed)
    with pytest.raises(KeyboardInterrupt):
        images.cached(work, labels, 16)
    assert len(list(work.cache.glob("grey-*.npy"))) == 1
    calls[:] = [None] * len(labels)
    images.cached(work, labels, 16)
    assert len(calls) == 2 * len(labels) - 7


def test_colour_becomes_grey_and_other_extensions_are_read_by_content(tmp_path):
    colour = np.zeros((8, 8, 3), np.uint8)
    colour[..., 1] = 200
    Image.fromarray(colour).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    assert images.read_grey(tmp_path / "a.jpg").shape == (8, 8)


def test_planes_are_grey_or_red_green_and_blue(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    Image.fromarray(colour).save(tmp_path / "windows.png")
    Image.fromarray(colour[..., 0]).save(tmp_path / "grey.png")
    assert (images.read_planes(tmp_path / "windows.png", 3) == colour.transpose(2, 0, 1)).all()
    assert (images.read_planes(tmp_path / "windows.png", 1)[0] == images.read_grey(tmp_path / "windows.png")).all()
    assert images.read_planes(tmp_path / "grey.png", 1).shape == (1, 6, 9)
    assert (images.read_planes(tmp_path / "grey.png", 3) == colour[..., 0]).all(), "a grey image is each of the three"
    with pytest.raises(UserError, match=r"absent\.png is missing"):
        images.read_planes(tmp_path / "absent.png", 3)


def test_the_cache_of_three_channels_lies_beside_that_of_grey(work):
    labels = toy.make(work)
    colour = np.random.default_rng(1).integers(0, 256, (len(labels), 32, 32, 3), np.uint8)
    for name, pixels in zip(labels["image"], colour, strict=True):
        Image.fromarray(pixels).save(work.raw / name)
    cached = images.cached(work, labels, 32, channels=3)
    assert cached.dtype == np.uint8 and cached.shape == (3 * len(labels), 32, 32)
    assert (cached.reshape(len(labels), 3, 32, 32) == colour.transpose(0, 3, 1, 2)).all()
    grey = images.cached(work, labels, 32)
    assert grey.shape == (len(labels), 32, 32) and (grey[3] == images.read_grey(work.raw / labels["image"].iloc[3])).all()
    assert sorted(path.name[:4] for path in work.cache.glob("*.npy")) == ["grey", "rgb-"]
    small = next(images.decode_parts([work.raw / name for name in labels["image"][:2]], 16, 2, 3))
    assert (small[4] == images.resize(colour[1, ..., 1], 16)).all() and small.shape == (6, 16, 16)


def test_stacks_are_batches_of_the_planes_of_each_slice():
    pixels = np.random.default_rng(0).integers(0, 256, (23, 5, 5), np.uint8)
    planes = torch.randint(0, 23, (9, 4), generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([8, 0, 3, 3, 5])
    found = list(Stacks(Store(pixels, torch.device("cpu")), planes).batches(rows, 2))
    assert [position.tolist() for position, _ in found] == [[0, 1], [2, 3], [4]]
    stacked = torch.cat([batch for _, batch in found])
    torch.testing.assert_close(stacked, torch.from_numpy(pixels)[planes[rows]].float() / 255)


def test_grey_statistics_are_those_of_the_chosen_rows():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 9, 9), np.uint8)
    rows = np.arange(5, 40)
    mean, std = images.grey_statistics(pixels, rows)
    assert mean == pytest.approx((pixels[rows] / 255).mean()) and std == pytest.approx((pixels[rows] / 255).std())


def test_batches_cover_the_rows_in_order():
    pixels = np.random.default_rng(0).integers(0, 256, (23, 5, 5), np.uint8)
    rows = torch.randperm(23)[:17]
    store = Store(pixels, torch.device("cpu"))
    found = list(store.batches(rows, 4))
    assert torch.cat([position for position, _ in found]).tolist() == list(range(17))
    stacked = torch.cat([batch for _, batch in found])
    torch.testing.assert_close(stacked[:, 0], torch.from_numpy(pixels)[rows].float() / 255)


def test_a_store_on_the_device_gives_the_same_batches(monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (23, 5, 5), np.uint8)
    lazy = Store(pixels, torch.device("cpu"))
    monkeypatch.setattr("hemoct.training.device.free_memory", lambda device: 10**9)
    resident = Store(pixels, torch.device("cpu"))
    assert resident.resident is not None and lazy.resident is None
    rows = torch.arange(22, -1, -1)
    for (_, a), (_, b) in zip(lazy.batches(rows, 6), resident.batches(rows, 6), strict=True):
        assert torch.equal(a, b)


def test_balanced_drawing_meets_each_class_alike():
    truth = torch.zeros(1000, 1)
    truth[:50] = 1
    generator = torch.Generator().manual_seed(0)
    assert 0.4 < truth[draw(truth, "sampler", generator)].mean() < 0.6
    order = draw(truth, "none", generator)
    assert sorted(order.tolist()) == list(range(1000)) and order.tolist() != list(range(1000))


def test_the_target_of_several_labels_is_any_of_them():
    labels = pd.DataFrame({"EDH": [1, 0, 0, None], "SAH": [None, 0, None, 1]}).astype("Int64")
    dataset = tables.Dataset("d", "csv", ["EDH", "SAH"])
    classes, target = slices.choose_targets(labels, dataset, None)
    assert classes == ["any"]
    np.testing.assert_array_equal(target[:, 0], [1, 0, np.nan, 1])
    assert slices.choose_targets(labels, dataset, "SAH")[0] == ["SAH"]
    with pytest.raises(UserError, match="EDH, SAH"):
        slices.choose_targets(labels, dataset, "IVH")


def test_a_label_that_says_that_there_is_nothing_is_none_of_any():
    labels = pd.DataFrame({"Normal": [1, 0, 1], "SAH": [0, 1, None]}).astype("Int64")
    np.testing.assert_array_equal(slices.truth_of_any(labels, ["Normal", "SAH"]), [0, 1, np.nan])
    np.testing.assert_array_equal(slices.truth_of_any(labels.assign(any=[1, 1, 0]), ["Normal", "SAH", "any"]), [1, 1, 0])


def test_a_first_look_takes_patients_from_every_fold(work):
    toy.make(work, patients=20)
    split = tables.read_splits(work)
    chosen = slices.first_patients(split, 7)
    assert len(chosen) == 7 and split[split["patient"].isin(chosen)]["fold"].nunique() == 5


# ---- files of the same bytes


def test_files_of_the_same_bytes_are_decoded_once_while_they_are_among_the_last_few(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "FEW", 2)
    paths = [tmp_path / f"{name}.png" for name in range(6)]
    for path, grey in zip(paths, (0, 0, 7, 0, 9, 0), strict=True):
        Image.new("L", (8, 4), grey).save(path)
    decoded, alike = [], images.Alike()

    def decode(path):
        decoded.append(path)
        return images.read_grey(path)

    read = [alike.read(str(path), (8, 4), decode) for path in paths]
    assert [made.max() for made in read] == [0, 0, 7, 0, 9, 0] and decoded == [paths[0], paths[2], paths[4]]
    alike.read(str(paths[2]), (8, 4), decode)  # 0 and 9 are the last two
    alike.read(str(paths[1]), (4, 8), decode)  # the same bytes for an image of another size: `decode` may stop there
    assert decoded[3:] == [paths[2], paths[1]]
    with pytest.raises(UserError, match="nowhere"):
        alike.read(str(tmp_path / "nowhere.png"), (8, 4), decode)
