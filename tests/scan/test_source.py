"""Reading a scan: which series, which order, where it lies, and one line for what is none."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from helpers import dicom_files
from hemoct.base.errors import UserError
from hemoct.ct import hounsfield, windows as ct_windows
from hemoct.scan import source
from hemoct.scan.reading import Pixels, Wanted

LOOK = (1, "brain")


def read(path: Path, **wanted) -> Pixels:
    return source.read(path, Wanted(looks=[LOOK], **wanted))


def stopped(path: Path, *words: str, **wanted) -> None:
    with pytest.raises(UserError) as stop:
        read(path, **wanted)
    message = str(stop.value)
    assert "\n" not in message and all(word in message for word in words), message


def series(folder: Path, slices: int = 4, seed: int = 0, **tags) -> list[Path]:
    """DICOM files of a head, whose headers hold `tags`."""

    def edit(header, _) -> None:
        header.SeriesInstanceUID, header.SeriesNumber = f"1.2.3.{seed + 1}", seed + 1
        for name, value in tags.items():
            setattr(header, name, value)

    return dicom_files.write_series(folder, dicom_files.head(slices, seed=seed), edit=edit)


def image(path: Path, grey: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey.astype(np.uint8)).save(path)


def grey(n: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (n, size, size))


def test_a_series_is_read_from_base_to_vertex_whatever_its_files_are_called(tmp_path):
    paths, hu = series(tmp_path), dicom_files.head(4)
    for path, name in zip(paths, "dbca", strict=True):
        path.rename(path.with_name(name))
    found = read(tmp_path).source
    assert found.names == ["d", "b", "c", "a"] and np.array_equal(found.hu, hu) and found.hu.dtype == np.int16
    assert np.array_equal(found.grey, hounsfield.window(hu, ct_windows.WINDOWS["brain"]))
    assert found.kind == "dicom" and found.orientation == "up" and found.spacing is not None
    assert found.series.startswith("axial") and "4 slices" in found.series and not found.others


def test_the_affine_leads_each_corner_to_where_the_header_says_it_lies(tmp_path):
    def edit(header, number):
        header.ImageOrientationPatient = [0.96, 0.28, 0.0, -0.28, 0.96, 0.0]
        header.ImagePositionPatient, header.PixelSpacing = [-10.0 + number, 20.0 - 0.5 * number, 7.0 * number], [0.5, 0.5]

    dicom_files.write_series(tmp_path, dicom_files.head(4), edit=edit)
    affine = read(tmp_path).source.affine
    for number in range(4):
        corner = np.array([-10.0 + number, 20.0 - 0.5 * number, 7.0 * number])  # LPS
        assert np.allclose((affine @ [0, 0, number, 1])[:3], corner * [-1, -1, 1])
        across = corner + np.array([0.96, 0.28, 0.0]) * 0.5 * 8
        assert np.allclose((affine @ [8, 0, number, 1])[:3], across * [-1, -1, 1])


@pytest.mark.parametrize(
    ("lie", "nose"),
    [([1, 0, 0, 0, 1, 0], "up"), ([-1, 0, 0, 0, -1, 0], "down"), ([0, 1, 0, -1, 0, 0], "left"), ([0, -1, 0, 1, 0, 0], "right")],
)
def test_where_the_nose_points_follows_from_the_header(tmp_path, lie, nose):
    series(tmp_path, ImageOrientationPatient=lie)
    assert read(tmp_path).source.orientation == nose


def test_the_soft_axial_series_is_taken_of_several_and_the_others_are_said(tmp_path):
    series(tmp_path / "thin", 8, seed=1, ConvolutionKernel="BONEPLUS")
    series(tmp_path / "soft", 6, seed=2, ConvolutionKernel="STANDARD")
    series(tmp_path / "front", 7, seed=3, ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    found = read(tmp_path).source
    assert len(found.names) == 6 and "soft tissue" in found.series and len(found.others) == 2
    assert "bone" in read(tmp_path, series="bone").source.series and read(tmp_path, series="1").source.series == found.series
    stopped(tmp_path, "--series axial", "fits 2", "1 axial", "3 coronal", series="axial")
    stopped(tmp_path, "--series 9", "fits none", series="9")


def test_no_word_of_a_series_comes_from_its_header(tmp_path):
    series(tmp_path, PatientName="Doe^Jane", PatientID="4711", SeriesDescription="DOE JANE HEAD", ConvolutionKernel="DOE JANE")
    found = read(tmp_path).source
    assert "DOE" not in found.series.upper() + "".join(found.notes).upper() and found.about["patient"] == "4711"


def test_what_is_no_scan_of_one_head_stops_in_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    stopped(tmp_path / "empty", "no image, DICOM file or NIfTI volume")
    series(tmp_path / "mr", Modality="MR")
    stopped(tmp_path / "mr", "none of 4", "modality MR")
    series(tmp_path / "scout", 2, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    stopped(tmp_path / "scout", "none of 2", "localizer")
    series(tmp_path / "two" / "a", seed=1, PatientID="Jane"), series(tmp_path / "two" / "b", seed=2, PatientID="John")
    with pytest.raises(UserError, match="holds 2 patients") as stop:
        read(tmp_path / "two")
    assert "Jane" not in str(stop.value) and "John" not in str(stop.value)


def test_slices_of_two_sizes_are_no_single_scan(tmp_path):
    for number, side in enumerate((64, 64, 32)):
        image(tmp_path / f"{number}.png", np.zeros((side, side)))
    stopped(tmp_path, "2.png", "32 x 32", "64 x 64")


def test_images_follow_one_another_by_their_numbers(tmp_path):
    planes = grey(12)
    for number, plane in enumerate(planes):
        image(tmp_path / f"s_{number}.png", plane)
    found = read(tmp_path, spacing=(0.5, 0.4, 5.0)).source
    assert found.names[1:3] == ["s_1.png", "s_2.png"] and found.names[-1] == "s_11.png" and np.array_equal(found.grey, planes)
    assert found.hu is None and found.affine is None and found.spacing == (0.4, 0.5, 5.0) and set(found.stands_for) == {5.0}


def test_images_of_several_scans_are_told_apart(tmp_path):
    for name in ("0001_01", "0001_02", "0002_01", "0002_02"):
        image(tmp_path / "set" / f"{name}.png", grey(1)[0])
    stopped(tmp_path / "set", "2 scans or patients", "0001, 0002")
    assert read(tmp_path / "set", series="0002").source.names == ["0002_01.png", "0002_02.png"]
    image(tmp_path / "set" / "more" / "0001_03.png", grey(1)[0])
    stopped(tmp_path, "3 scans or patients")


def test_screenshots_in_colour_are_refused_and_three_windows_are_not(tmp_path):
    colours = np.random.default_rng(0).integers(0, 255, (32, 32, 3))
    image(tmp_path / "1.png", colours)
    stopped(tmp_path, "none of 1 images", "colour")
    stopped(tmp_path / "1.png", "colour")
    windows = source.read(tmp_path, Wanted(looks=[LOOK, (3, "brain,subdural,bone")]))
    assert np.array_equal(windows.planes[3, "brain,subdural,bone"][0], colours.transpose(2, 0, 1))
    assert windows.source.grey.shape == (1, 32, 32)


def test_masks_beside_images_and_volumes_are_no_slices(tmp_path):
    image(tmp_path / "images" / "1.png", grey(1)[0])
    image(tmp_path / "masks" / "1.png", grey(1)[0])
    assert read(tmp_path).source.names == ["1.png"]
    volume = dicom_files.head(5).transpose(2, 1, 0)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "ct.nii.gz")
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "ct_mask.nii.gz")
    found = read(tmp_path).source
    assert found.kind == "nifti" and found.names[0] == "ct.nii.gz/000"
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "other.nii")
    stopped(tmp_path, "3 NIfTI", "2 may be meant")
    assert read(tmp_path, series="other").source.path.name == "other.nii"


def test_a_volume_without_air_is_no_ct(tmp_path):
    nib.save(nib.Nifti1Image(np.abs(dicom_files.head(5)).transpose(2, 1, 0), np.eye(4)), tmp_path / "mr.nii")
    stopped(tmp_path, "mr.nii", "no CT in HU", "--window")
    assert len(read(tmp_path, any_values=True).source.names) == 5


def test_a_damaged_packed_volume_is_named(tmp_path):
    nib.save(nib.Nifti1Image(dicom_files.head(5).transpose(2, 1, 0), np.eye(4)), tmp_path / "ct.nii.gz")
    path = tmp_path / "ct.nii.gz"
    packed = path.read_bytes()
    path.write_bytes(packed[:2000])
    stopped(path, "ct.nii.gz", "unpacked")
    path.write_bytes(packed[:2000] + b"\xff" * 300 + packed[2300:])
    stopped(path, "ct.nii.gz", "unpacked")


def test_pixels_that_are_no_squares_are_stretched_for_networks_alone(tmp_path):
    series(tmp_path, PixelSpacing=[1.0, 0.5])
    found = read(tmp_path)
    assert found.source.grey.shape == (4, 64, 64) and found.size == (128, 64) and found.scale == (2.0, 1.0)


@pytest.mark.parametrize("other", [[1.0, 0.5], [0.6, 0.6]])
def test_pixels_of_two_sizes_are_no_single_scan(tmp_path, other):
    def edit(header, number):
        header.PixelSpacing = [0.5, 0.5] if number < 2 else other

    dicom_files.write_series(tmp_path, dicom_files.head(4), edit=edit)
    stopped(tmp_path, "pixels of another size", "no single scan")


def test_a_number_that_is_no_number_of_a_volume_is_text(tmp_path):
    nib.save(nib.Nifti1Image(dicom_files.head(5).transpose(2, 1, 0), np.eye(4)), tmp_path / "ct.nii")
    stopped(tmp_path, "none may be meant", series="²")
