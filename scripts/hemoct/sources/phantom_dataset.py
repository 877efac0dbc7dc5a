"""Draw a data set of phantoms: the folders and defects of PHE-SICH-CT-IDS, types of hemorrhage, a DICOM series, NIfTI volumes.

The defects are those that every user of the real data meets. As in the real data the masks outline the perihematomal edema alone
and the boxes enclose hematoma and edema. Image arrays have the forehead at the left edge.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from tqdm import tqdm

from hemoct.ct import hounsfield
from hemoct.ingest import phe_sich
from hemoct.ingest.annotations import Annotation, Box, write_voc
from hemoct.sources.phantom import BRAIN, Volume, draw_volume, make_head

VERSION = 3
"""raised whenever the same arguments would draw other files"""
FEWEST_PATIENTS = 6  # one for each of the defects
FEWEST_SLICES = 4
SMALLEST_SIZE = 64  # below that the thin rim of edema falls between the pixels
UNSEEN, STRANGER = "unseen", 1000
"""folder and number of a patient outside of the data set, for a scan that no model has seen"""
TYPES = ("IVH", "IPH", "SAH")
TYPE_CYCLE = (("IPH",), ("IVH",), ("IPH", "IVH"), ("SAH",), (), ("IPH", "SAH"))  # SAH is rare: see types_of
TYPES_FACTOR = 4  # heads with types for each patient, since few show the rare one
TYPE_LEVELS = (0.40, 0.46, 0.52, 0.58, 0.64)  # where ventricles and sulci can both be seen
FIELD_OF_VIEW_MM = 230
HEAD_HEIGHT_MM = 150
INTERCEPT = -1024
SHORT_NAME_PATIENT = 13
SLICE_JUMP, WRONG_FILENAME, NO_MASKS, MISSING_MASK, SINGLE_PIXEL = range(5)
"""the place of the patient with this defect of the real data: the last slice number jumps by 40, <filename> is M.png, ..., a mask
of one pixel without a box"""


def patient_numbers(patients: int) -> list[int]:
    """1, 2, 3 ...; number 13, which has a defect of its own, is always there."""
    return [*range(1, patients), 13] if patients < 13 else list(range(1, patients + 1))


def draw_dataset(folder: Path, patients: int = 24, slices: int = 12, size: int = 256, seed: int = 42) -> None:
    """Draw the whole data set below `folder`: PNG set, MedInfo.xlsx, types/, dicom/, nifti/, unseen/.

    The same call, the same bytes. Below FEWEST_PATIENTS, FEWEST_SLICES or SMALLEST_SIZE the defects of the real data have no
    place.
    """
    numbers = patient_numbers(patients)
    levels = np.linspace(0, 1, slices)
    heads = [make_head((seed, number), slices) for number in numbers]
    _write_medinfo(folder, numbers, [head.lesion.across < 0 for head in heads], seed)
    boxes = 0
    for place, number in enumerate(tqdm(numbers, desc="patients", disable=None)):
        volume = draw_volume(heads[place], levels, size)
        boxes = _write_patient(folder, place, number, volume, boxes)
        if place < 2:
            write_nifti(folder, number, volume.hu, volume.edema)
        if place == 0:
            write_dicom(folder, number, volume.hu)
    write_dicom(folder / UNSEEN, STRANGER, draw_volume(make_head((seed, STRANGER), slices), levels, size).hu)
    _draw_types(folder / "types", TYPES_FACTOR * patients, size, seed)


def types_of(patient: int, image: int) -> frozenset[str]:
    """The types of bleeding on one image: some images of each patient have none, and SAH is on fewer than the others.

    Which images have none changes from patient to patient, so that the level alone does not tell the label.
    """
    types = set(TYPE_CYCLE[patient % len(TYPE_CYCLE)])
    place = (image - patient) % len(TYPE_LEVELS)
    if place in (0, 2) or (place == 3 and "SAH" in types):
        return frozenset()
    return frozenset(types - {"SAH"} if patient % 12 == 11 else types)


def _draw_types(folder: Path, patients: int, size: int, seed: int) -> None:
    """types/images/*.png and types/labels.csv: image, patient, IVH, IPH, SAH (0 or 1)."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for patient in tqdm(range(patients), desc="types", disable=None):
        head = make_head((seed, 1000 + patient), len(TYPE_LEVELS))
        sah = np.random.default_rng((seed, 2000 + patient)).uniform(0.1, 1)  # thin ones are missed in practice, too
        lesion = replace(head.lesion, level=0.52, half_height=0.3, radius=max(head.lesion.radius, 0.13), hu=66)
        for image, level in enumerate(TYPE_LEVELS):
            types = types_of(patient, image)
            key = (*head.rng_key, image)
            shown = replace(head, rng_key=key, types=types, sah=sah, lesion=lesion if "IPH" in types else None)
            volume = draw_volume(shown, np.array([level]), size)
            name = f"T{patient + 1:03d}_{image}.png"
            Image.fromarray(hounsfield.window(volume.hu[0], BRAIN)).save(folder / "images" / name)
            rows.append({"image": name, "patient": f"T{patient + 1:03d}"} | {label: int(label in types) for label in TYPES})
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False, lineterminator="\n")


def box_around(region: np.ndarray, margin: int) -> tuple[int, int, int, int] | None:
    """xmin, ymin, xmax, ymax of a bool image in zero-based pixels, xmax and ymax exclusive; None when it is empty."""
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if not len(rows):
        return None
    height, width = region.shape
    return (
        max(0, int(columns[0]) - margin),
        max(0, int(rows[0]) - margin),
        min(width, int(columns[-1]) + 1 + margin),
        min(height, int(rows[-1]) + 1 + margin),
    )


def _write_patient(folder: Path, place: int, number: int, volume: Volume, boxes: int) -> int:
    """Write one patient's slices, masks (edema alone) and VOC files (box = hematoma + edema) with the defects of its `place`.

    `boxes` is the number of boxes with a mask written so far; returns the new number. One in 16 of them, 6 % as in the real
    data, gets an empty mask.
    """
    grey, edema = hounsfield.window(volume.hu, BRAIN), volume.edema.copy()
    size, last = grey.shape[-1], len(grey) - 1
    if place % 3 == 0:  # black, and so identical across patients
        grey[last] = 0
    if place % 6 == 1:  # nothing but the head holder
        grey[0, :, : int(0.85 * size)] = 0
    if place == SINGLE_PIXEL:
        edema[1] = False
        edema[1, size // 2, size // 2] = True
    base = folder / "SubdatasetC_PNG"
    images, masks, notes = (base / kind / f"{name}{number}" for kind, name in phe_sich.ROLES.items())
    for created in (images, notes) if place == NO_MASKS else (images, masks, notes):
        created.mkdir(parents=True)
    for index in range(len(grey)):
        label = index + 40 if place == SLICE_JUMP and index == last else index
        name = f"{number:04d}_{label:02d}.png"
        Image.fromarray(grey[index]).save(images / name)
        box = box_around(volume.bleeding[index] | volume.edema[index], margin=max(1, size // 128))
        if masks.is_dir() and not (place == MISSING_MASK and index == 1):
            boxes += box is not None
            empty = box is not None and boxes % 16 == 4
            Image.fromarray(np.uint8(255) * (edema[index] & (not empty))).save(masks / name)
        stem = f"{number:03d}_{label:02d}" if number == SHORT_NAME_PATIENT else name.removesuffix(".png")
        filename = f"{label}.png" if place == WRONG_FILENAME else f"{stem}.jpg"
        # Channels are 3 although the slices are grey, and without a box there is no size.
        annotation = Annotation(filename, (size, size, 3), [Box("a", *box)]) if box else Annotation(filename, size=None)
        write_voc(notes / f"{stem}.xml", annotation)
    return boxes


def _write_medinfo(folder: Path, numbers: Sequence[int], left: Sequence[bool], seed: int) -> None:
    """MedInfo.xlsx: number, sex, age and the side of the bleeding, one row per patient; some ages are not known."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((seed, 0))
    rows = []
    for place, (number, is_left) in enumerate(zip(numbers, left, strict=True)):
        age = int(np.clip(rng.normal(61, 12), 24, 92))
        sex = "male" if rng.random() < 0.62 else "female"
        rows.append((number, sex, None if place % 11 == 7 else age, "left" if is_left else "right"))
    table = pd.DataFrame(rows, columns=["number", "sex", "age", "side"], dtype=object)
    table.to_excel(folder / "MedInfo.xlsx", index=False)


def _upright(volume: np.ndarray) -> np.ndarray:
    """Turn slices so that the forehead is at the top and the patient's left at the right edge, the usual view in radiology."""
    return np.rot90(volume, -1, axes=(1, 2))


def _spacing_mm(volume: np.ndarray) -> tuple[float, float]:
    """Pixel spacing and slice spacing."""
    return FIELD_OF_VIEW_MM / volume.shape[-1], HEAD_HEIGHT_MM / (len(volume) - 1)


def write_dicom(folder: Path, number: int, hu: np.ndarray) -> None:
    """dicom/NN.dcm, one CT series, base to vertex. `hu`: (slices, size, size). Stored value = HU + 1024, slope 1."""
    (folder / "dicom").mkdir(parents=True)
    pixel, thickness = _spacing_mm(hu)
    for index, plane in enumerate(_upright(hu)):
        header = _dicom_slice(number, index, plane)
        header.PixelSpacing = [pixel, pixel]
        header.SliceThickness = thickness
        header.ImagePositionPatient = [-FIELD_OF_VIEW_MM / 2, -FIELD_OF_VIEW_MM / 2, round(index * thickness, 4)]
        header.save_as(folder / "dicom" / f"{index + 1:02d}.dcm", enforce_file_format=True)


def _dicom_slice(number: int, index: int, plane: np.ndarray) -> Dataset:
    def uid(*words: object) -> str:
        return generate_uid(entropy_srcs=["phantom", str(number), *map(str, words)])

    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, uid("image", index)
    header.StudyInstanceUID, header.SeriesInstanceUID = uid("study"), uid("series")
    header.FrameOfReferenceUID = uid("frame")
    header.Modality, header.PatientID, header.PatientName = "CT", f"{number:04d}", f"Phantom^{number:04d}"
    header.SeriesNumber, header.InstanceNumber = 1, index + 1
    header.SeriesDescription = "Drawn head, no patient"
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.RescaleIntercept, header.RescaleSlope, header.RescaleType = INTERCEPT, 1, "HU"
    header.WindowCenter, header.WindowWidth = 40, 80
    header.set_pixel_data((plane.round() - INTERCEPT).astype("<i2"), "MONOCHROME2", 16, generate_instance_uid=False)
    return header


def write_nifti(folder: Path, number: int, hu: np.ndarray, edema: np.ndarray) -> None:
    """nifti/NNNN.nii.gz (int16 HU) and nifti/NNNN_edema.nii.gz (uint8 0/1) from (slices, size, size); RAS+ affine in mm."""
    (folder / "nifti").mkdir(parents=True, exist_ok=True)
    pixel, thickness = _spacing_mm(hu)
    # Upright columns run to the patient's left and rows to the back: both are against the RAS+ axes.
    affine = np.diag([-pixel, -pixel, thickness, 1.0])
    affine[:2, 3] = FIELD_OF_VIEW_MM / 2
    for name, volume in ((f"{number:04d}", hu.round().astype(np.int16)), (f"{number:04d}_edema", edema.astype(np.uint8))):
        nib.save(nib.Nifti1Image(_upright(volume).transpose(2, 1, 0), affine), folder / "nifti" / f"{name}.nii.gz")
