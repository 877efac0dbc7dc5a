"""Step 03: the same tables from every layout (RSNA: test_rsna_reader); what is not known is empty, mistakes stop in one line."""

import errno
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from hemoct.base import tables
from hemoct.base.workspace import Workspace

MERGE, STEP = "scripts/02_merge_annotations.py", "scripts/03_make_labels.py"
BOX = "<object><name>{}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>{}</ymax></bndbox></object>"


def draw(folder: Path, *names: str, size: tuple[int, int] = (8, 6)) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size).save(folder / name)


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture
def make(work: Workspace, run_step):
    """Run step 03 on the workspace; returns the result."""
    return lambda *words: run_step(STEP, "--root", work.root, "--dataset", work.dataset, *words)


@pytest.fixture
def made(work: Workspace, make):
    """Run step 03, which must succeed; returns labels by image_id, boxes and dataset.json."""

    def run(*words: str) -> tuple[pd.DataFrame, pd.DataFrame, tables.Dataset]:
        result = make(*words)
        assert result.code == 0, result.err
        dataset = tables.read_dataset(work)
        return tables.read_labels(work, dataset).set_index("image_id"), tables.read_boxes(work), dataset

    return run


def stops(result, *words: str) -> None:
    """A user's mistake: exit code 2, one line, and these words in it."""
    assert result.code == 2
    assert result.err.count("\n") == 1
    for word in words:
        assert word in result.err


@pytest.fixture
def phe(work: Workspace, run_step) -> Workspace:
    """Two patients: 0001_00 no box, 0013_05 a box and short XML name, 0013_06 no mask, 0013_07 a broken XML; merged."""
    base = work.raw / "SubdatasetC_PNG"
    draw(base, "set/image1/0001_00.png", *(f"set/image13/0013_0{n}.png" for n in (5, 6, 7)))
    draw(base, "label/label1/0001_00.png", "label/label13/0013_05.png", "label/label13/0013_07.png")
    write(base, "annotation/annotation1/0001_00.xml", "<annotation/>")
    write(base, "annotation/annotation13/013_05.xml", f"<annotation>{BOX.format('a', 6)}</annotation>")
    write(base, "annotation/annotation13/013_06.xml", "<annotation/>")
    write(base, "annotation/annotation13/013_07.xml", f"<annotation>{BOX.format('a', 0)}</annotation>")
    assert run_step(MERGE, "--root", work.root, "--dataset", work.dataset).code == 0
    return work


def test_phe_sich(phe: Workspace, made):
    labels, boxes, dataset = made()
    assert labels.index.tolist() == ["0001_00", "0013_05", "0013_06", "0013_07"]
    assert labels["hemorrhage"].fillna(9).tolist() == [0, 1, 0, 9], "a box that could not be read is unknown"
    assert labels["patient"].tolist() == ["0001", "0013", "0013", "0013"]
    assert labels["slice"].tolist() == [0, 5, 6, 7]
    assert labels.loc["0013_05", "image"] == "SubdatasetC_PNG/set/image13/0013_05.png"
    assert labels.loc["0013_05", "mask"] == "SubdatasetC_PNG/label/label13/0013_05.png"
    assert labels.loc["0013_05", "annotation"] == "SubdatasetC_PNG/annotation/annotation13/013_05.xml"
    assert labels.loc["0013_06", "mask"] == "", "a missing mask is not an empty one"
    assert labels.loc["0013_07", "annotation"] == ""
    assert boxes.to_numpy().tolist() == [["0013_05", "a", 1, 1, 5, 6]]
    assert (dataset.layout, dataset.licence, dataset.image_size) == ("phe-sich", "CC BY 4.0", [8, 6])
    assert dataset.counts == {"images": 4, "patients": 2, "masks": 3, "boxes": 1, "hemorrhage = 1": 1, "unknown": 1}
    assert dataset.patient_source == "folder"
    assert tables.read_patients(phe) is None


def test_without_the_merged_folder_the_step_names_its_maker(work: Workspace, make):
    draw(work.raw, "SubdatasetC_PNG/set/image1/0001_00.png")
    stops(make(), "merged_annotation is missing", "python scripts/02_merge_annotations.py --dataset toy")


