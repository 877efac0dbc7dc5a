"""Layouts: recognised by file names; identifiers and XML-to-image matches that are never guessed."""

from pathlib import Path

import pytest
from PIL import Image

from hemoct.base.errors import UserError
from hemoct.ingest import beside, layouts, table_text


def touch(folder: Path, *names: str, text: str = "") -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_each_layout_is_recognised(tmp_path: Path):
    base = "PHE/SubdatasetC_PNG"
    phe = touch(
        tmp_path / "phe",
        f"{base}/set/image1/0001_00.png",
        f"{base}/label/label1/0001_00.png",
        f"{base}/annotation/annotation1/a.xml",
    )
    voc = touch(touch(tmp_path / "voc", "JPEGImages/a.jpg"), "Annotations/a.xml", text="<annotation/>")
    yolo = touch(tmp_path / "yolo", "train/images/a.jpg", "train/labels/a.txt")
    folders = touch(tmp_path / "folders", "train/SICK/a.jpeg", "val/WELL/b.jpeg")
    table = touch(touch(tmp_path / "table", "images/a.png"), "truth.csv", text="image,IVH\na.png,1\n")
    rsna = touch(tmp_path / "rsna", "stage_2_train/ID_1.dcm", "stage_2_test/ID_2.dcm")
    touch(rsna, "stage_2_train.csv", "stage_2_sample_submission.csv", text="ID,Label\nID_1_any,0\n")
    found = {folder.name: layouts.recognise(folder).layout for folder in (phe, voc, yolo, folders, table, rsna)}
    assert found == {
        **{"phe": "phe-sich", "voc": "voc", "yolo": "yolo", "folders": "folders", "table": "csv"},
        "rsna": "rsna",
    }
    assert layouts.recognise(touch(tmp_path / "renamed", "a/ID_1.png")) is None
    assert layouts.recognise(touch(tmp_path / "renamed", "train (1).csv", text="ID,Label\nID_1_any,0\n")).layout == "rsna"
    assert "RSNA 2019 labels: stage_2_train.csv; 2 images" in layouts.recognise(rsna).summary
    assert "1 slices of 1 patients, 1 masks, 1 annotations" in layouts.recognise(phe).summary
    assert "2 classes (SICK, WELL); train, val" in layouts.recognise(folders).summary


def test_what_is_no_data_set_is_not_recognised(tmp_path: Path):
    assert layouts.recognise(touch(tmp_path / "text", "README.md", "scan.dcm")) is None
    assert layouts.recognise(touch(tmp_path / "images", "a.png", "b.png")) is None
    assert layouts.recognise(touch(tmp_path / "roles", "images/a.png", "masks/b.png")) is None
    assert layouts.recognise(touch(tmp_path / "other_xml", "a.png", "a.xml", text="<html/>")) is None
    with pytest.raises(UserError, match="no layout that is known here"):
        layouts.choose(tmp_path / "text", [], "auto")


def test_a_link_to_a_folder_above_does_not_loop(tmp_path: Path):
    touch(tmp_path, "A/a.png", "B/b.png", ".hidden/c.png", "__MACOSX/A/a.png")
    (tmp_path / "A" / "up").symlink_to(tmp_path)
    assert layouts.list_files(tmp_path) == [Path("A/a.png"), Path("B/b.png")]


def test_a_broken_link_and_a_folder_that_cannot_be_read_stop(tmp_path: Path):
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(UserError, match=r"1 link\(s\) in .* lead nowhere \(first: a\.png\)"):
        layouts.list_files(tmp_path)
    with pytest.raises(UserError, match="cannot be listed"):
        layouts.list_files(tmp_path / "gone")


def test_shared_folders_above_the_classes_are_skipped():
    placed = layouts.class_folders([Path("x/x/train/A/1.png"), Path("x/x/Valid/B/deep/2.png"), Path("x/x/test/3.png")])
    assert list(placed.values()) == [("A", "train"), ("B", "val"), ("", "test")]
    one_split = layouts.class_folders([Path("train/A/1.png"), Path("train/B/2.png")])
    assert list(one_split.values()) == [("A", "train"), ("B", "train")]


def numbered(folder: Path, names: list[str]) -> Path:
    return touch(folder, *(f"{name}/{place}.png" for place, name in enumerate(names)))


@pytest.mark.parametrize(
    ("names", "refused"),
    [
        ([f"image{number}" for number in range(1, 12)], True),
        ([f"{number:04d}" for number in range(11)], True),
        ([f"P{number}_ct" for number in range(20)] + ["other"], True),
        ([f"grade{number}" for number in range(10)], False),
        ([f"class_{letter}" for letter in "abcdefghijklm"], False),
    ],
)
def test_many_folders_that_differ_by_a_number_are_patients(tmp_path: Path, names: list[str], refused: bool):
    folder = numbered(tmp_path / "raw", names)
    listing = layouts.list_files(folder)
    if refused:
        with pytest.raises(UserError, match=rf"{len(names)} folders whose names differ by a number alone .* --layout folders"):
            layouts.choose(folder, listing, "auto")
    else:
        assert layouts.choose(folder, listing, "auto") == "folders"
    assert layouts.choose(folder, listing, "folders") == "folders", "who says so means classes"
    (folder / "truth.csv").write_text("file;IVH\n")
    assert layouts.recognise(folder).layout == ("csv" if refused else "folders"), "the labels of patients are in a table"


