"""HU of a DICOM file: every way to store them gives the same values; what is no slice of CT is refused in one line."""

import argparse
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless

from helpers.dicom_files import AIR, BRAIN, SIZE, compress, head, store, write_series
from hemoct.base.errors import UserError
from hemoct.ingest import conversion, dicom, hounsfield

HEAD = head()[0]


def one(folder: Path, edit=lambda header: None) -> Path:
    """A file of HEAD whose header `edit` has changed."""
    return write_series(folder, HEAD[None], edit=lambda header, _: edit(header))[0]


def test_hu_come_back_from_slope_and_intercept(tmp_path):
    hu, facts = dicom.read(one(tmp_path))
    assert hu.dtype == np.float32 and (hu == HEAD).all()
    assert facts.rescale == "tags" and facts.air and facts.patient == "0001" and facts.instance == 1
    assert facts.window == hounsfield.Window(40, 80) and facts.plane == "axial" and facts.tilt == 0


def half_slope(header):
    store(header, (HEAD + 1024) * 2)
    header.RescaleSlope = 0.5


def twelve_bits(header):
    store(header, HEAD + 1024, bits=12)


def signed_hu(header):
    """As in the real series: stored values are HU."""
    store(header, HEAD, signed=True)
    header.RescaleIntercept = 0


def no_rescale(header):
    signed_hu(header)
    del header.RescaleIntercept, header.RescaleSlope


def no_sign_extension(header):
    """Negative numbers in 12 bits, the four bits above them left at 0."""
    store(header, HEAD & 0xFFF, bits=12, signed=True)
    header.PixelData = (HEAD & 0xFFF).astype("<u2").tobytes()
    header.RescaleIntercept = 0


def overlay_in_unused_bits(header):
    store(header, (HEAD.astype(np.int32) + 1024) | 0x8000, bits=12)


def wrapped(header):
    """Some files of RSNA 2019: HU in 12 bits that are said to be unsigned."""
    store(header, HEAD & 0xFFF, bits=12)
    header.RescaleIntercept = 0


def mirrored(header):
    store(header, 4095 - (HEAD + 1024), bits=12)
    header.PhotometricInterpretation = "MONOCHROME1"


def mirrored_by_the_slope(header):
    store(header, 2000 - HEAD)
    header.PhotometricInterpretation = "MONOCHROME1"
    header.RescaleSlope, header.RescaleIntercept = -1, 2000


def only_shown_inverted(header):
    header.PhotometricInterpretation = "MONOCHROME1"


EQUAL = [half_slope, twelve_bits, signed_hu, no_rescale, no_sign_extension, overlay_in_unused_bits, wrapped, mirrored,
         mirrored_by_the_slope, only_shown_inverted]  # fmt: skip


@pytest.mark.parametrize("edit", EQUAL, ids=lambda edit: edit.__name__)
def test_however_they_are_stored_hu_are_the_same(tmp_path, edit):
    hu, facts = dicom.read(one(tmp_path, edit))
    np.testing.assert_array_equal(hu, HEAD)
    assert facts.rescale == {"no_rescale": "missing", "wrapped": "unwrapped"}.get(edit.__name__, "tags")


@pytest.mark.parametrize(
    "syntax", ["JPEGLosslessProcess14_1", "JPEGLosslessProcess14", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"]
)
@pytest.mark.parametrize("edit", [twelve_bits, signed_hu], ids=lambda edit: edit.__name__)
def test_compressed_files_give_the_same_hu(tmp_path, syntax, edit):
    path = one(tmp_path, edit)
    compress(path, syntax)
    assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(dicom.read(path)[0], HEAD)


def test_jpeg_2000_of_another_encoder(tmp_path):
    header = pydicom.dcmread(one(tmp_path, signed_hu))
    header.compress(JPEG2000Lossless)
    header.save_as(tmp_path / "j2k.dcm")
    np.testing.assert_array_equal(dicom.read(tmp_path / "j2k.dcm")[0], HEAD)


def test_high_throughput_jpeg_2000_has_a_decoder():
    assert pydicom.pixels.get_decoder(HTJ2KLossless).is_available


@pytest.mark.parametrize(
    ("padding", "limit", "stored"),
    [(-2000, None, -2000), (63536, None, -2000), (-3000, -1500, -2200)],
    ids=["as stored", "written unsigned", "a range"],
)
def test_padding_becomes_air(tmp_path, padding, limit, stored):
    def pad(header):
        values = HEAD.copy()
        values[:10] = stored
        store(header, values, signed=True)
        header.RescaleIntercept = 500  # so that padding does not pass for air by chance
        header.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)
        if limit is not None:
            header.add_new("PixelPaddingRangeLimit", "SS", limit)

    hu, _ = dicom.read(one(tmp_path, pad))
    assert (hu[:10] == hounsfield.AIR_HU).all() and (hu[10:] == HEAD[10:] + 500).all()