def test_medinfo_becomes_patients(phe: Workspace, made):
    sheet = pd.DataFrame(
        {"Age (years)": [13, 70, 52], "No.": [1, 13, 99], "Gender": ["male", None, "female"], "Bleeding Volume": [3.5, 4, 5]}
    )
    sheet.to_excel(phe.raw / "MedInfo.xlsx", index=False)
    made()
    patients = tables.read_patients(phe)
    assert patients.columns.tolist() == ["patient", "age", "sex", "bleeding_volume"]
    assert patients["patient"].tolist() == ["0001", "0013"]
    assert patients["age"].tolist() == [13, 70]
    assert patients["sex"].isna().tolist() == [False, True]
    (phe.raw / "MedInfo.xlsx").unlink()
    made()
    assert tables.read_patients(phe) is None, "patients.csv of an earlier run is gone"


def test_the_side_becomes_labels(phe: Workspace, made, make):
    stops(make("--labels", "side"), "no MedInfo.xlsx with a column side")
    stops(make("--labels", "IVH"), "has no label IVH")
    sheet = pd.DataFrame({"number": [1, 13], "side": ["right", "Left basal ganglia"]})
    sheet.to_excel(phe.raw / "MedInfo.xlsx", index=False)
    labels, _, dataset = made("--labels", "side")
    assert dataset.labels == ["hemorrhage", "side_left", "side_right"]
    assert labels[dataset.labels].fillna(9).loc["0001_00"].tolist() == [0, 0, 0], "nothing bleeds on this slice"
    assert labels[dataset.labels].fillna(9).loc["0013_05"].tolist() == [1, 1, 0]
    assert labels[dataset.labels].fillna(9).loc["0013_07"].tolist() == [9, 9, 9]
    sheet.assign(side=["right", "both"]).to_excel(phe.raw / "MedInfo.xlsx", index=False)
    labels, _, dataset = made("--labels", "side")
    assert labels[dataset.labels].fillna(9).loc["0013_05"].tolist() == [1, 9, 9], "nothing tells which of both sides it is"
    assert labels[dataset.labels].fillna(9).loc["0013_06"].tolist() == [0, 0, 0]


def test_a_broken_medinfo_stops(phe: Workspace, make):
    write(phe.raw, "MedInfo.xlsx", "no sheet")
    stops(make(), "MedInfo.xlsx cannot be read as an Excel sheet")


def test_voc(work: Workspace, run_step, made):
    draw(work.raw, "p1_3.png", "p1_4.png", "p2_1.png")
    write(work.raw, "p1_3.xml", f"<annotation>{BOX.format('IVH', 6)}{BOX.format('SAH', 4)}</annotation>")
    write(work.raw, "p1_4.xml", f"<annotation>{BOX.format('SAH', 6)}</annotation>")
    assert run_step(MERGE, "--root", work.root, "--dataset", work.dataset).code == 0
    labels, boxes, dataset = made("--patient-regex", r"^(p\d+)_")
    assert dataset.labels == dataset.classes == ["IVH", "SAH"]
    assert labels.loc["p1_3", ["IVH", "SAH"]].tolist() == [1, 1]
    assert labels.loc["p1_4", ["IVH", "SAH"]].tolist() == [0, 1]
    assert labels.loc["p2_1", ["IVH", "SAH"]].isna().all(), "without an annotation nothing is known"
    assert labels["slice"].tolist() == [3, 4, 1]
    assert len(boxes) == 3
    assert dataset.patient_source == r"regex ^(p\d+)_"


def test_folders(work: Workspace, made):
    draw(work.raw, "train/SICK/person1_bacteria_7.jpeg", "valid/WELL/IM-2-0001.jpeg", "test/SICK/person3_x.jpeg")
    labels, _, dataset = made("--patient-regex", r"^(person\d+|IM-\d+)")
    assert dataset.exclusive
    assert labels[["SICK", "WELL"]].sum(axis=1).eq(1).all()
    assert labels["given_split"].to_dict() == {"IM-2-0001": "val", "person1_bacteria_7": "train", "person3_x": "test"}
    assert labels["patient"].tolist() == ["IM-2", "person1", "person3"]
    assert labels["slice"].fillna(-9).tolist() == [1, 7, -9]


def test_without_a_rule_each_image_is_its_own_patient(work: Workspace, make):
    draw(work.raw, "A/1.png", "B/1.png")
    result = make()
    dataset = tables.read_dataset(work)
    labels = tables.read_labels(work, dataset)
    assert labels["image_id"].tolist() == labels["patient"].tolist() == ["A__1", "B__1"]
    assert labels["slice"].isna().all()
    assert "given_split" not in labels
    assert dataset.patient_source == "none: each image is its own group"
    assert dataset.patient_source in result.out
    assert result.out.splitlines()[-1] == f"Next: python scripts/04_check_data.py --dataset toy --root {work.root}"
    assert "--patient-regex" in result.out


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (r"^(p\d+)", r"--patient-regex '^(p\d+)' finds no patient in 1 of 2 file names (first: 'x_2')"),
        (r"^p\d(", r"--patient-regex '^p\d(' is no regular expression"),
        (r"p\d+", r"--patient-regex 'p\d+' has no group"),
    ],
)
def test_a_patient_rule_that_does_not_fit_stops(work: Workspace, make, rule: str, reason: str):
    draw(work.raw, "A/p1_1.png", "B/x_2.png")
    stops(make("--patient-regex", rule), reason)
    assert not (work.work / "labels.csv").exists()


