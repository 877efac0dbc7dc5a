"""Public head-CT data, made by code in their exact layout: tiny heads of air, brain and blood, known masks, known labels."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom

from helpers.dicom_files import head, write_series

SIZE, SLICES, SPACING, THICKNESS = 16, 4, 0.5, 5.0


def scan(seed: int, slices: int = SLICES) -> np.ndarray:
    """HU as they are shown, from base to vertex: int16 (slices, SIZE, SIZE)."""
    return head(slices, SIZE, seed)


def mask(*of_slice: dict[int, tuple[int, int, int, int]]) -> np.ndarray:
    """uint8 (slices, SIZE, SIZE): for each slice its values, each a rectangle xmin, ymin, xmax, ymax."""
    made = np.zeros((len(of_slice), SIZE, SIZE), dtype=np.uint8)
    for number, values in enumerate(of_slice):
        for value, (xmin, ymin, xmax, ymax) in values.items():
            made[number, ymin:ymax, xmin:xmax] = value
    return made


def save(path: Path, shown: np.ndarray, axes: str = "RAS", spacing: float = SPACING) -> Path:
    """A NIfTI file whose axes point as `axes` say, of slices as they are shown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = shown[:, ::-1, ::-1].transpose(2, 1, 0)
    image = nib.Nifti1Image(stored, np.diag([spacing, spacing, THICKNESS, 1]))
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes))
    nib.save(image.as_reoriented(turn), path)
    return path


TYPES = mask({1: (2, 2, 6, 5)}, {}, {4: (8, 8, 12, 12), 5: (1, 9, 3, 12)}, {2: (4, 4, 7, 7)})
"""epidural; nothing; subarachnoid and subdural; intraparenchymal"""
BLOOD = mask({1: (2, 2, 6, 5)}, {}, {1: (8, 8, 12, 12)}, {})
RSNA_IDS = [f"ID_0000000{number}_ID_000000000{number}" for number in range(3)]


def bhsd(folder: Path) -> None:
    for seed, name in enumerate(RSNA_IDS):
        save(folder / "label_192/images" / f"{name}.nii.gz", scan(seed))
        save(folder / "label_192/ground truths" / f"{name}.nii.gz", TYPES)


def instance22(folder: Path) -> None:
    for number in range(1, 4):
        save(folder / "train_2/data" / f"{number:03d}.nii.gz", scan(number), "LPS")
        save(folder / "train_2/label" / f"{number:03d}.nii.gz", BLOOD, "LPS")


def phe_sich_nifti(folder: Path) -> None:
    for number in range(1, 4):
        save(folder / f"SubdatasetA_NII/set/image{number}.nii.gz", scan(number))
        save(folder / f"SubdatasetA_NII/label/label{number}.nii.gz", BLOOD)


def ct_ich(folder: Path) -> None:
    """Patient 49 is stored from base to vertex, 50 from vertex to base: its slice 1 is the highest one."""
    for number, axes in ((49, "RAS"), (50, "RAI")):
        save(folder / f"ct_scans/{number:03d}.nii", scan(number), axes)
        save(folder / f"masks/{number:03d}.nii", BLOOD * 255, axes)
    header = (
        "PatientNumber,SliceNumber,Intraventricular,Intraparenchymal,Subarachnoid,Epidural,Subdural,No_Hemorrhage,Fracture_Yes_No"
    )
    rows = ["49,1,0,1,0,0,0,0,1", "49,2,0,0,0,0,0,1,0", "49,3,1,0,0,0,0,0,0", "49,4,0,0,0,0,0,1,0"]
    rows += [
        "50,4,0,1,0,0,0,0,1",
        "50,3,0,0,0,0,0,1,0",
        "50,2,1,0,0,0,0,0,0",
        "50,1,0,0,0,0,0,1,0",
        "51,1,0,0,0,0,0,1,0",
        ",,,,,,,,",
    ]
    (folder / "hemorrhage_diagnosis_raw_ct.csv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "Patient_demographics.csv").write_text("Patient Number,Age\n49,30\n")


def mbh_seg(folder: Path) -> None:
    """Two cases with masks by raters 1 and 5, and one scan of which only the case's types are known."""
    for seed, name in enumerate(RSNA_IDS[:2]):
        save(folder / "MBH_Train_2025_voxel-label" / name / "image.nii.gz", scan(seed))
        save(folder / "MBH_Train_2025_voxel-label" / name / "label_annot_5.nii.gz", np.zeros_like(TYPES))
        save(folder / "MBH_Train_2025_voxel-label" / name / "label_annot_1.nii.gz", TYPES)
    cases = folder / "MBH_Train_2025_case-label"
    save(cases / f"{RSNA_IDS[2]}.nii.gz", scan(2))
    columns = "patientID_studyID,any,epidural,intraparenchymal,intraventricular,subarachnoid,subdural"
    (cases / "case-wise_annotation.csv").write_text(f"{columns}\n{RSNA_IDS[2]},1,1,0,0,0,0\n")


def seg_cq500(folder: Path) -> None:
    """Names that say nothing: only info.csv pairs them. One volume is sheared."""
    volumes = folder / "volumes"
    for number in (7, 8):
        save(volumes / f"a{number}_CQ500CT{number}.nii.gz", scan(number))
        save(volumes / f"b{number}.nii.gz", BLOOD)
    for path in (volumes / "a8_CQ500CT8.nii.gz", volumes / "b8.nii.gz"):
        image = nib.load(path)
        image.affine[1, 2] = 0.4
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine), path)
    rows = [f"a{number}_CQ500CT{number}.nii.gz,b{number}.nii.gz" for number in (7, 8)]
    (volumes / "info.csv").write_text("\n".join(["CT_fn,mask_fn", *rows]) + "\n")