def test_a_lost_intercept_is_noticed_and_can_be_given(tmp_path):
    def lose(header):
        header.RescaleIntercept = 0

    path = one(tmp_path, lose)
    assert not dicom.read(path)[1].air
    hu, facts = dicom.read(path, intercept=-1024)
    assert (hu == HEAD).all() and facts.air and facts.rescale == "given"
    assert (dicom.read(one(tmp_path / "told"), intercept=-9)[0] == HEAD).all(), "an intercept in the file is believed"


def test_position_is_along_the_normal_of_a_tilted_slice(tmp_path):
    """Two slices of a gantry at 20 degrees, the table 5 mm apart: the planes are 5 mm * cos 20 apart."""
    cosine, sine = np.cos(np.radians(20)), np.sin(np.radians(20))

    def tilt(header, index):
        header.ImageOrientationPatient = [1, 0, 0, 0, round(cosine, 7), -round(sine, 7)]
        header.ImagePositionPatient = [-100, -100, 5 * index]

    first, second = (dicom.read(path)[1] for path in write_series(tmp_path, head(2), edit=tilt))
    assert second.position - first.position == pytest.approx(5 * cosine, abs=1e-3)
    assert first.plane == "axial" and first.tilt == pytest.approx(20, abs=0.01)


def test_position_rises_towards_the_head_whichever_way_rows_run(tmp_path):
    def flip(header, index):
        header.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
        header.ImagePositionPatient = [100, -100, 5 * index]

    first, second = (dicom.read(path)[1] for path in write_series(tmp_path, head(2), edit=flip))
    assert (first.position, second.position) == (0, 5)


def test_tags_that_are_missing_or_odd_are_unknown_not_an_error(tmp_path):
    def strip(header):
        for name in ("PatientID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "WindowCenter"):
            delattr(header, name)
        header.SliceThickness = 0
        header.SliceLocation = 12.5

    _, facts = dicom.read(one(tmp_path, strip))
    assert (facts.patient, facts.spacing_row, facts.thickness, facts.window, facts.plane) == ("", None, None, None, "")
    assert facts.position == 12.5 and facts.unreadable == ""


def test_tags_that_cannot_be_read_are_named(tmp_path):
    """A number that is none, and a list that is too short: unknown like a missing tag, but not silently."""

    def spoil(header):
        header.SliceThickness, header.AcquisitionNumber = 7.25, 777777

    path = one(tmp_path, spoil)
    spoilt = path.read_bytes().replace(b"7.25", b"thin").replace(b"777777", b"seven ")
    path.write_bytes(spoilt.replace(b"1.0\\0.0\\0.0\\0.0", b"1.0\\0.0\\0.0\\nan"))
    hu, facts = dicom.read(path)
    assert (hu == HEAD).all() and (facts.thickness, facts.acquisition, facts.plane) == (None, None, "")
    assert set(facts.unreadable.split()) == {"SliceThickness", "AcquisitionNumber", "ImageOrientationPatient"}


def test_a_file_without_preamble_is_read(tmp_path):
    path = one(tmp_path)
    header = pydicom.dcmread(path)
    del header.file_meta
    header.preamble = None
    header.save_as(tmp_path / "bare.dcm", implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert (tmp_path / "bare.dcm").read_bytes()[:2] == b"\x08\x00"
    np.testing.assert_array_equal(dicom.read(tmp_path / "bare.dcm")[0], HEAD)


def no_pixels(header):
    del header.PixelData


def colour(header):
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PlanarConfiguration = 3, "RGB", 0
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 8, 8, 7, 0
    header.PixelData = bytes(3 * SIZE * SIZE)


def frames(header):
    header.NumberOfFrames, header.PixelData = 2, header.PixelData * 2


def no_rows(header):
    del header.Rows


def localizer(header):
    header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def magnetic_resonance(header):
    header.Modality = "MR"


def no_slope(header):
    header.RescaleSlope = 0


@pytest.mark.parametrize(
    ("edit", "words"),
    [(no_pixels, "has no pixels"), (colour, "in colour (RGB)"), (frames, "holds 2 frames"), (no_rows, "lacks Rows"),
     (localizer, "is a localizer"), (magnetic_resonance, "modality MR"), (no_slope, "RescaleSlope 0")],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_what_is_no_slice_is_refused_with_its_name(tmp_path, edit, words):
    with pytest.raises(UserError, match=r"01\.dcm .*; ") as caught:
        dicom.read(one(tmp_path, edit))
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("syntax", [None, "JPEGLosslessProcess14_1", "JPEG2000Lossless", "RLELossless"])
@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9])
@pytest.mark.filterwarnings("ignore:End of file reached")
def test_truncated_files_are_refused(tmp_path, syntax, share):
    path = one(tmp_path)
    if syntax:
        compress(path, syntax)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"01\.dcm "):
        dicom.read(path)