@pytest.mark.parametrize("name", ["mask", "group", "class", "part", "file", "fold"])
def test_a_class_named_like_a_column_of_any_table_stops(work: Workspace, make, name: str):
    draw(work.raw, "A/1.png", f"{name}/2.png")
    stops(make("--layout", "folders"), f"{name!r} has the name of a column")


def test_classes_and_patients_may_be_called_like_missing_values(work: Workspace, made):
    draw(work.raw, "A/null_1.png", "NA/None_2.png")
    labels, _, dataset = made("--layout", "folders", "--patient-regex", "^([A-Za-z]+)_")
    assert dataset.labels == ["A", "NA"] and labels["NA"].tolist() == [1, 0]
    assert labels["patient"].tolist() == ["None", "null"]


def test_folders_that_are_patients_are_no_classes(work: Workspace, make):
    draw(work.raw, *(f"image{number}/1.png" for number in range(100)))
    stops(make(), "100 folders whose names differ by a number alone (image0, image1, image10 ... (97 more))", "--layout folders")
    result = make("--layout", "folders")
    assert result.code == 0 and "1 image0 = 1" in result.out and "more)" in result.out
    assert max(map(len, result.out.splitlines())) < 300, "a hundred classes are cut to a few"
    assert len(tables.read_dataset(work).labels) == 100


def test_a_table_of_many_columns_is_named_by_a_few(work: Workspace, make):
    table(work, ",".join(["picture", *(f"L{number}" for number in range(100))]) + "\n" + ",".join(["q_1", *"0" * 100]) + "\n")
    result = make("--layout", "csv")
    stops(result, "it has picture, L0, L1, L2, L3, L4, L5, L6 ... (93 more); use --image-column")


def test_images_outside_a_class_folder_stop(work: Workspace, make):
    draw(work.raw, "A/1.png", "B/2.png")
    draw(work.raw, "3.png")
    stops(make("--layout", "folders"), "1 image(s) lie in no class folder (first: 3.png)")


def yolo(work: Workspace) -> None:
    draw(work.raw, "images/1_1.png", "images/1_2.png", "images/2_1.png", size=(200, 100))
    write(work.raw, "labels/1_1.txt", "1 0.5 0.5 0.5 0.25\n")
    write(work.raw, "labels/1_2.txt", "")
    write(work.raw, "data.yaml", "path: .\nnames:\n  0: EDH\n  1: SAH\n")


def test_yolo(work: Workspace, made):
    yolo(work)
    labels, boxes, dataset = made("--patient-regex", r"^(\d+)_")
    assert dataset.labels == dataset.classes == ["EDH", "SAH"]
    assert labels.loc["1_1", ["EDH", "SAH"]].tolist() == [0, 1]
    assert labels.loc["1_2", ["EDH", "SAH"]].tolist() == [0, 0], "an empty file says that there is nothing"
    assert labels.loc["2_1", ["EDH", "SAH"]].isna().all(), "no file says nothing"
    assert labels["annotation"].tolist() == ["labels/1_1.txt", "labels/1_2.txt", ""]
    assert boxes.to_numpy().tolist() == [["1_1", "SAH", 50, 37.5, 150, 62.5]]
    assert not (work.work / "label_problems.csv").exists()
    write(work.raw, "labels/3_1.txt", "")
    made()
    assert pd.read_csv(work.work / "label_problems.csv").to_numpy().tolist() == [["labels/3_1.txt", "no image"]]


def test_yolo_split_folders_are_kept(work: Workspace, made):
    draw(work.raw, "images/train/a.png", "valid/images/b.png")
    write(work.raw, "labels/train/a.txt", "0 0.5 0.5 0.5 0.5\n")
    write(work.raw, "valid/labels/b.txt", "")
    labels, _, dataset = made("--labels", "IPH")
    assert labels["given_split"].to_dict() == {"a": "train", "b": "val"}
    assert dataset.labels == ["IPH"]