def _cq500_study(folder: Path, number: int, series: dict[str, int]) -> dict[str, list[str]]:
    """The DICOM files of a study; the SOP instances of each series, from base to vertex."""
    sops: dict[str, list[str]] = {}
    for place, (name, slices) in enumerate(series.items(), start=1):
        target = folder / f"CQ500CT{number} CQ500CT{number}/Unknown Study/{name}"

        def edit(header: pydicom.Dataset, index: int, place: int = place) -> None:
            header.PatientID, header.StudyInstanceUID = f"CQ500-CT-{number}", f"1.9.{number}"
            header.SeriesInstanceUID, header.SOPInstanceUID = f"1.9.{number}.{place}", f"1.9.{number}.{place}.{index}"
            header.SeriesNumber = place

        target.mkdir(parents=True)
        for index, path in enumerate(write_series(target, scan(number * 10 + place, slices), edit=edit)):
            path.rename(target / f"CT{index:06d}.dcm")
        (target / "dicom").rmdir()
        sops[name] = [f"1.9.{number}.{place}.{index}" for index in range(slices)]
    return sops


def cq500(folder: Path) -> dict[int, dict[str, list[str]]]:
    """Study 1: two of three see an IPH. 2: one does. 3: nobody has read it. One series of 1 is post contrast."""
    sops = {1: _cq500_study(folder, 1, {"CT PLAIN THIN": 4, "CT POST CONTRAST THIN": 3})}
    sops |= {number: _cq500_study(folder, number, {"CT Plain": 4}) for number in (2, 3)}
    signs = ("ICH", "IPH", "IVH", "SDH", "EDH", "SAH", "Fracture")
    header = ["name", "Category", *(f"R{reader}:{sign}" for reader in (1, 2, 3) for sign in signs)]
    positive, negative = "1,1,0,0,0,0,0", "0,0,0,0,0,0,0"
    rows = [f"CQ500-CT-1,B1,{positive},{negative},{positive}", f"CQ500-CT-2,B2,{negative},{positive},{negative}"]
    (folder / "reads.csv").write_text("\n".join([",".join(header), *rows]) + "\n")
    return sops


def bhx(folder: Path) -> None:
    """Boxes on the plain series of study 1: two types on its second slice; one stands twice, one is broken, one elsewhere."""
    sops = cq500(folder)[1]["CT PLAIN THIN"]
    rows = [
        (sops[1], "{'x': 3.5, 'y': 4, 'width': 5, 'height': 2}", "Intraparenchymal"),
        (sops[1], "{'x': 3.5, 'y': 4, 'width': 5, 'height': 2}", "Intraparenchymal"),
        (sops[1], "{'x': 9, 'y': 9, 'width': 2, 'height': 3}", "Chronic"),
        (sops[2], "{'x': 1, 'y': 1, 'width': 4, 'height': 4}", "Subdural"),
        (sops[3], "{'x': 1, 'y': 1", "Subdural"),
        ("1.9.77", "{'x': 1, 'y': 1, 'width': 4, 'height': 4}", "Epidural"),
    ]
    lines = [",SOPInstanceUID,SeriesInstanceUID,StudyInstanceUID,data,labelName,labelType"]
    lines += [f'{n},{sop},s,t,"{data}",{name},local' for n, (sop, data, name) in enumerate(rows)]
    (folder / "2_Extrapolation_to_All_Series.csv").write_text("\n".join(lines) + "\n")
    (folder / "1_Initial_Manual_Labeling.csv").write_text("\n".join(lines[:2]) + "\n")


FAKES: dict[str, Callable[[Path], object]] = {
    "bhsd": bhsd,
    "instance22": instance22,
    "phe-sich-nifti": phe_sich_nifti,
    "ct-ich": ct_ich,
    "mbh-seg": mbh_seg,
    "seg-cq500": seg_cq500,
    "cq500": cq500,
    "bhx": bhx,
}


def rsna(folder: Path, wide: bool = False) -> None:
    """Two patients of two slices; the table also has a slice that is not there."""
    (folder / "stage_2_train").mkdir(parents=True)
    names = []
    for patient in range(2):

        def edit(header: pydicom.Dataset, index: int, patient: int = patient) -> None:
            header.PatientID, header.SOPInstanceUID = f"ID_{patient:08x}", f"ID_{patient:x}{index:08x}"
            header.SeriesInstanceUID = header.StudyInstanceUID = f"1.8.{patient}"

        for index, path in enumerate(write_series(folder / "stage_2_train", scan(patient, 2), edit=edit)):
            names.append(f"ID_{patient:x}{index:08x}")
            path.rename(folder / "stage_2_train" / f"{names[-1]}.dcm")
        (folder / "stage_2_train/dicom").rmdir()
    types = ("epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural", "any")
    truth = {name: ["1" if of == "any" or of == types[place] else "0" for of in types] for place, name in enumerate(names)}
    truth["ID_99999999f"] = ["0"] * 6
    if wide:
        lines = [",".join(("Image", *types)), *(",".join((name, *row)) for name, row in truth.items())]
    else:
        lines = ["ID,Label", *(f"{name}_{of},{cell}" for name, row in truth.items() for of, cell in zip(types, row, strict=True))]
    (folder / "stage_2_train.csv").write_text("\n".join(lines) + "\n")
