"""Slices of files that a user names: frames of one DICOM file are slices like those of a series."""

import numpy as np
import pydicom
import pytest

from helpers import toy
from helpers.dicom_files import head, write_series
from hemoct.base.errors import UserError
from hemoct.base.workspace import Workspace
from hemoct.ct import hounsfield, windows as ct_windows
from hemoct.data import images, named_slices, prepared
from hemoct.prepare.preparation import NOTHING


def test_frames_of_one_file_have_their_places_and_are_known_when_converted(run_step, tmp_path):
    hu = head(3)
    (path,) = write_series(tmp_path / "in", hu[:1])
    header = pydicom.dcmread(path)
    header.NumberOfFrames, header.PixelData = 3, (hu + 1024).astype("<u2").tobytes()
    groups = [pydicom.Dataset() for _ in range(3)]
    for group, place in zip(groups, (10.0, 5.0, 0.0), strict=True):  # from vertex to base
        position = pydicom.Dataset()
        position.ImagePositionPatient = [0, 0, place]
        group.PlanePositionSequence = [position]
    header.PerFrameFunctionalGroupsSequence = groups
    header.save_as(path)
    how = named_slices.Reading(1, "brain", None)
    slices = list(named_slices.read(path, how))
    assert [each.path for each in slices] == [path / f"{number:03d}" for number in range(3)]
    places, left = named_slices.arrange(slices)
    assert [places[each.path].number for each in slices] == [2, 1, 0] and left == {}
    one = named_slices.again(how)
    np.testing.assert_array_equal(one(path / "002").planes, slices[2].planes)
    words = ("--from", tmp_path / "in", "--root", tmp_path, "--dataset", "x", "--workers", 1)
    assert run_step("scripts/01_get_data.py", *words).code == 0
    made = named_slices.converted(Workspace(tmp_path, "x"))
    assert sorted(made) == sorted(f"{path.resolve()}/{number:03d}" for number in range(3))
    assert made[f"{path.resolve()}/002"].endswith("_002.png")


def test_planes_of_many_files_lie_in_one_mapped_file(work: Workspace) -> None:
    paths = [work.raw / name for name in toy.make(work, patients=5, slices=1)["image"]]
    slices, problems, pixels = named_slices.read_all(dict.fromkeys(paths, True), named_slices.Reading(1, "brain"), 16)
    assert isinstance(pixels, np.memmap) and pixels.shape == (5, 16, 16) and not problems
    for at, (path, one) in enumerate(zip(paths, slices, strict=True)):
        assert one.at == at and np.shares_memory(one.planes, pixels)
        assert (one.planes[0] == images.resize(images.read_grey(path), 16)).all()


def test_a_series_is_images_for_steps_that_read_these(tmp_path):
    hu = head(3)
    written = write_series(tmp_path / "in", hu)
    (tmp_path / "in" / "notes.dcm").write_bytes(b"no DICOM")
    shown = prepared.Shown(NOTHING, "left")
    how = named_slices.Reading(1, "brain", None, shown)
    with named_slices.as_images(named_slices.find([tmp_path / "in"]), how) as files:
        assert files.paths == written and list(files.problems) == [tmp_path / "in" / "notes.dcm"]
        grey = [images.read_grey(files.read_as[str(path)]) for path in files.paths]
        assert np.array_equal(grey, hounsfield.window(hu, ct_windows.WINDOWS["brain"]))
        assert all(
            None not in files.spacing[str(path)] and shown.of_file(files.read_as[str(path)]).turns == 1 for path in written
        )
        (folder,) = {files.read_as[str(path)].parent for path in written}
    assert not folder.exists()
    with pytest.raises(UserError, match=r"notes\.dcm"), named_slices.as_images({tmp_path / "in" / "notes.dcm": True}, how):
        pass