def test_labels_beside_the_images_with_classes_txt(work: Workspace, made):
    draw(work.raw, "a.png", "b.png", size=(200, 100))
    write(work.raw, "a.txt", "1 0.5 0.5 0.5 0.25\n1 0.5 0.5 0.5 0.25\n")
    write(work.raw, "classes.txt", "EDH\nSAH\n")
    labels, boxes, _ = made()
    assert labels["SAH"].fillna(9).tolist() == [1, 9] and boxes.to_numpy().tolist() == [["a", "SAH", 50, 37.5, 150, 62.5]]
    problems = pd.read_csv(work.work / "label_problems.csv").to_numpy().tolist()
    assert problems == [["a.txt", "the same box twice: kept once"]]


def test_roboflow_and_other_case_and_a_set_in_a_folder_set(work: Workspace, made):
    for part, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        draw(work.raw, f"set/{part}/Images/{name}.png", size=(200, 100))
        write(work.raw, f"set/{part}/Labels/{name}.txt", "0 0.25 0.375 0.75 0.375 0.75 0.625\n")
    write(work.raw, "set/data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['no']\n")
    labels, boxes, dataset = made()
    assert dataset.layout == "yolo" and labels["given_split"].to_dict() == {"a": "train", "b": "val", "c": "test"}
    assert boxes["class"].tolist() == ["no"] * 3 and boxes.iloc[0, 2:].tolist() == [50, 37.5, 150, 62.5]


def test_yolo_mistakes_stop(work: Workspace, make):
    yolo(work)
    write(work.raw, "labels/1_2.txt", "2 0.5 0.5 0.1 0.1\n")
    stops(make(), "labels/1_2.txt line 1 has class 2, but there are 2 classes")
    write(work.raw, "data.yaml", "names: [EDH, SAH, IVH\n")
    stops(make(), "data.yaml is not valid YAML")
    (work.raw / "data.yaml").unlink()
    stops(make(), "no data.yaml with class names")
    assert not (work.work / "labels.csv").exists()


@pytest.mark.parametrize("names", [("images", "masks"), ("image", "mask"), ("Images", "Ground truths")])
def test_images_and_masks_without_a_table(work: Workspace, made, names):
    draw(work.raw, *(f"{names[0]}/{name}.png" for name in "abcd"))
    draw(work.raw, f"{names[1]}/a.png")
    for name, value in (("b", 1), ("c", 0)):
        Image.new("L", (8, 6), value).save(work.raw / names[1] / f"{name}.png")
    (work.raw / names[1] / "a.png").write_bytes(b"broken")
    labels, _, dataset = made()
    assert (dataset.layout, dataset.labels) == ("masks", ["lesion"])
    assert labels["lesion"].fillna(9).to_dict() == {"a": 9, "b": 1, "c": 0, "d": 9}
    assert labels["mask"].tolist() == [f"{names[1]}/{name}.png" for name in "abc"] + [""]


def test_two_masks_of_one_image_stop(work: Workspace, make):
    draw(work.raw, "images/a.png", "masks/a.png", "masks/a_mask.png")
    stops(make(), "images/a.png has two masks, masks/a.png and masks/a_mask.png; join them")


def test_masks_in_class_folders_are_no_images(work: Workspace, made):
    draw(work.raw, "benign/benign (1).png", "benign/benign (1)_mask.png", "normal/normal (1).png")
    labels, _, dataset = made()
    assert (dataset.layout, dataset.labels, len(labels)) == ("folders", ["benign", "normal"], 2)
    assert labels["mask"].tolist() == ["benign/benign (1)_mask.png", ""]


@pytest.mark.parametrize("copy", ["brain", "brain/copy", "yes/brain"])
def test_a_set_copied_into_itself_stops(work: Workspace, make, copy):
    draw(work.raw, "yes/1.png", "no/1.png", f"{copy}/yes/1.png", f"{copy}/no/1.png")
    stops(make(), "which is a class beside it", "take one of the two away")
    shutil.rmtree(work.raw / copy)
    assert make().code == 0


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".jfif", ".jpe", ".JPG", ".PNG", ".tiff", ".BMP", ".ppm"])
def test_every_suffix_of_an_image_is_read(work: Workspace, made, suffix):
    (work.raw / "no").mkdir(parents=True)
    for name in "ab":
        Image.new("L", (8, 6)).save(work.raw / "no" / f"{name}.png")
    draw(work.raw, "yes/1.png")
    Image.new("RGB", (8, 6)).save(work.raw / "yes" / f"2{suffix}", "JPEG" if suffix in (".jfif", ".jpe") else None)
    labels, _, _ = made()
    assert labels["yes"].to_dict() == {"a": 0, "b": 0, "1": 1, "2": 1}


