"""NIfTI volumes: units, orientations, thin cuts; masks that fit their volume and masks that do not."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from helpers.dicom_files import head
from helpers.fake_sources import mask, save
from hemoct.base.errors import UserError
from hemoct.ct import nifti
from hemoct.ct.facts import Facts

HU = head(6, 32)


def volume(path: Path, edit=lambda image: image, hu: np.ndarray = HU) -> Path:
    """A volume of `hu` whose image `edit` has changed; `.hdr` makes a pair of files."""
    image = edit(nib.load(save(path.with_name("made.nii"), hu)))
    made = nib.Nifti1Pair if path.name.endswith(".hdr") else type(image)
    nib.save(made(np.asanyarray(image.dataobj), image.affine, image.header), path)
    path.with_name("made.nii").unlink()
    return path


def read(path: Path) -> tuple[np.ndarray, list[Facts]]:
    hu, facts = zip(*nifti.read(path), strict=True)
    return np.stack(hu), list(facts)


def scaled(factor: float, unit: str):
    def edit(image: nib.Nifti1Image) -> nib.Nifti1Image:
        image.affine[:3] *= factor
        image.header.set_xyzt_units(unit)
        return nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine, image.header)

    return edit


@pytest.mark.parametrize(
    ("edit", "remarks"),
    [
        (scaled(1, "mm"), ""),
        (scaled(1, "unknown"), ""),
        (scaled(0.001, "meter"), "units"),
        (scaled(0.001, "unknown"), "units"),
        (scaled(0.001, "mm"), "units"),
        (scaled(1000, "micron"), "units"),
        (scaled(1, "meter"), ""),
        (scaled(1, "micron"), ""),
    ],
    ids=["mm", "unknown", "metres", "metres unsaid", "metres called mm", "microns", "mm called metres", "mm called microns"],
)
def test_lengths_are_mm_whatever_the_unit(tmp_path, edit, remarks):
    hu, facts = read(volume(tmp_path / "a.nii.gz", edit))
    np.testing.assert_array_equal(hu, HU)
    assert [each.position for each in facts] == pytest.approx([0, 5, 10, 15, 20, 25])
    assert facts[0].spacing_row == pytest.approx(0.5) and facts[0].remarks == remarks


def test_a_volume_without_an_orientation_is_said_to_have_none(tmp_path):
    def lost(image):
        image.header.set_sform(None, 0)
        image.header.set_qform(None, 0)
        return nib.Nifti1Image(np.asanyarray(image.dataobj), None, image.header)

    hu, facts = read(volume(tmp_path / "a.nii", lost))
    assert facts[0].remarks == "unoriented" and hu.shape == HU.shape

    def two(image):
        image.set_qform(image.affine @ np.diag([-1, 1, 1, 1]), code=1)
        image.set_sform(image.affine, code=1)
        return image

    hu, facts = read(volume(tmp_path / "b.nii", two))
    assert facts[0].remarks == "two-orientations" and (hu == HU).all()


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAI", "SRA", "ASL", "PIR"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".hdr"])
def test_slices_are_the_same_however_they_are_stored(tmp_path, axes, suffix):
    save(tmp_path / "made.nii", HU, axes)
    image = nib.load(tmp_path / "made.nii")
    nib.save(image if suffix != ".hdr" else nib.Nifti1Pair(np.asanyarray(image.dataobj), image.affine), tmp_path / f"a{suffix}")
    hu, facts = read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(hu, HU)
    upside_down = axes in ("LAI", "PIR")
    assert [each.stored for each in facts] == ([5, 4, 3, 2, 1, 0] if upside_down else [0, 1, 2, 3, 4, 5])


@pytest.mark.parametrize(("plane", "turn"), [("coronal", (2, 0, 1)), ("sagittal", (1, 2, 0))])
def test_volumes_made_of_other_than_axial_slices_are_cut_into_these(tmp_path, plane, turn):
    """The shown axial slices have axes (up, back, left): six slices, thick along the axis that the plane is cut across."""
    shown = np.full((40, 40, 40), -1000, dtype=np.int16)
    shown[10:30, 5:35, 8:32] = np.arange(20)[:, None, None] * 10
    across = {"coronal": 1, "sagittal": 2}[plane]
    thick = np.take(shown, range(0, 40, 8), axis=across)
    stored = thick[:, ::-1, ::-1].transpose(2, 1, 0)
    lengths = [0.5, 0.5, 0.5, 1]
    lengths[{"coronal": 1, "sagittal": 0}[plane]] = 4.0
    nib.save(nib.Nifti1Image(stored, np.diag(lengths)), tmp_path / "a.nii")
    hu, facts = read(tmp_path / "a.nii")
    assert len(facts) == 5 and {each.plane for each in facts} == {plane} and facts[0].spacing_between == 4
    assert hu.shape == (5, 40, 40) and facts[0].spacing_row == facts[0].spacing_col == 0.5
    np.testing.assert_array_equal(hu[2][:, 20], shown[::-1, 16, 20] if plane == "coronal" else shown[::-1, 20, 16]), "head up"


@pytest.mark.parametrize("values", [2, 5, 8, 40])
def test_a_few_small_whole_numbers_are_a_mask_of_whatever_type(tmp_path, values):
    labels = (np.arange(HU.size).reshape(HU.shape) // 7 % values).astype(np.float32)
    with pytest.raises(UserError, match=r"a mask, no CT; leave it out, or name it like its volume \(NAME_mask.nii.gz\)"):
        read(volume(tmp_path / "a.nii", hu=labels))


def test_windowed_and_unsigned_volumes_are_no_masks(tmp_path):
    for name, hu in (("uint8", np.clip((HU + 20) * 2, 0, 255).astype(np.uint8)), ("uint16", (HU + 1024).astype(np.uint16))):
        found, facts = read(volume(tmp_path / f"{name}.nii", hu=hu))
        assert (found == hu).all() and facts[0].remarks == ("grey" if name == "uint8" else "")


LABELS = mask(*[{1: (2, 2, 6, 5), 200: (8, 8, 12, 12)}] * 4)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SRA", "LAI"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
def test_a_mask_is_cut_like_its_volume_whatever_its_axes_and_type(tmp_path, axes, kind):
    scan = nifti.Volume.read(save(tmp_path / "a.nii.gz", head(4, 16), "PIR"))
    found = scan.mask(save(tmp_path / "m.nii.gz", LABELS.astype(kind), axes))
    assert found.dtype == np.uint8
    for number in range(4):
        np.testing.assert_array_equal(nifti.shown(found, number), LABELS[number])


@pytest.mark.parametrize(
    ("labels", "spacing", "words"),
    [
        (LABELS[:3], 0.5, "is a mask of 16 x 16 x 3 voxels, its volume has 16 x 16 x 4; replace it"),
        (LABELS, 0.7, "apart from its volume; save it with the volume's affine"),
        (LABELS.astype(np.int16) * 2, 0.5, "has values from 0 to 400 where a mask has whole numbers from 0 to 255"),
        (LABELS * np.float32(0.3), 0.5, "where a mask has whole numbers"),
        (LABELS.astype(np.int16) * -1, 0.5, "has values from -200 to 0"),
    ],
    ids=["shape", "place", "high", "fractions", "negative"],
)
def test_a_mask_that_does_not_fit_is_no_mask(tmp_path, labels, spacing, words):
    scan = nifti.Volume.read(save(tmp_path / "a.nii.gz", head(4, 16)))
    with pytest.raises(UserError) as caught:
        scan.mask(save(tmp_path / "m.nii.gz", labels, spacing=spacing))
    assert words in str(caught.value) and "m.nii.gz" in str(caught.value)