def test_other_files_are_no_dicom(tmp_path):
    (tmp_path / "notes.dcm").write_text("patient 13, left side\n" * 20)
    with pytest.raises(UserError, match=r"notes\.dcm is no DICOM file"):
        dicom.read(tmp_path / "notes.dcm")


def test_dicom_is_known_by_suffix_or_content(tmp_path):
    path = one(tmp_path)
    for name in ("IM0001", "1.2.840.55", "DICOMDIR", "scan.bin"):
        (tmp_path / name).write_bytes(path.read_bytes())
    (tmp_path / "labels.csv").write_text("image,any\n")
    found = {entry.name for entry in tmp_path.iterdir() if entry.is_file() and conversion.is_dicom(entry)}
    assert found == {"IM0001", "1.2.840.55", "scan.bin"}
    assert conversion.is_dicom(Path(tmp_path / "missing.DCM"))


def test_windows_by_hand():
    """Brain 40/80: black at 0 HU, white at 80, the middle at 40."""
    hu = np.array([-1000, 0, 20, 40, 80, 3000], dtype=np.float32)
    assert hounsfield.window(hu, hounsfield.WINDOWS["brain"]).tolist() == [0, 0, 64, 128, 255, 255]
    three = hounsfield.to_grey(np.stack([hu, hu]), hounsfield.parse_windows("brain,subdural,bone"))
    assert three.shape == (2, 6, 3) and three.dtype == np.uint8
    assert three[0, 4].tolist() == [255, 128, 80], "80 HU: above brain, the middle of subdural, (80 + 800) / 2800 of bone"


@pytest.mark.parametrize("text", ["brian", "40", "40/0", "brain,bone", "40/-80", ""])
def test_a_window_that_is_none_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        hounsfield.parse_windows(text)


def test_windows_of_ones_own():
    assert hounsfield.parse_windows("35/85") == (hounsfield.Window(35, 85),)
    assert hounsfield.parse_windows("file") == (None,)


def test_real_series_is_in_hu_though_its_slope_is_1_and_its_intercept_0(real_data):
    paths = sorted((real_data / "head-ct-dicom").glob("*.dcm"))
    positions = []
    for path in paths:
        hu, facts = dicom.read(path)
        assert facts.air and hu.min() >= -1100, "padding of -1500 is air now"
        assert (hu[:20, 200:300] < -900).all(), "what is around the head is air"
        assert facts.tilt == pytest.approx(18.5, abs=0.01)
        positions.append(facts.position)
    assert positions == sorted(positions) and positions[1] - positions[0] == pytest.approx(4, abs=0.01)
    brain = dicom.read(paths[17])[0][230:280, 230:280]
    assert AIR < BRAIN - 15 < np.median(brain) < BRAIN + 15