def test_what_is_left_out_is_counted(work: Workspace, make):
    draw(work.raw, "yes/1.png", "no/1.png")
    for name in ("yes/2.heic", "yes/3.HEIC", "no/Thumbs.db", "README.md"):
        write(work.raw, name, "x")
    assert "not used: 2 .heic, 1 .db (first: no/Thumbs.db)" in make().out


@pytest.mark.parametrize("suffix", [".tif", ".gif"])
def test_files_of_several_pictures_stop(work: Workspace, make, suffix):
    draw(work.raw, "yes/1.png", "no/1.png")
    pages = [Image.new("L", (8, 6), 60 * number) for number in range(3)]
    pages[0].save(work.raw / "yes" / f"2{suffix}", save_all=True, append_images=pages[1:])
    stops(make(), f"yes/2{suffix} holds 3 pictures", "write one file for each")
    assert not (work.work / "labels.csv").exists()


def table(work: Workspace, text: str) -> None:
    draw(work.raw, "images/a_1.png", "images/a_2.png", "images/b_1.png")
    write(work.raw, "truth.csv", text)


def test_csv(work: Workspace, made):
    table(work, "\ufeffimage,patient,IVH,SAH,sex,position\na_1.png,007,1,-1,F,0.5\na_2,007,1.0,,F,\nimages/b_1.png,8,0,0,,1\n")
    draw(work.raw, "masks/a_1.png")
    labels, _, dataset = made()
    assert dataset.labels == ["IVH", "SAH"]
    assert labels["IVH"].tolist() == [1, 1, 0]
    assert labels["SAH"].fillna(9).tolist() == [9, 9, 0]
    assert labels["patient"].tolist() == ["007", "007", "8"]
    assert labels["slice"].tolist() == [1, 2, 1]
    assert labels["image"].tolist() == ["images/a_1.png", "images/a_2.png", "images/b_1.png"]
    assert labels["position"].isna().tolist() == [False, True, False]
    assert dataset.patient_source == "column patient"
    assert tables.read_patients(work)["sex"].fillna("?").tolist() == ["F", "?"]


def test_csv_flags(work: Workspace, made):
    table(work, "file_id,who,A,B,slice,mask,split,note\na_1,x,1,0,9,a_1,Train,first\nb_1,y,0,1,,,test,second\n")
    draw(work.raw, "masks/a_1.png", "a_1.png")
    words = ("--image-column", "file_id", "--patient-column", "who", "--labels", "A,B", "--exclusive", "--csv", "truth.csv")
    labels, _, dataset = made(*words)
    assert dataset.exclusive
    assert labels["slice"].fillna(-9).tolist() == [9, -9]
    assert labels["mask"].tolist() == ["masks/a_1.png", ""]
    assert labels["given_split"].tolist() == ["train", "test"]
    assert labels["patient"].tolist() == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no rows"),
        ('image,IVH\n"a_1,0\n', "cannot be read as CSV"),
        ("image,IVH\n", "has no rows"),
        ("image,IVH\na_1,0\na_2,maybe\n", "column IVH, row 3 is 'maybe'"),
        ("image,IVH\na_1,2\n", "column IVH, row 2 is '2'"),
        ("picture,IVH\nq_1,0\n", "no column image / filename / image_id; it has picture, IVH"),
        ("image,age\na_1,70\n", "has no label column"),
        ("image,IVH\na_1,0\na_1.png,1\n", "1 image(s) twice with different labels (first: images/a_1.png, rows 2 and 3)"),
        ("image,IVH,IVH\na_1,0,1\n", "has the column IVH twice"),
        ("image,IVH\na_1,0.5\n", "column IVH, row 2 is '0.5'"),
        ("image,IVH\na_1,0\nzz,1\nyy,1\n", "(first: zz, yy); add them, or continue without them with --skip-missing"),
        ("image,IVH\nzz,1\n", "(first: zz; a file there: images/a_1.png); add them, or name the column of the images with"),
        ("image,IVH\np9/a_1,1\n", "(first: p9/a_1; files of this name: images/a_1.png); write the path"),
        ("image,IVH,mask\na_1,0,images/a_1.png\n", "1 image(s) are their own mask (first: images/a_1.png)"),
        ("image,IVH,patient\na_1,0,\n", "column patient is empty for 1 image(s)"),
        ("image,IVH,slice\na_1,0,first\n", "column slice is 'first'"),
        ("image,IVH,split\na_1,0,holdout\n", "column given_split is 'holdout'"),
        ("image,IVH,mask\na_1,0,none.png\n", "1 of 1 masks are not in"),
        ("../images/a_1,IVH\n", "no rows"),
    ],
)
def test_csv_mistakes_stop(work: Workspace, make, text: str, reason: str):
    table(work, text)
    stops(make("--layout", "csv"), reason)
    assert not (work.work / "labels.csv").exists()


