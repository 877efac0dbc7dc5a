"""Public head-CT data by name: how each is recognised, and what a user must know of it. SOURCES is the only place that says so.

data/README.md has the table of SOURCES (`table`). What their tables say becomes labels in hemoct.sources.labels.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hemoct.base import files
from hemoct.ingest import layouts, phe_sich, rsna_reader, table_text
from hemoct.sources.folder import Contents

VOXEL_TYPES = dict(enumerate(rsna_reader.TYPES, start=1))
"""the values of BHSD and MBH-Seg: 1 epidural, 2 intraparenchymal, 3 intraventricular, 4 subarachnoid, 5 subdural"""
ANY = "any"
OF_RSNA, OF_CQ500 = "rsna-2019", "cq500"


@dataclass(frozen=True)
class Known:
    """One public data set. Texts are for people, `namespace` is for shared_people."""

    name: str
    title: str
    licence: str
    people: str
    """who the patients are"""
    namespace: str
    """of its patients: two sets with the same one share people"""
    layout: str
    labels: str
    read: str
    """what becomes of it here"""
    traps: str
    found: Callable[[Contents], bool] = field(repr=False)
    values: Mapping[int, str] = field(default_factory=dict)
    """what the values of its masks are; empty: every value is `lesion`"""
    lesion: str = ANY
    """the label of a slice whose mask has a pixel"""

    def lines(self) -> Iterator[str]:
        """What a user should know of it."""
        yield f"this is {self.title}; licence: {self.licence}; patients: {self.people}"
        yield f"  {self.labels}; {self.read}; mind: {self.traps}"


def recognise(contents: Contents) -> Known | None:
    """The first of SOURCES whose layout this is."""
    return next((known for known in SOURCES if known.found(contents)), None)


def name_of(raw: Path, listing: list[Path] | None = None) -> str:
    """The name of the source of data/raw/NAME, as its conversion recorded or as its files (`listing`) say, else ""."""
    origin = raw / layouts.ORIGIN
    recorded = files.read_json(origin) if origin.is_file() else {}
    if "converted" in recorded or "drawn" in recorded:
        return recorded.get("source") or ""
    known = recognise(Contents.of(raw, listing))
    return known.name if known else ""


def shared_people(first: str, second: str) -> str:
    """The namespace of the patients that two sources share, by their names or ""; "" if they are not known to share any."""
    namespaces = {known.name: known.namespace for known in SOURCES}
    mine = namespaces.get(first, "")
    return mine if mine and mine == namespaces.get(second) else ""


def table() -> str:
    """SOURCES as a table in Markdown."""
    lines = ["| name | data set, licence | patients | layout | labels | what is read | traps |", "| --- " * 7 + "|"]
    for known in SOURCES:
        cells = (known.layout, known.labels, known.read, known.traps)
        lines.append(f"| `{known.name}` | {known.title}; {known.licence} | {known.people} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _any(paths: list[Path], pattern: str) -> bool:
    return any(re.search(pattern, path.as_posix(), re.IGNORECASE) for path in paths)


def with_columns(contents: Contents, name: str, *columns: str) -> Path | None:
    """The table of a name, given as a regular expression, that has these columns."""
    for path in contents.tables:
        if re.fullmatch(name, path.name, re.IGNORECASE):
            header = {each.strip() for each in table_text.header(contents.folder / path)}
            if header >= {*columns}:
                return path
    return None


BHX_TABLE = r"(\d)_(Initial_Manual_Labeling|Extrapolation_to_(All|Selected)_Series)\.csv"
CQ500_FOLDER = r"CQ500[-_ ]?CT[-_ ]?\d+"
RSNA_NAME = r"ID_[0-9a-f]{6,}_ID_[0-9a-f]{6,}\.nii(\.gz)?$"


def _is_bhx(contents: Contents) -> bool:
    return bool(contents.scans and with_columns(contents, BHX_TABLE, "SOPInstanceUID", "data", "labelName"))


def _is_cq500(contents: Contents) -> bool:
    return _any(contents.scans, CQ500_FOLDER) and bool(with_columns(contents, r"reads\.csv", "name", "R1:ICH"))


def _is_seg_cq500(contents: Contents) -> bool:
    return bool(contents.volumes and with_columns(contents, r".*\.csv", "CT_fn", "mask_fn"))


def _is_ct_ich(contents: Contents) -> bool:
    table = with_columns(contents, r"hemorrhage_diagnosis_raw_ct\.csv", "PatientNumber", "SliceNumber")
    return bool(table) and _any(contents.scans, r"(^|/)ct_scans/\d+\.nii")


def _is_bhsd(contents: Contents) -> bool:
    return _any(contents.scans, r"(^|/)ground truths/" + RSNA_NAME) and _any(contents.scans, r"(^|/)images/" + RSNA_NAME)


def _is_mbh_seg(contents: Contents) -> bool:
    cases = with_columns(contents, r"case-wise_annotation\.csv", "patientID_studyID")
    return _any(contents.scans, r"/label_annot_\d+\.nii") or bool(cases and contents.volumes)


def _is_instance22(contents: Contents) -> bool:
    place = r"(^|/)train_2/{}/\d+\.nii"
    return _any(contents.scans, place.format("data")) and _any(contents.scans, place.format("label"))


def _is_head_ct(contents: Contents) -> bool:
    labels = with_columns(contents, r"labels\.csv", "id", "hemorrhage")
    return bool(labels) and not contents.scans and _any(contents.pictures, r"(^|/)head_ct/\d{3}\.png$")


def _is_rsna(contents: Contents) -> bool:
    there = [*contents.scans, *contents.pictures]
    wide = with_columns(contents, r".*\.csv", *rsna_reader.TYPES)
    tables = wide or layouts.rsna_tables(contents.folder, contents.tables)
    return bool(tables) and _any(there, r"(^|/)ID_[0-9a-f]{6,}\.(dcm|png|jpe?g)$")


def _is_phe_sich(contents: Contents) -> bool:
    return bool(phe_sich.phe_sets([*contents.pictures, *contents.others]))


def _is_phe_sich_nifti(contents: Contents) -> bool:
    return bool(contents.volumes) and _any(contents.scans, r"(^|/)SubdatasetA[^/]*/")


SOURCES = (
    Known(
        name="rsna-2019",
        title="RSNA 2019 brain CT hemorrhage challenge",
        licence="non-commercial research, terms of the challenge",
        people="about 19 thousand in the training set; PatientID in the DICOM files",
        namespace=OF_RSNA,
        layout="`stage_2_train/ID_*.dcm`, `stage_2_train.csv` (`ID,Label`), or a table with one column a type",
        labels="five types and `any`, of each slice",
        read="DICOM converted; labels of what is there, the rest listed",
        traps="some HU wrapped around, a truncated file, repeated rows",
        found=_is_rsna,
    ),
    Known(
        name="bhx",
        title="BHX, boxes for CQ500",
        licence="open access on PhysioNet; its images under that of CQ500",
        people="those of CQ500",
        namespace=OF_CQ500,
        layout="`1_Initial_Manual_Labeling.csv`, `2_Extrapolation_to_All_Series.csv`, `3_...` beside the DICOM",
        labels="boxes of six classes (one is `Chronic`) by SOPInstanceUID",
        read="boxes of the table for all series, else of the selected ones, else the manual ones; their slices have known types",
        traps="a slice without a box may bleed: unknown, unless `reads.csv` of CQ500 says that its study is negative",
        found=_is_bhx,
    ),
    Known(
        name="cq500",
        title="CQ500",
        licence="CC BY-NC-SA 4.0",
        people="491 of New Delhi",
        namespace=OF_CQ500,
        layout="`CQ500CT<N> CQ500CT<N>/Unknown Study/<series>/*.dcm`, `reads.csv` (`name`, `R1:ICH` ... `R3:SAH`)",
        labels="of the study, by three readers: two of three count",
        read="slices of a negative study are 0, of a positive one unknown; all series are kept",
        traps="several series of a patient, some post contrast (counted); labels say nothing of a single slice",
        found=_is_cq500,
    ),
    Known(
        name="seg-cq500",
        title="Seg-CQ500",
        licence="see its page; its images under that of CQ500",
        people="51 of CQ500",
        namespace=OF_CQ500,
        layout="`volumes/info.csv` (`CT_fn`, `mask_fn`) and its NIfTI files",
        labels="mask of any bleeding",
        read="volumes with masks; `any` and boxes from the masks",
        traps="one volume is sheared (tilted gantry)",
        found=_is_seg_cq500,
    ),
    Known(
        name="ct-ich",
        title="PhysioNet CT-ICH 1.3.1",
        licence="PhysioNet Restricted Health Data 1.5.0 (1.3.0: CC BY 4.0)",
        people="75 with head trauma, Al Hilla, Iraq; numbers 49-58 and 66-130",
        namespace="ct-ich",
        layout="`ct_scans/NNN.nii`, `masks/NNN.nii`, `hemorrhage_diagnosis_raw_ct.csv` (slice numbers from 1)",
        labels="five types, `any` and `fracture` of each slice; mask of any bleeding",
        read="labels from the table, boxes from the masks",
        traps="masks are 0 and about 255; slice numbers follow the file, whichever end is up",
        found=_is_ct_ich,
    ),
    Known(
        name="mbh-seg",
        title="MBH-Seg 2024 and 2025",
        licence="see the challenge; its images under that of RSNA 2019",
        people="of RSNA 2019: ID_x of ID_x_ID_y",
        namespace=OF_RSNA,
        layout="`<case>/image.nii.gz`, `label_annot_<k>.nii.gz`, `case-wise_annotation.csv`",
        labels="five types as values of the masks, by several raters; of other scans by the case",
        read="the rater with the lowest number; a case without a type: 0, with it: unknown",
        traps="raters differ: the other masks are listed in bad_files.csv",
        found=_is_mbh_seg,
        values=VOXEL_TYPES,
    ),
    Known(
        name="bhsd",
        title="BHSD",
        licence="its pages differ (MIT, non-commercial); its images under that of RSNA 2019",
        people="192 of RSNA 2019: ID_x of ID_x_ID_y",
        namespace=OF_RSNA,
        layout="`label_192/images/ID_*_ID_*.nii.gz`, `label_192/ground truths/`",
        labels="five types as values of the masks: 1 EDH, 2 IPH, 3 IVH, 4 SAH, 5 SDH",
        read="types, `any` and boxes from the masks",
        traps="all of them bleed; several scans of some patients",
        found=_is_bhsd,
        values=VOXEL_TYPES,
    ),
    Known(
        name="rsna-volumes",
        title="other NIfTI volumes of RSNA 2019, such as HemSeg-200",
        licence="that of RSNA 2019",
        people="of RSNA 2019: ID_x of ID_x_ID_y",
        namespace=OF_RSNA,
        layout="`ID_*_ID_*.nii.gz`, perhaps with masks",
        labels="mask of any bleeding, if there are masks",
        read="`any` and boxes from the masks",
        traps="values of masks have no names",
        found=lambda contents: _any(contents.scans, RSNA_NAME),
    ),
    Known(
        name="instance22",
        title="INSTANCE 2022",
        licence="signed agreement with its organisers",
        people="of one hospital in Beijing, 100 with masks",
        namespace="instance22",
        layout="`train_2/data/NNN.nii.gz`, `train_2/label/NNN.nii.gz`",
        labels="mask of any bleeding, 0 and 1",
        read="`any` and boxes from the masks",
        traps="all of them bleed",
        found=_is_instance22,
    ),
    Known(
        name="phe-sich-nifti",
        title="PHE-SICH-CT-IDS, set A",
        licence="CC BY 4.0",
        people="120 with spontaneous intracerebral hemorrhage",
        namespace="phe-sich",
        layout="`SubdatasetA*/` with NIfTI volumes and their masks",
        labels="mask of the perihematomal edema",
        read="`edema` and boxes from the masks",
        traps="the masks outline the edema, not the bleeding",
        found=_is_phe_sich_nifti,
        lesion="edema",
    ),
    Known(
        name="phe-sich",
        title="PHE-SICH-CT-IDS, sets B and C",
        licence="CC BY 4.0",
        people="120 with spontaneous intracerebral hemorrhage",
        namespace="phe-sich",
        layout="`set/imageN`, `label/labelN`, `annotation/annotationN`",
        labels="boxes of bleeding and edema, masks of the edema",
        read="`hemorrhage`: the slice has a box (layout `phe-sich`)",
        traps="see below",
        found=_is_phe_sich,
        lesion="edema",
    ),
    Known(
        name="head-ct-hemorrhage",
        title="Head CT - hemorrhage (F. Kitamura)",
        licence="see its page on Kaggle",
        people="nobody says: 200 slices, perhaps of 200 people",
        namespace="head-ct-hemorrhage",
        layout="`head_ct/head_ct/NNN.png`, `labels.csv` (`id, hemorrhage`)",
        labels="`hemorrhage` of each slice",
        read="layout `csv`; ids by number",
        traps="a blank in the header, ids without zeros, no patients: one person may be on both sides",
        found=_is_head_ct,
    ),
)
