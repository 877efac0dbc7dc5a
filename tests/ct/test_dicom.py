"""HU of a DICOM file: every way to store them gives the same values; what is no slice of CT is refused in one line."""

import argparse
import gzip
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, HTJ2KLossless, ImplicitVRLittleEndian, JPEG2000Lossless

from helpers.dicom_files import AIR, BRAIN, SIZE, compress, head, store, write_series
from hemoct.base.errors import UserError
from hemoct.ct import dicom, hounsfield, kinds, windows as ct_windows
from hemoct.ingest import conversion

HEAD = head()[0]


def read_one(path: Path, *words, **flags):
    """HU and facts of a file of one slice."""
    (one_slice,) = dicom.read(path, *words, **flags)
    return one_slice


def one(folder: Path, edit=lambda header: None) -> Path:
    """A file of HEAD whose header `edit` has changed."""
    return write_series(folder, HEAD[None], edit=lambda header, _: edit(header))[0]


def test_hu_come_back_from_slope_and_intercept(tmp_path):
    hu, facts = read_one(one(tmp_path))
    assert hu.dtype == np.float32 and (hu == HEAD).all()
    assert facts.rescale == "tags" and facts.air and facts.patient == "0001" and facts.instance == 1
    assert facts.window == ct_windows.Window(40, 80) and facts.plane == "axial" and facts.tilt == 0


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
    hu, facts = read_one(one(tmp_path, edit))
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
    np.testing.assert_array_equal(read_one(path)[0], HEAD)


def test_jpeg_2000_of_another_encoder(tmp_path):
    header = pydicom.dcmread(one(tmp_path, signed_hu))
    header.compress(JPEG2000Lossless)
    header.save_as(tmp_path / "j2k.dcm")
    np.testing.assert_array_equal(read_one(tmp_path / "j2k.dcm")[0], HEAD)


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

    hu, _ = read_one(one(tmp_path, pad))
    assert (hu[:10] == hounsfield.AIR_HU).all() and (hu[10:] == HEAD[10:] + 500).all()


def test_a_lost_intercept_is_noticed_and_can_be_given(tmp_path):
    def lose(header):
        header.RescaleIntercept = 0

    path = one(tmp_path, lose)
    assert not read_one(path)[1].air
    hu, facts = read_one(path, intercept=-1024)
    assert (hu == HEAD).all() and facts.air and facts.rescale == "given"
    assert (read_one(one(tmp_path / "told"), intercept=-9)[0] == HEAD).all(), "an intercept in the file is believed"


def test_position_is_along_the_normal_of_a_tilted_slice(tmp_path):
    """Two slices of a gantry at 20 degrees, the table 5 mm apart: the planes are 5 mm * cos 20 apart."""
    cosine, sine = np.cos(np.radians(20)), np.sin(np.radians(20))

    def tilt(header, index):
        header.ImageOrientationPatient = [1, 0, 0, 0, round(cosine, 7), -round(sine, 7)]
        header.ImagePositionPatient = [-100, -100, 5 * index]

    first, second = (read_one(path)[1] for path in write_series(tmp_path, head(2), edit=tilt))
    assert second.position - first.position == pytest.approx(5 * cosine, abs=1e-3)
    assert first.plane == "axial" and first.tilt == pytest.approx(20, abs=0.01)


def test_position_rises_towards_the_head_whichever_way_rows_run(tmp_path):
    def flip(header, index):
        header.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
        header.ImagePositionPatient = [100, -100, 5 * index]

    first, second = (read_one(path)[1] for path in write_series(tmp_path, head(2), edit=flip))
    assert (first.position, second.position) == (0, 5)


def test_tags_that_are_missing_or_odd_are_unknown_not_an_error(tmp_path):
    def strip(header):
        for name in ("PatientID", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "WindowCenter"):
            delattr(header, name)
        header.SliceThickness = 0
        header.SliceLocation = 12.5

    _, facts = read_one(one(tmp_path, strip))
    assert (facts.patient, facts.spacing_row, facts.thickness, facts.window, facts.plane) == ("", None, None, None, "")
    assert facts.position == 12.5 and facts.unreadable == ""