def test_csv_rows_without_an_image_can_be_left_out(work: Workspace, make):
    table(work, "image,IVH\na_1,0\nzz,1\n")
    result = make("--skip-missing")
    assert result.code == 0
    assert "1 of 2 images not found and left out (first: zz)" in result.out
    assert tables.read_labels(work, tables.read_dataset(work))["image_id"].tolist() == ["a_1"]


def test_csv_images_in_another_folder_are_found_by_name(work: Workspace, make):
    """One file of the name is taken, and never a mask; of two with one name none, and no row is left out without the wish."""
    draw(work.raw, "png/p1/a_1.png", "png/p1/a_2.png", "Masks/a_1.png")
    write(work.raw, "truth.csv", "image,IVH\na_1.png,0\np1\\a_2,1\n")
    result = make()
    assert "2 of 2 images were found in another folder (first: a_1.png is png/p1/a_1.png)" in result.out
    labels = tables.read_labels(work, tables.read_dataset(work))
    assert labels[["image", "IVH"]].to_numpy().tolist() == [["png/p1/a_1.png", 0], ["png/p1/a_2.png", 1]]
    draw(work.raw, "small/p1/a_1.png")
    stops(
        make(), "1 of 2 images are not in", "files of this name: png/p1/a_1.png, small/p1/a_1.png", "write the path", "--skip-m"
    )
    write(work.raw, "truth.csv", "image,IVH\na_1.png,0\n")
    for words in ((), ("--skip-missing",)):
        result = make(*words)
        stops(result, "1 of 1 images are not in")
        assert "--skip-missing" not in result.err, "nothing would be left"


def test_a_mask_is_never_taken_for_its_image(work: Workspace, make):
    draw(work.raw, "masks/a_1.png", "png/b_1.png")
    write(work.raw, "truth.csv", "image,IVH\na_1,0\nb_1,1\n")
    stops(
        make(),
        "1 of 2 images are not in",
        "first: a_1; files of this name: masks/a_1.png); write the path of the right image",
    )


def test_images_that_the_conversion_passed_over_are_told(work: Workspace, make):
    table(work, "image,IVH\na_1,0\nimages/x.9.png,1\nzz,1\n")
    write(work.raw, "conversion/bad_files.csv", "file,problem\nseries/x.9.dcm,is empty\nb_1.dcm,a localizer\n")
    stops(make(), "2 of 3 images", "; 1 of them were skipped by the conversion", "conversion/bad_files.csv says why")
    assert "1 of them were skipped" in make("--skip-missing").out
    problems = pd.read_csv(work.work / "label_problems.csv").set_index("name")["problem"]
    assert problems["zz"] == "no file" and problems["images/x.9.png"].endswith("see conversion/bad_files.csv")


@pytest.mark.parametrize("mark", [";", "\t"])
def test_csv_with_other_separators(work: Workspace, made, mark: str):
    table(work, "image,patient,IVH,SAH\na_1,007,1,-1\nb_1,8,0,0\n".replace(",", mark))
    labels, _, dataset = made()
    assert dataset.labels == ["IVH", "SAH"] and labels["patient"].tolist() == ["007", "8"]
    assert labels[["IVH", "SAH"]].fillna(9).to_numpy().tolist() == [[1, 9], [0, 0]]


def test_a_column_twice_stops_with_any_separator(work: Workspace, make):
    table(work, "image;IVH;IVH\na_1;0;1\n")
    stops(make(), "has the column IVH twice")


@pytest.mark.parametrize(
    ("header", "words", "line"),
    [
        (
            "image,age,fold,PatientID,IVH",
            (),
            "age, fold, PatientID; if one of them names the patient: --patient-column PatientID",
        ),
        ("image,age,fold,PatientID,IVH", ("--patient-column", "PatientID"), "fold"),
        ("image,age,fold,patient,IVH", (), "fold"),
        ("image,age,path,who,IVH", ("--labels", "IVH"), "age, path, who; if one of them names the patient: --patient-column who"),
        ("image,age,file,path,IVH", (), "age, file, path"),
        ("image,slice,split,patient,IVH", (), None),
    ],
)
def test_columns_that_are_not_used_are_told_once(work: Workspace, make, header: str, words: tuple, line: str | None):
    table(work, f"{header}\na_1,7,train,P1,1\n")
    result = make(*words)
    assert result.code == 0, result.err
    told = [each.removeprefix("columns not used: ") for each in result.out.splitlines() if each.startswith("columns not used")]
    assert told == ([line] if line else [])


