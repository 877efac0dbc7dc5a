"""A scan, alone or predicted: what lies over a slice lies where the slice lies, however the file was stored."""

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers import scans
from helpers.refusals import refused
from hemoct.base.errors import UserError
from hemoct.scan import source, write
from hemoct.scan.reading import Wanted
from hemoct.scan.result import Boxes, Label, Masks, Source
from hemoct.viewer import scan as viewer_scan
from hemoct.viewer.server import Content
from hemoct.viewer.volumes import BOX, EDGE

VIEW = "scripts/81_view.py"
HU = np.random.default_rng(3).integers(20, 50, (5, 40, 30)).astype(np.int16)
HU[:, :3] = HU[:, -3:] = HU[..., :3] = HU[..., -3:] = -1000
HU[1:3, 10:18, 5:12] = 75  # right of the middle, in front


def read(content: Content, address: str):
    body = content.find(address)()
    return json.loads(body) if address.endswith("json") else nib.Nifti1Image.from_bytes(gzip.decompress(body))


def volume(path: Path, orientation: str, tilt: float = 0.0) -> Path:
    """HU as a NIfTI file whose axes have this order and these directions."""
    axes = np.diag([-0.5, -0.5, 4.0, 1.0])
    turned = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    axes[:3, :3] = turned @ axes[:3, :3]
    image = nib.Nifti1Image(HU.transpose(2, 1, 0), axes)
    change = nib.orientations.ornt_transform(nib.io_orientation(axes), nib.orientations.axcodes2ornt(tuple(orientation)))
    nib.save(image.as_reoriented(change), path)
    return path


def images(folder: Path, turns: int) -> Path:
    folder.mkdir()
    for number, of_slice in enumerate(np.clip(HU, 0, 80) * 3):
        Image.fromarray(np.rot90(of_slice, turns).astype(np.uint8)).save(folder / f"a_{number:02d}.png")
    return folder


def predicted(read_source: Source, out: Path) -> Path:
    """The folder of a scan in which all that is bright was found, with a box around it."""
    bright = (read_source.grey > 200) if read_source.hu is None else (read_source.hu > 60)
    boxes = []
    for of_slice in bright:
        rows, columns = (np.flatnonzero(of_slice.any(axis=axis)) for axis in (1, 0))
        corners = [[columns[0] - 3, rows[0] - 3, columns[-1] + 4, rows[-1] + 4, 0.9, 0]] if len(rows) else np.zeros((0, 6))
        boxes.append(np.array(corners, dtype=float))
    called = np.where(bright.any(axis=(1, 2)), 0.9, 0.1)
    made = scans.scan(
        out, len(bright), source=read_source, seen=np.array([True, *[False] * (len(bright) - 1)]), types=[], heat=None,
        bleeding=Label(1, "hemorrhage", called, 0.5, "by hand"), boxes=Boxes(boxes, ["a"], 0.5, "by hand"),
        masks=Masks(bright, bright, 0.5, "by hand"),
    )  # fmt: skip
    out.mkdir()
    write.write(made, out)
    return out


def bright_voxels(content: Content) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the scan is bright in the viewer's volume; where a mask lies over it; where a box does: bool (x, y, z) each."""
    grey, drawn = read(content, "case/0/grey.nii.gz"), read(content, "case/0/prediction.nii.gz")
    assert np.allclose(grey.affine, drawn.affine) and grey.shape == drawn.shape
    values, over = np.asarray(grey.dataobj), np.asarray(drawn.dataobj)
    return values > (60 if values.dtype == np.int16 else 200), (over > 0) & (over <= EDGE), over == BOX