def test_a_summary_names_a_few_of_many_classes(tmp_path: Path):
    folder = numbered(tmp_path, [f"class_{letter}" for letter in "abcdefghi"])
    assert layouts.recognise(folder).summary.endswith(
        "9 classes (class_a, class_b, class_c, class_d, class_e, class_f ... (3 more))"
    )


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/images/a.b.jpg", "images/labels/a.b.txt"),
        ("images/train/a.jpg", "labels/train/a.txt"),
        ("train/images/a.jpg", "train/labels/a.txt"),
        ("Images/a.JPG", "Labels/A.TXT"),
        ("IMAGES/a.jpg", "labels/a.txt"),
        ("a.jpg", "a.txt"),
        ("obj/a.jpg", "obj/a.txt"),
        ("images/a.jpg", "images/a.txt"),
    ],
)
def test_the_label_file_of_an_image(image, label):
    assert beside.yolo_labels([Path(image), Path(label)]) == {Path(image): Path(label)}
    assert beside.yolo_labels([Path(image), Path("labels/b.txt")]) == {Path(image): None}


def test_the_label_file_in_the_same_case_and_in_labels_comes_first():
    listing = [Path(name) for name in ("images/a.png", "images/A.png", "images/a.txt", "labels/A.txt", "labels/a.txt")]
    assert beside.yolo_labels(listing) == {listing[0]: listing[4], listing[1]: listing[3]}


@pytest.mark.parametrize(
    ("text", "layout"),
    [("0 0.5 0.5 0.1 0.1\n", "yolo"), ("\ufeff0.0 0.5 0.5 0.1 1e-3\n", "yolo"), ("left 3 4 5 6\n", None), ("", None)],
)
def test_texts_beside_images_are_labels_if_they_look_so(tmp_path: Path, text: str, layout: str | None):
    touch(touch(tmp_path, "a.png", "b.png", "b.txt"), "a.txt", text=text)
    found = layouts.recognise(tmp_path)
    assert (found and found.layout) == layout
    touch(tmp_path, "a.xml", text="<annotation/>")
    assert layouts.recognise(tmp_path).layout == "voc"


@pytest.mark.parametrize(
    ("header", "mark"),
    [
        ("image,IVH", ","),
        ("\ufeffimage;IVH", ";"),
        ('image;"IVH, any";SAH', ";"),
        ("image\tIVH", "\t"),
        ("image", ","),
        ("", ","),
    ],
)
def test_the_separator_is_told_by_the_header(tmp_path: Path, header: str, mark: str):
    (tmp_path / "truth.csv").write_text(f"{header}\na_1;1,0\n" if header else "", encoding="utf-8")
    assert table_text.separator(tmp_path / "truth.csv") == mark


def test_a_table_with_semicolons_is_no_less_a_table(tmp_path: Path):
    for name in ("A/1.png", "B/2.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name)
    (tmp_path / "truth.csv").write_text("image;IVH\n1;0\n2;1\n")
    assert layouts.recognise(tmp_path).layout == "csv"


def test_equal_stems_take_their_folders_and_equal_paths_stop():
    assert layouts.image_ids([Path("A/1.png"), Path("B/2.png")]) == ["1", "2"]
    assert layouts.image_ids([Path("A/1.png"), Path("B/1.png")]) == ["A__1", "B__1"]
    with pytest.raises(UserError, match=r"A/1\.jpg and A/1\.png have the same identifier"):
        layouts.image_ids([Path("A/1.jpg"), Path("A/1.png")])
    with pytest.raises(UserError, match=r"2 image\(s\) are not named NNNN_MM"):
        layouts.phe_ids([Path("set/image1/a.png"), Path("set/image1/b.png")])


def test_real_folders_are_recognised(real_data: Path):
    found = {folder.name: layouts.recognise(folder) for folder in real_data.iterdir() if folder.is_dir()}
    assert found["PHE-SICH-CT-IDS"].layout == "phe-sich"
    assert found["chest-xray"].layout == "folders"
    assert found["ich-subtypes-yolo"].layout == "yolo"
    assert found["head-ct-dicom"] is None


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.png", "masks/a.png"),
        ("image/a.png", "mask/a.tif"),
        ("Images/1.JPG", "Masks/1_mask.png"),
        ("data/a.png", "data/label/a.png"),
        ("images/a.png", "ground truths/a.png"),
        ("JPEGImages/a.jpg", "SegmentationClass/a.png"),
        ("train/images/a.png", "train/masks/a.png"),
        ("a.png", "a_mask.png"),
        ("benign/benign (1).png", "benign/benign (1)_mask.png"),
        ("images/p/a.png", "labels/p/a_label.png"),
    ],
)
def test_the_image_of_a_mask(image, mask):
    other = Path(image).with_name("other.png")
    assert beside.masks_of([Path(image), other, Path(mask)]) == {Path(mask): Path(image)}


def test_masks_of_other_folders_and_other_names_have_no_image():
    assert beside.masks_of(map(Path, ["p1/images/a.png", "p2/masks/a.png", "images/b.png", "masks/c.png", "mask.png"])) == {}