def test_columns_that_the_conversion_adds_are_no_unused_ones(work: Workspace, make):
    table(work, "image,IVH\na_1,1\n")
    write(work.raw, "slices.csv", "image,patient,study,file\nimages/a_1.png,P1,S1,a.dcm\n")
    assert "columns not used" not in make().out
    write(work.raw, "slices.csv", "image,patient,study,file,IVH\nimages/a_1.png,P1,S1,a.dcm,1\n")
    result = make("--csv", "slices.csv")
    assert result.code == 0 and "columns not used" not in result.out


def test_a_patient_column_that_is_not_there_names_those_of_the_file(work: Workspace, make):
    table(work, "image,IVH,PatientID\na_1,0,P1\n")
    result = make("--patient-column", "pat")
    stops(result, "has no column pat; beside the labels it has image, PatientID; correct --patient-column")
    assert "_path" not in result.err and "_name" not in result.err


def test_csv_repeated_rows_with_equal_labels_are_one(work: Workspace, make):
    table(work, "image,IVH\na_1,1\na_1.png,1.0\n")
    assert "1 row(s) repeat an image with the same labels and are left out (first: a_1.png)" in make().out
    assert tables.read_labels(work, tables.read_dataset(work))["IVH"].tolist() == [1]


def test_what_does_not_fit_together_is_listed(work: Workspace, make):
    table(work, "image,IVH,mask\na_1,0,a_1\na_1,0,a_1\nzz,1,\n")
    draw(work.raw, "masks/a_1.png", "masks/a_2.png")
    result = make("--skip-missing")
    assert "label_problems.csv: 1 no file, 1 listed twice, 2 no row in the table" in result.out
    listed = pd.read_csv(work.work / "label_problems.csv")
    assert listed.to_numpy().tolist() == [
        *(["zz", "no file"], ["a_1", "listed twice"]),
        *(["images/a_2.png", "no row in the table"], ["images/b_1.png", "no row in the table"]),
    ]
    write(work.raw, "truth.csv", "image,IVH\na_1,0\na_2,1\nb_1,1\n")
    assert make().code == 0
    assert not (work.work / "label_problems.csv").exists(), "the list of an earlier run is gone"


def test_what_is_known_of_converted_slices_joins_any_table(work: Workspace, made):
    table(work, "image,IVH,position\na_1,0,7\nb_1,1,8\n")
    write(work.raw, "slices.csv", "image,patient,slice,spacing_row,position,group\nimages/b_1.png,P2,4,0.5,1.5,S9\n"
          "images/a_1.png,P1,3,0.4,2.5,S8\n")  # fmt: skip
    labels, _, dataset = made()
    assert (dataset.labels, dataset.patient_source) == (["IVH"], "column patient")
    assert labels.loc["a_1", ["patient", "slice", "spacing_row", "group"]].tolist() == ["P1", 3, 0.4, "S8"]
    assert labels.loc["b_1", ["patient", "position"]].tolist() == ["P2", 8], "the table's own column stays"


def test_csv_rows_that_are_not_one_hot_stop_under_exclusive(work: Workspace, make):
    table(work, "image,A,B\na_1,1,1\n")
    stops(make("--exclusive"), "exclusive classes must add up to 1")


def test_several_csv_files_must_be_told_apart(work: Workspace, make):
    table(work, "image,IVH\na_1,0\n")
    write(work.raw, "other.csv", "image,SAH\na_1,0\n")
    stops(make(), "several CSV files (other.csv, truth.csv)", "--csv FILE")
    stops(make("--csv", "none.csv"), "none.csv is missing")
    assert make("--csv", "other.csv").code == 0


def test_a_flag_that_the_layout_does_not_know_stops(work: Workspace, make):
    draw(work.raw, "A/1.png", "B/2.png")
    stops(make("--patient-column", "who"), "--patient-column has no meaning for layout folders")
    stops(make("--image-set", "jpg"), "--image-set has no meaning")