def test_tags_that_cannot_be_read_are_named(tmp_path):
    """A number that is none, and a list that is too short: unknown like a missing tag, but not silently."""

    def spoil(header):
        header.SliceThickness, header.AcquisitionNumber = 7.25, 777777

    path = one(tmp_path, spoil)
    spoilt = path.read_bytes().replace(b"7.25", b"thin").replace(b"777777", b"seven ")
    path.write_bytes(spoilt.replace(b"1.0\\0.0\\0.0\\0.0", b"1.0\\0.0\\0.0\\nan"))
    hu, facts = read_one(path)
    assert (hu == HEAD).all() and (facts.thickness, facts.acquisition, facts.plane) == (None, None, "")
    assert set(facts.unreadable.split()) == {"SliceThickness", "AcquisitionNumber", "ImageOrientationPatient"}


def test_a_file_without_preamble_is_read(tmp_path):
    path = one(tmp_path)
    header = pydicom.dcmread(path)
    del header.file_meta
    header.preamble = None
    header.save_as(tmp_path / "bare.dcm", implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert (tmp_path / "bare.dcm").read_bytes()[:2] == b"\x08\x00"
    np.testing.assert_array_equal(read_one(tmp_path / "bare.dcm")[0], HEAD)


def no_pixels(header):
    del header.PixelData


def colour(header):
    header.SamplesPerPixel, header.PhotometricInterpretation, header.PlanarConfiguration = 3, "RGB", 0
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 8, 8, 7, 0
    header.PixelData = bytes(3 * SIZE * SIZE)


def no_rows(header):
    del header.Rows


def localizer(header):
    header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]


def surview(header):
    header.ImageType = ["DERIVED", "SECONDARY", "REF_SURVIEW"]


def topogram(header):
    """Only its description says so, and it lies across the axial slices."""
    header.SeriesDescription, header.ImageOrientationPatient = "Topogram  0.6  T20s", [0, 1, 0, 0, 0, -1]


def segmentation(header):
    header.Modality = "SEG"


def magnetic_resonance(header):
    header.Modality = "MR"


def no_slope(header):
    header.RescaleSlope = 0


