"""Step 03 with tables as people make them: what is unambiguous is read, with a word; else one line that says what to do."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from helpers.refusals import refused
from hemoct.base import tables
from hemoct.base.workspace import Workspace

STEP = "scripts/03_make_labels.py"
FOUR = ("a.png", "b.png", "c.png", "d.png")


def draw(work: Workspace, *names: str) -> None:
    for number, name in enumerate(names):
        (work.raw / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 8), number, np.uint8)).save(work.raw / name, format="PNG")


@pytest.fixture
def make(work: Workspace, run_step):
    """Draw images a, b and c, or others, write a table and run step 03; returns its result."""

    def run(text: str | bytes, *words: str, images=("a.png", "b.png", "c.png"), name: str = "truth.csv"):
        draw(work, *images)
        (work.raw / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return run_step(STEP, "--root", work.root, "--dataset", work.dataset, *words)

    return run


@pytest.fixture
def read(work: Workspace, make):
    """As `make`, which must succeed; returns the labels by image file, and what was printed."""

    def run(*args, **options) -> tuple[pd.DataFrame, str]:
        result = make(*args, **options)
        assert result.code == 0, result.err
        return tables.read_labels(work, tables.read_dataset(work)).set_index("image"), result.out

    return run


@pytest.mark.parametrize(
    ("one", "zero", "word"),
    [
        ("1", "0", None),
        ("1.0", "0.0", None),
        ('"1,0"', '"0,0"', None),
        ("yes", "no", "yes = 1, no = 0"),
        ("Yes ", " NO", "Yes = 1, NO = 0"),
        ("TRUE", "FALSE", "TRUE = 1, FALSE = 0"),
        ("t", "f", "t = 1, f = 0"),
        ("positive", "negative", "positive = 1"),
        ("Present", "absent", "Present = 1"),
    ],
)
def test_labels_in_words(read, one: str, zero: str, word: str | None):
    labels, out = read(f"image,bleeding\na.png,{one}\nb.png,{zero}\nc.png,?\n")
    assert labels["bleeding"].fillna(9).to_dict() == {"a.png": 1, "b.png": 0, "c.png": 9}
    assert (word is None) == ("column bleeding" not in out) and (word or "") in out


def test_a_word_that_is_no_label_stops_with_its_row(make):
    assert refused(make("image,bleeding\na.png,yes\n\nb.png,perhaps\nc.png,no\n"), "column bleeding, row 4 is 'perhaps'")


@pytest.mark.parametrize("column", ["label", "Class", "what was seen"])
def test_a_column_of_classes_becomes_one_label_each(work: Workspace, read, column: str):
    labels, out = read(f"image,{column}\na.png,Bleeding\nb.png,normal\nc.png,bleeding \n")
    assert f"column {column} names 2 classes" in out
    assert labels[["Bleeding", "normal"]].to_numpy().tolist() == [[1, 0], [0, 1], [1, 0]], "case and blanks make no class"
    assert tables.read_dataset(work).exclusive


def test_a_column_of_several_classes_is_not_exclusive(work: Workspace, read):
    labels, _ = read("image,Finding Labels\na.png,IVH|SAH\nb.png,No Finding\nc.png,sah\n")
    assert labels[["IVH", "SAH"]].to_numpy().tolist() == [[1, 1], [0, 0], [0, 1]]
    assert not tables.read_dataset(work).exclusive


def test_a_column_beside_labels_is_no_label_but_is_named(read):
    labels, out = read("image,bleeding,remark,volume,Idx\na.png,1,big,12.5,0\nb.png,0,,0.5,1\nc.png,0,none,1.5,0\n")
    assert "columns not used: remark, volume, Idx" in out and "Idx" not in labels


@pytest.mark.parametrize("name", ["id", "ID", "idx", "index", "row", "Unnamed: 0", "PatientID", "case_id", "StudyUID", "nr"])
def test_numbers_of_rows_and_patients_are_no_labels(work: Workspace, read, name: str):
    read(f"{name},image,bleeding\n0,a.png,1\n1,b.png,0\n")
    assert tables.read_dataset(work).labels == ["bleeding"]


def test_two_spellings_of_one_label_stop(make):
    assert refused(make("image,SAH,sah \na.png,1,0\n"), "the labels SAH, sah, which differ by case or blanks alone")


@pytest.mark.parametrize(
    ("images", "names", "how"),
    [
        (("a.png", "b.png"), ("a.dcm", "b.dcm"), "another suffix"),
        (("a.PNG", "B.png"), ("a.png", "b.png"), "another case"),
        (("img/a.png", "img/b.png"), ("/mnt/e/project/img/a.png", "/mnt/e/project/img/b.png"), "another disk"),
        (("a.png", "b.png"), (r"C:\\data\\p1\\a.png", r"C:\\data\\p2\\b.png"), "another disk"),
        (("p1/a.png", "p2/a.png"), ("/data/p1/a.png", "/data/p2/a.png"), "another disk"),
        (("a.png", "b.png"), ("train_images/a.png", "train_images/b.png"), "another disk"),
        (("007.png", "010.png"), ("7", "10"), "by their number"),
        (("deep/er/a.png", "deep/b.png"), ("er/a.png", "b"), "another folder"),
        (("1.2.840.77.png", "1.2.840.78.png"), ("1.2.840.77", "1.2.840.78"), None),
    ],
)
def test_images_are_found_where_only_one_can_be_meant(read, images, names, how: str | None):
    labels, out = read(f"image,bleeding\n{names[0]},1\n{names[1]},0\n", images=images)
    assert labels["bleeding"].to_dict() == {images[0]: 1, images[1]: 0}
    assert ("images were found" in out) == (how is not None) and (how or "") in out


@pytest.mark.parametrize(
    ("images", "names"),
    [
        (("a.png", "a.jpg", "b.png"), ("a", "b")),
        (("a.png", "A.png", "b.png"), ("a.PNG", "b")),
        (("p1/a.png", "p2/a.png", "b.png"), ("a.png", "b")),
        (("a.png", "b.png"), ("/x/p1/a.png", "/x/p2/a.png")),
        (("007.png", "p/07.png", "b.png"), ("7", "b")),
        (("masks/a.png", "b.png"), ("/x/a.png", "b")),
    ],
)
def test_an_image_that_two_files_or_two_names_may_be_stops(make, images, names):
    refused(make(f"image,bleeding\n{names[0]},1\n{names[1]},0\n", images=images), "not in", names[0])


def test_converted_slices_are_found_by_file_and_by_sop_instance(work: Workspace, read):
    draw(work, "images/s/1.png", "images/s/2.png")
    pd.DataFrame({"image": ["images/s/1.png", "images/s/2.png"], "patient": "p", "file": ["s/IM1", "s/IM2"]}).to_csv(
        work.raw / "slices.csv", index=False
    )
    (work.raw / "conversion").mkdir()
    (work.raw / "conversion/headers.csv").write_text("image,sop\nimages/s/1.png,1.2.3\nimages/s/2.png,1.2.4\n")
    (work.raw / "conversion/bad_files.csv").write_text("file,problem\n")
    labels, out = read("SOPInstanceUID,bleeding\n1.2.3,1\n1.2.4,0\n", "--image-column", "sopinstanceuid", images=())
    assert labels["bleeding"].to_dict() == {"images/s/1.png": 1, "images/s/2.png": 0} and "DICOM file" in out
    labels, _ = read("image,bleeding\nIM1,0\nIM2,1\n", images=())
    assert labels["bleeding"].to_dict() == {"images/s/1.png": 0, "images/s/2.png": 1}
    labels, _ = read("image,bleeding\nIM1,0\nIM3,1\n", "--skip-missing", images=())
    assert len(labels) == 1, "a table of bad files without rows is no error"


@pytest.mark.parametrize("name", ["Image", "file", "slice name", "SOP"])
def test_the_column_of_the_images_is_found_by_what_it_names(read, name: str):
    labels, out = read(f"note,{name},bleeding\nx,a.png,1\ny,b,0\n")
    assert labels["bleeding"].to_dict() == {"a.png": 1, "b.png": 0}
    assert name == "Image" or f"named in the column {name}" in out


def test_the_only_table_with_names_of_images_is_taken(work: Workspace, read, make):
    (work.raw).mkdir(parents=True)
    (work.raw / "scanner.csv").write_text("model,year\nX,2019\n")
    labels, out = read("image,bleeding\na.png,1\nb.png,0\n")
    assert len(labels) == 2 and "truth.csv is the only table that names images; not used: scanner.csv" in out
    (work.raw / "other.csv").write_text("image,edema\na.png,1\n")
    refused(make("image,bleeding\na.png,1\n"), "several CSV files", "--csv FILE")


@pytest.mark.parametrize("kind", ["utf-16", "semicolon", "tsv", "xlsx", "blanks", "numbered", "empty columns"])
def test_a_table_in_another_form_is_the_same_table(work: Workspace, read, kind: str):
    rows = [["image", "Patient ", "bleeding", "spacing_row"], ["a.png", "007", "1", "0.5"], ["b.png", "08", "0", "0.25"]]
    text, name = "\n".join(",".join(row) for row in rows), "truth.csv"
    if kind == "utf-16":
        text = text.replace(",", "\t").encode("utf-16")
    elif kind == "semicolon":
        text = text.replace(",", ";").replace("0.", "0,")
    elif kind == "tsv":
        text, name = text.replace(",", "\t"), "truth.tsv"
    elif kind == "xlsx":
        draw(work, "a.png")
        name = "truth.xlsx"
        pd.DataFrame(rows).to_excel(work.raw / name, header=False, index=False)
        text = (work.raw / name).read_bytes()
    elif kind == "blanks":
        text = "\n\n" + text.replace(",", " , ").replace("b.png", "\n,,,\nb.png") + "\n\n,,,\n"
    elif kind == "numbered":
        text = "\n".join(f"{number if number >= 0 else ''},{','.join(row)}" for number, row in enumerate(rows, start=-1))
    elif kind == "empty columns":
        text = "\n".join(",".join(row) + ",," for row in rows)
    labels, out = read(text, name=name)
    assert labels[["patient", "bleeding", "spacing_row"]].to_numpy().tolist() == [["007", 1, 0.5], ["08", 0, 0.25]]
    assert (kind == "blanks") == ("empty row(s) are left out" in out)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("image,patient,bleeding\na.png,Doe, Jane,1\n", "row 2 has more cells than the header has names (1 such rows)"),
        ("image,bleeding\n\na.png,1\nb.png,0,0\n", "row 4 has more cells than"),
        ("image,bleeding,\na.png,1,late\n", "row 2 has more cells than"),
        (
            "image,bleeding,patient\na.png,1,p\na.png,1,q\n",
            "1 image(s) twice with different patient (first: a.png, rows 2 and 3)",
        ),
        ("image,bleeding,who\na.png,1,p\na.png,1,q\n", None),
        ("image,bleeding,split\na.png,1,train\na.png,1,test\n", "1 image(s) twice with different given_split"),
        (
            "image,bleeding,mask\na.png,1,b.png\na.png,1,c.png\n",
            "1 image(s) twice with different mask (first: a.png, rows 2 and 3)",
        ),
    ],
)
def test_rows_that_contradict_one_another_or_the_header_stop(make, text: str, reason: str | None):
    result = make(text)
    assert result.code == (2 if reason else 0), result.err
    if reason:
        refused(result, reason)
    else:
        refused(make(text, "--patient-column", "who"), "twice with different who")


def test_one_patient_in_two_spellings_is_one(read):
    labels, out = read(
        "image,patient,bleeding\na.png,0013,1\nb.png,13,0\nc.png,P2,0\nd.png,p02,1\n", images=[f"{c}.png" for c in "abcd"]
    )
    assert labels["patient"].tolist() == ["0013", "0013", "p02", "p02"]
    assert "2 patient(s) are written in several ways and taken as one (first: 0013, 13)" in out


def test_masks_are_found_as_images_are(read, work: Workspace):
    draw(work, "label/a_mask.png", "label/b_mask.png")
    labels, _ = read("image,bleeding,mask\na.png,1,/x/label/a_mask.png\nb.png,0,/x/label/b_mask.PNG\nc.png,0,\n")
    assert labels["mask"].tolist() == ["label/a_mask.png", "label/b_mask.png", ""]
    assert Path(work.raw / "label/a_mask.png").exists()


@pytest.mark.parametrize(
    ("words", "labels", "rows"),
    [
        ("any=hemorrhage", ["hemorrhage", "IVH", "SAH"], [[1, 1, 0], [0, 0, 0], [1, 9, 9]]),
        ("IVH=type,SAH=type", ["any", "type"], [[1, 1], [0, 0], [1, 9]]),
    ],
)
def test_labels_are_called_as_other_data_call_them(work: Workspace, read, words: str, labels: list[str], rows: list):
    made, _ = read("image,any,IVH,SAH\na.png,1,1,0\nb.png,0,0,0\nc.png,1,,\n", "--map", words)
    assert tables.read_dataset(work).labels == labels
    assert made[labels].fillna(9).to_numpy().tolist() == rows


def test_a_label_that_is_not_there_cannot_be_called_otherwise(make):
    refused(make("image,any\na.png,1\n", "--map", "many=hemorrhage"), "has no label many; it has any")
    result = make("image,any\na.png,1\n", "--map", "any")
    assert result.code == 2 and "is not a list of old and new names" in result.err


def test_a_rule_for_patients_is_proposed_and_taken_only_on_demand(work: Workspace, make, read):
    images = [f"{patient:03d}_{number}.png" for patient in range(5) for number in range(3)]
    text = "image,any\n" + "".join(f"{name},0\n" for name in images)
    labels, out = read(text, images=images)
    assert labels["patient"].nunique() == 15
    assert "--patient-regex '^(\\d+)[_-]' gives 5 patients (000_0.png and 000_1.png are 000)" in out
    labels, out = read(text, "--patient-regex", "auto", images=images)
    assert labels["patient"].nunique() == 5 and "gives 5 patients" in out
    assert tables.read_dataset(work).patient_source == r"regex ^(\d+)[_-]"
    refused(make("image,any\nx.png,1\n", "--patient-regex", "auto", images=["x.png"]), "no usual rule groups the file names")
    labels, _ = read("image,any\np1/x.png,1\np2/x.png,0\n", "--patient-regex", "^(p.)/", images=["p1/x.png", "p2/x.png"])
    assert labels["patient"].tolist() == ["p1", "p2"]


@pytest.mark.parametrize(
    "names", [("p0.nii.gz", "p1.nii.gz"), ("p0", "p1"), ("scans/p0.nii.gz", "P1.NII.GZ"), ("/x/p0.nii", "p1.nii")]
)
def test_labels_of_scans_say_what_they_can_of_slices(work: Workspace, read, names):
    slices = [f"images/scans/p{scan}_{number}.png" for scan in (0, 1) for number in (0, 1)]
    draw(work, *slices)
    table = pd.DataFrame(
        {"image": slices, "patient": ["p0", "p0", "p1", "p1"], "file": [f"scans/p{n // 2}.nii.gz" for n in range(4)]}
    )
    table.to_csv(work.raw / "slices.csv", index=False)
    labels, out = read(f"image,bleeding,normal\n{names[0]},0,1\n{names[1]},1,0\n", images=())
    assert "2 row(s) are of whole scans" in out
    assert labels["bleeding"].fillna(9).tolist() == [0, 0, 9, 9] and labels["normal"].fillna(9).tolist() == [1, 1, 9, 9]
    assert labels["patient"].tolist() == ["p0", "p0", "p1", "p1"]


@pytest.mark.parametrize("text", ["a.png,p1,1\nb.png,p2,0\n", "a,p1,1\nb,p2,0\n", "images/a.png,1\nb.PNG,0\n"])
def test_a_table_without_names_of_columns_stops(make, text: str):
    refused(make(text, "--layout", "csv"), "its first row names an image; put a row with the names")