def test_a_folder_that_is_no_data_set_stops(work: Workspace, make):
    stops(make(), "data/raw/toy is missing", "scripts/01_get_data.py")
    write(work.raw, "README.txt", "nothing here")
    stops(make(), "has no layout that is known here")
    for layout in ("phe-sich", "folders", "yolo", "csv"):
        stops(make("--layout", layout), "toy")


def test_a_full_disk_leaves_the_earlier_tables(work: Workspace, make, monkeypatch: pytest.MonkeyPatch):
    draw(work.raw, "A/1.png", "B/2.png")
    assert make().code == 0
    before = (work.work / "labels.csv").read_bytes()
    draw(work.raw, "B/3.png")

    def full(self: pd.DataFrame, path: Path, **_: object) -> None:
        path.write_text("image_id,pat")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    stops(make(), "No space left on device", "run the same command again")
    assert (work.work / "labels.csv").read_bytes() == before
    assert not list(work.work.glob(".tmp-*"))


def test_the_same_call_is_up_to_date_until_an_image_is_added(work: Workspace, make):
    draw(work.raw, "A/1.png", "B/2.png")
    make()
    assert "up to date" in make("--skip-if-done").out
    draw(work.raw, "B/3.png")
    assert "up to date" not in make("--skip-if-done").out


def test_real_phe_sich(work: Workspace, run_step, made, real_data: Path):
    work.raw.parent.mkdir(parents=True)
    work.raw.symlink_to(real_data / "PHE-SICH-CT-IDS")
    assert run_step(MERGE, "--root", work.root, "--dataset", work.dataset).code == 0
    labels, boxes, dataset = made()
    assert (len(labels), int(labels["hemorrhage"].sum()), len(boxes)) == (2947, 604, 604)
    assert (labels["patient"].nunique(), int((labels["mask"] != "").sum())) == (100, 2914)
    assert labels.loc[labels["patient"] == "0070", "mask"].eq("").all()
    assert labels.loc["0071_05", "mask"] == ""
    assert boxes.set_index("image_id").loc["0026_11"].tolist() == ["a", 235, 188, 315, 258]
    assert dataset.image_size == [512, 512]


def test_real_class_folders_and_yolo(work: Workspace, made, real_data: Path):
    work.raw.parent.mkdir(parents=True)
    work.raw.symlink_to(real_data / "chest-xray")
    labels, _, dataset = made("--layout", "folders", "--patient-regex", r"^(person\d+|(?:NORMAL2-)?IM-\d+)")
    assert (len(labels), dataset.labels, dataset.exclusive) == (800, ["NORMAL", "PNEUMONIA"], True)
    assert set(labels["given_split"]) == {"train", "test"}
    work.raw.unlink()
    work.raw.symlink_to(real_data / "ich-subtypes-yolo")
    labels, _, dataset = made("--layout", "yolo", "--patient-regex", r"^(\d+)_")
    assert (len(labels), dataset.labels) == (355, ["EDH", "IPH", "IVH", "SAH", "SDH"])
    assert labels[dataset.labels].notna().all(axis=None)


def test_class_folders_in_two_spellings_are_one_class(work: Workspace, made):
    draw(work.raw, "train/NORMAL/1.png", "train/Normal /2.png", "train/normal/3.png", "test/ICH/4.png")
    labels, _, dataset = made("--layout", "folders")
    assert len(dataset.labels) == 2 and labels["ICH"].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("corner", "reason"),
    [("1e308", "is '1e308', not a number"), ("1_0", "'1_0'"), ("-inf", "'-inf'"), ("5,5", None), (" 7 ", None)],
)
def test_corners_that_are_no_pixels_drop_the_annotation(work: Workspace, run_step, corner: str, reason: str | None):
    draw(work.raw, "1.png", "2.png")
    write(work.raw, "1.xml", f"<annotation>{BOX.format('a', corner)}</annotation>")
    write(work.raw, "2.xml", f"<annotation>{BOX.format('a', 5)}</annotation>")
    result = run_step(MERGE, "--root", work.root, "--dataset", work.dataset)
    assert result.code == 0 and ("1 dropped" in result.out) == (reason is not None) and (reason or "") in result.out


def test_names_that_no_file_or_table_can_have_stop(work: Workspace, make):
    table(work, f"image,{'L' * 300}\na_1,1\n")
    stops(make(), "has 300 letters, too many for a file")
    write(work.raw, "truth.csv", "image,IVH\na_1,1\n")
    odd = os.fsencode(work.raw) + b"/\xe4.png"
    os.rename(os.fsencode(work.raw / "images" / "b_1.png"), odd)
    stops(make(), "is not in UTF-8; rename it")
    os.unlink(odd)
    assert make().code == 0