@pytest.mark.parametrize(
    ("edit", "words"),
    [(no_pixels, "has no pixels"), (colour, "in colour (RGB)"), (no_rows, "lacks Rows"),
     (localizer, "is a localizer"), (surview, "is a localizer"), (topogram, "is a localizer"), (segmentation, "(SEG)"),
      (magnetic_resonance, "modality MR"), (no_slope, "RescaleSlope 0")],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_what_is_no_slice_is_refused_with_its_name(tmp_path, edit, words):
    with pytest.raises(UserError, match=r"01\.dcm .*; ") as caught:
        read_one(one(tmp_path, edit))
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
        read_one(path)


def test_other_files_are_no_dicom(tmp_path):
    (tmp_path / "notes.dcm").write_text("patient 13, left side\n" * 20)
    with pytest.raises(UserError, match=r"notes\.dcm is no DICOM file"):
        read_one(tmp_path / "notes.dcm")


def test_dicom_is_known_by_suffix_or_content(tmp_path):
    path = one(tmp_path)
    for name in ("IM0001", "1.2.840.55", "DICOMDIR", "scan.bin"):
        (tmp_path / name).write_bytes(path.read_bytes())
    (tmp_path / "labels.csv").write_text("image,any\n")
    found = {entry.name for entry in tmp_path.iterdir() if entry.is_file() and kinds.is_dicom(entry)}
    assert found == {"IM0001", "1.2.840.55", "scan.bin"}
    assert kinds.is_dicom(Path(tmp_path / "missing.DCM"))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_without_preamble_and_suffix_and_packed_files_are_read(tmp_path, syntax):
    """Such a file begins with group 0008, and names no transfer syntax: both are tried."""
    header = pydicom.dcmread(one(tmp_path))
    bare = pydicom.Dataset({element.tag: element for element in header})
    bare.save_as(tmp_path / "IM2", implicit_vr=syntax.is_implicit_VR, little_endian=True, enforce_file_format=False)
    with gzip.open(tmp_path / "packed.dcm.gz", "wb") as stream:
        stream.write((tmp_path / "dicom" / "01.dcm").read_bytes())
    for name in ("IM2", "packed.dcm.gz"):
        assert kinds.is_dicom(tmp_path / name)
        np.testing.assert_array_equal(read_one(tmp_path / name)[0], HEAD)
    assert conversion.name_of(Path("a/packed.dcm.gz")) == "images/a/packed"


@pytest.mark.parametrize("content", [b"\x08\x00 text", b"\x02\x00" * 100, b"\x08\x00\x05\x00ab", b"", b"\x08"])
def test_what_only_begins_like_dicom_is_none(tmp_path, content):
    (tmp_path / "IM1").write_bytes(content)
    assert not kinds.is_dicom(tmp_path / "IM1")


def enhanced(path: Path, hu: np.ndarray, places: list[float] | None) -> Path:
    """A file of several frames; their place, spacing and rescale are in functional groups. `places`: None, no groups."""
    header = pydicom.dcmread(path)
    header.NumberOfFrames, header.PixelData = len(hu), ((hu + 1200) // 2).astype("<u2").tobytes()
    header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 15, 0
    header.RescaleSlope, header.RescaleIntercept = 2, -1200
    if places:
        del header.RescaleSlope, header.RescaleIntercept, header.PixelSpacing, header.ImageOrientationPatient
        rescale, measures, turn = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept = 2, -1200
        measures.PixelSpacing, measures.SliceThickness = [0.4, 0.4], 3
        turn.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        shared = pydicom.Dataset()
        shared.PixelValueTransformationSequence, shared.PixelMeasuresSequence = [rescale], [measures]
        shared.PlaneOrientationSequence = [turn]
        header.SharedFunctionalGroupsSequence = [shared]
        groups = [pydicom.Dataset() for _ in places]
        for group, place in zip(groups, places, strict=True):
            position = pydicom.Dataset()
            position.ImagePositionPatient = [0, 0, place]
            group.PlanePositionSequence = [position]
        header.PerFrameFunctionalGroupsSequence = groups
    header.save_as(path)
    return path


def test_frames_of_enhanced_ct_have_their_own_places(tmp_path):
    hu = head(3) // 2 * 2
    read = list(dicom.read(enhanced(one(tmp_path), hu, [10.0, 5.0, 0.0])))
    for number, (found, facts) in enumerate(read):
        np.testing.assert_array_equal(found, hu[number])
        assert (facts.position, facts.instance, facts.stored) == ((10.0, 5.0, 0.0)[number], number + 1, number)
        assert (facts.spacing_row, facts.thickness, facts.plane, facts.remarks) == (0.4, 3, "axial", "")
    with_one = list(dicom.read(enhanced(one(tmp_path / "one"), hu[:1], [7.0])))
    assert len(with_one) == 1 and with_one[0][1].position == 7 and (with_one[0][0] == hu[0]).all()


def test_frames_without_places_keep_the_order_of_the_file(tmp_path):
    hu = head(3) // 2 * 2
    for number, (found, facts) in enumerate(dicom.read(enhanced(one(tmp_path), hu, None))):
        np.testing.assert_array_equal(found, hu[number])
        assert (facts.position, facts.instance, facts.remarks) == (None, number + 1, "frames")


def test_windows_by_hand():
    """Brain 40/80: black at 0 HU, white at 80, the middle at 40."""
    hu = np.array([-1000, 0, 20, 40, 80, 3000], dtype=np.float32)
    assert hounsfield.window(hu, ct_windows.WINDOWS["brain"]).tolist() == [0, 0, 64, 128, 255, 255]
    three = hounsfield.to_grey(np.stack([hu, hu]), ct_windows.parse_windows("brain,subdural,bone"))
    assert three.shape == (2, 6, 3) and three.dtype == np.uint8
    assert three[0, 4].tolist() == [255, 128, 80], "80 HU: above brain, the middle of subdural, (80 + 800) / 2800 of bone"


@pytest.mark.parametrize("text", ["brian", "40", "40/0", "brain,bone", "40/-80", ""])
def test_a_window_that_is_none_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError):
        ct_windows.parse_windows(text)


def test_windows_of_ones_own():
    assert ct_windows.parse_windows("35/85") == (ct_windows.Window(35, 85),)
    assert ct_windows.parse_windows("file") == (None,)


def test_real_series_is_in_hu_though_its_slope_is_1_and_its_intercept_0(real_data):
    paths = sorted((real_data / "head-ct-dicom").glob("*.dcm"))
    positions = []
    for path in paths:
        hu, facts = read_one(path)
        assert facts.air and hu.min() >= -1100, "padding of -1500 is air now"
        assert (hu[:20, 200:300] < -900).all(), "what is around the head is air"
        assert facts.tilt == pytest.approx(18.5, abs=0.01)
        positions.append(facts.position)
    assert positions == sorted(positions) and positions[1] - positions[0] == pytest.approx(4, abs=0.01)
    brain = read_one(paths[17])[0][230:280, 230:280]
    assert AIR < BRAIN - 15 < np.median(brain) < BRAIN + 15
