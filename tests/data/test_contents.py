"""Other pixels under the old names are other data, however they came there."""

import os
import re

import numpy as np
import pytest
from PIL import Image

from helpers import toy
from hemoct.base import files, tables
from hemoct.base.errors import UserError
from hemoct.data import contents, images


@pytest.fixture
def labels(work):
    """Of a toy data set with its images.csv, whose files are old enough to be remembered."""
    made = toy.make(work)
    for path in work.raw.rglob("*.png"):
        os.utime(path, ns=(10**18, 10**18))
    contents.write(work, made)
    return made


def put_another(work, labels, row: int = 0) -> None:
    """Another image of the same name, size and time of writing."""
    path = work.raw / labels["image"].iloc[row]
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-20] ^= 1  # in the checksum of the end: the size stays
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_images_and_masks_are_listed_once_with_their_hashes(work, labels):
    frame = tables.read_csv(work.work / contents.TABLE, contents.COLUMNS)
    named = {*labels["image"], *labels["mask"]} - {""}
    assert set(frame["file"]) == named and frame["file"].is_unique and frame["file"].is_monotonic_increasing
    assert [files.sha256(work.raw / name) for name in frame["file"]] == frame["sha256"].tolist()


def test_an_image_of_the_same_name_size_and_time_stops(work, labels):
    names = labels["image"].tolist()
    assert contents.checked(work, names) == [files.sha256(work.raw / name) for name in names]
    put_another(work, labels, 3)
    with pytest.raises(UserError, match=rf"{re.escape(names[3])} is not the file that images.csv was made of, 1 of {len(names)}"):
        images.cached(work, labels, 16)
    contents.write(work, labels)
    assert contents.checked(work, names)[3] == files.sha256(work.raw / names[3])


def test_what_is_remembered_is_not_read_again_and_its_loss_is_none(work, labels, monkeypatch):
    monkeypatch.setattr(contents, "FRESH", -(10**15))  # files of this very second count as old
    names = labels["image"].tolist()
    first = contents.hashes(work, names)
    with monkeypatch.context() as context:
        context.setattr(contents, "_sha256", lambda path: pytest.fail("read again"))
        assert contents.hashes(work, names) == first
    memory = work.cache / contents.REMEMBERED
    for damage in (b"", b"\xff\xfe", b"a\tb\n" + memory.read_bytes()[:100]):
        memory.write_bytes(damage)
        assert contents.hashes(work, names) == first


def test_a_file_that_may_change_within_its_time_stamp_is_not_remembered(work, labels):
    contents.hashes(work, labels["image"].tolist())
    assert not (work.cache / contents.REMEMBERED).exists()


def test_data_of_an_older_version_have_no_table_and_go_on(work, labels):
    (work.work / contents.TABLE).unlink()
    put_another(work, labels)
    assert len(contents.checked(work, labels["image"].tolist())) == len(labels)


@pytest.mark.parametrize("damage", ["cut", "bit", "empty"])
def test_a_damaged_cache_is_made_again(work, labels, damage, capsys):
    first = np.array(images.cached(work, labels, 16))
    (path,) = work.cache.glob("*.npy")
    content = bytearray(path.read_bytes())
    content[300] ^= 255
    path.write_bytes({"cut": path.read_bytes()[:-100], "bit": bytes(content), "empty": b""}[damage])
    assert (images.cached(work, labels, 16) == first).all()
    assert f"{path} is damaged: it is made again" in capsys.readouterr().out
    assert (images.cached(work, labels, 16) == first).all() and not capsys.readouterr().out


def test_the_cache_follows_the_content_not_the_names(work, labels):
    images.cached(work, labels, 16)
    other = labels.assign(image=labels["image"].to_numpy()[::-1])
    assert (images.cached(work, other, 16) == images.cached(work, labels, 16)[::-1]).all()
    path = work.raw / "again.png"
    Image.open(work.raw / labels["image"].iloc[0]).save(path)
    (work.work / contents.TABLE).unlink()
    copies = labels.assign(image=[str(path.name), *labels["image"][1:]])
    path.write_bytes((work.raw / labels["image"].iloc[0]).read_bytes())
    images.cached(work, copies, 16)
    assert len(list(work.cache.glob("*.npy"))) == 2