@pytest.mark.parametrize(("orientation", "tilt"), [("LPS", 0.0), ("RAS", 0.0), ("SRA", 0.0), ("AIL", 0.0), ("LPS", 0.3)])
def test_masks_and_boxes_lie_over_a_volume_that_is_stored_in_any_order(tmp_path, orientation, tilt):
    stored = volume(tmp_path / "head.nii.gz", orientation, tilt)
    content = viewer_scan.content(predicted(source.read(stored, Wanted(looks=[(1, "brain")])).source, tmp_path / "out"))
    bright, mask, box = bright_voxels(content)
    assert bright.sum() == 2 * 8 * 7 and (mask == bright).all() and box.any()
    assert (np.asarray(read(content, "case/0/core.nii.gz").dataobj) > 0).sum() == bright.sum()
    x, y, z = (np.flatnonzero(bright.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    assert x.mean() > bright.shape[0] / 2 and y.mean() > bright.shape[1] / 2 and z.tolist() == [1, 2]
    around = np.flatnonzero(box.any(axis=(1, 2)))
    assert around[0] == x[0] - 3 and around[-1] == x[-1] + 3


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_images_are_shown_with_the_nose_up_and_their_masks_with_them(tmp_path, turns):
    nose = ("up", "left", "down", "right")[turns]
    read_source = source.read(images(tmp_path / "a", turns), Wanted(looks=[(1, "brain")], orientation=nose)).source
    content = viewer_scan.content(predicted(read_source, tmp_path / "out"))
    bright, mask, box = bright_voxels(content)
    assert (mask == bright).all() and box.any() and bright.shape == (30, 40, 5)
    x, y = (np.flatnonzero(bright.any(axis=axes)) for axes in ((1, 2), (0, 2)))
    assert x.mean() > 15 and y.mean() > 20  # the viewer shows what lies at the right end of x at the left of the picture
    assert not read(content, "case/0/slices.json")["sides"]


def test_a_predicted_scan_says_what_was_found(tmp_path):
    stored = volume(tmp_path / "head.nii.gz", "LPS")
    content = viewer_scan.content(predicted(source.read(stored, Wanted(looks=[(1, "brain")])).source, tmp_path / "out"))
    index, about = read(content, "index.json"), read(content, "case/0/slices.json")
    assert index["kind"] == "scan" and index["layers"] == ["prediction", "core"] and index["hu"]
    assert any("hemorrhage: yes, on 2 of 5 slices" in note for note in index["notes"])
    assert about["predicted"][0][1]["labels"] == [["hemorrhage", 0.9, 0.5, True, None]] and about["truth"] is None
    assert "56 px edema" in about["predicted"][0][1]["words"]
    assert "in training" in about["predicted"][0][0]["words"] and "in training" not in about["predicted"][0][1]["words"]


def test_a_scan_alone_has_no_layers(tmp_path):
    content = viewer_scan.content(volume(tmp_path / "head.nii.gz", "RAS"))
    assert read(content, "index.json")["layers"] == [] and content.find("case/0/prediction.nii.gz") is None
    assert read(content, "case/0/grey.nii.gz").shape == (30, 40, 5) and read(content, "case/0/slices.json")["predicted"] == []


def test_files_of_another_scan_and_damaged_ones_are_named(tmp_path):
    stored = volume(tmp_path / "head.nii.gz", "LPS")
    out = predicted(source.read(stored, Wanted(looks=[(1, "brain")])).source, tmp_path / "out")
    table = pd.read_csv(out / "slices.csv")
    table.iloc[:-1].to_csv(out / "slices.csv", index=False)
    with pytest.raises(UserError, match="are not of one scan"):
        viewer_scan.content(out)
    (out / "scan.nii.gz").write_bytes(b"no gzip")
    with pytest.raises(UserError, match=r"scan\.nii\.gz cannot be read"):
        viewer_scan.content(out)
    (out / "scan.json").write_text('{"scan": {"slices": 5}}')
    with pytest.raises(UserError, match=r"scan\.json"):
        viewer_scan.content(out)


def test_what_is_not_there_and_what_is_no_scan_is_one_line(run_step, work, tmp_path):
    flags = ("--root", work.root, "--dataset", "toy", "--no-browser")
    assert refused(run_step(VIEW, tmp_path / "nowhere", *flags), "nowhere is not there; give outputs/NAME")
    assert refused(run_step(VIEW, images(tmp_path / "a", 0), *flags, "--port", 70000), "--port 70000")
    (tmp_path / "text").mkdir()
    assert refused(run_step(VIEW, tmp_path / "text", *flags), "text")
    assert refused(run_step(VIEW, *flags), "dataset.json", "scripts/03_make_labels.py")
