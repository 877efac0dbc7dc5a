"""Annotations: VOC read safely and written back as it was, YOLO in pixels, each mistake by name."""

from pathlib import Path

import pytest
from PIL import Image

from hemoct.ingest import annotations as ingest_annotations
from hemoct.ingest.annotations import Annotation, AnnotationError, Box, Repair

OBJECT = "<object><name>a</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def voc(folder: Path, inside: str, head: str = "") -> Path:
    path = folder / "one.xml"
    path.write_text(f"{head}<annotation>{inside}</annotation>", encoding="utf-8")
    return path


def test_boxes_are_copied_unchanged(tmp_path: Path):
    """Zero-based, width = xmax - xmin: nothing is added or taken away by one."""
    read = ingest_annotations.read_voc(voc(tmp_path, OBJECT.format(235, 188, 315, 258)))
    assert read.boxes == [Box("a", 235, 188, 315, 258)]
    assert all(isinstance(getattr(read.boxes[0], corner), int) for corner in ingest_annotations.CORNERS)


def test_what_is_written_is_read_again(tmp_path: Path):
    whole = Annotation("0001_00.png", (512, 512, 1), [Box("a<b", 0, 1, 2.5, 3, "1", "1")], "annotation/0001_00.xml")
    ingest_annotations.write_voc(tmp_path / "one.xml", whole)
    assert ingest_annotations.read_voc(tmp_path / "one.xml") == whole


def test_missing_size_and_filename_are_no_error(tmp_path: Path):
    assert ingest_annotations.read_voc(voc(tmp_path, "")) == Annotation("", None, [])


@pytest.mark.parametrize(
    ("corners", "reason"),
    [
        ((10, 0, 9, 5), "object 1 is reversed: xmax 9 < xmin 10"),
        ((0, 10, 5, 9), "object 1 is reversed: ymax 9 < ymin 10"),
        ((0, 0, "wide", 5), "object 1: <xmax> is 'wide', not a number"),
        ((0, "nan", 5, 5), "object 1: <ymin> is 'nan', not a number"),
        ((0, 0, "", 5), "object 1: <xmax> is '', not a number"),
    ],
)
def test_a_box_that_cannot_be_used_says_why(tmp_path: Path, corners: tuple, reason: str):
    with pytest.raises(AnnotationError) as error:
        ingest_annotations.read_voc(voc(tmp_path, OBJECT.format(*corners)))
    assert str(error.value) == reason


def test_an_object_without_box_or_name_is_refused(tmp_path: Path):
    with pytest.raises(AnnotationError, match="object 2 has no <bndbox>"):
        ingest_annotations.read_voc(voc(tmp_path, OBJECT.format(0, 0, 1, 1) + "<object><name>a</name></object>"))
    with pytest.raises(AnnotationError, match="object 1 has no <name>"):
        ingest_annotations.read_voc(voc(tmp_path, OBJECT.format(0, 0, 1, 1).replace("<name>a</name>", "<name> </name>")))


BOMB = '<!DOCTYPE a [<!ENTITY x "x">' + "".join(f'<!ENTITY x{n} "{f"&x{n - 1 or str()};" * 10}">' for n in range(1, 12)) + "]>"


@pytest.mark.parametrize(
    ("head", "inside"),
    [
        (BOMB, "<filename>&x11;</filename>"),
        ('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]>', "<filename>&x;</filename>"),
        ('<!DOCTYPE a [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x.dtd"> %x;]>', ""),
        ('<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd">', ""),
    ],
)
def test_entities_are_refused(tmp_path: Path, head: str, inside: str):
    with pytest.raises(AnnotationError, match="DOCTYPE with entities"):
        ingest_annotations.read_voc(voc(tmp_path, inside, head))


def test_a_harmless_doctype_is_accepted(tmp_path: Path):
    assert ingest_annotations.read_voc(voc(tmp_path, "<filename>a.png</filename>", "<!DOCTYPE annotation>")).filename == "a.png"


@pytest.mark.parametrize(("text", "reason"), [("", "not XML"), ("no markup", "not XML"), ("<html/>", "root element is <html>")])
def test_what_is_no_voc_xml_is_refused(tmp_path: Path, text: str, reason: str):
    path = tmp_path / "one.xml"
    path.write_text(text)
    with pytest.raises(AnnotationError, match=reason):
        ingest_annotations.read_voc(path)


def test_each_repair_is_named_and_boxes_are_not_changed():
    boxes = [Box("a", 1, 2, 3, 4)]
    image = ("0025_05.png", (512, 512, 1), "25/5.xml")
    annotation, repairs = ingest_annotations.repaired(Annotation("5.png", None, boxes), *image)
    assert annotation == Annotation("0025_05.png", (512, 512, 1), boxes, "25/5.xml")
    assert repairs == [
        Repair("25/5.xml", "wrong <filename>: 5.png", "<filename> set to 0025_05.png"),
        Repair("25/5.xml", "no <size>", "<size> set to 512 x 512 x 1"),
    ]
    assert ingest_annotations.repaired(annotation, *image) == (annotation, [])


def test_image_header_reads_the_size_of_a_truncated_image(tmp_path: Path):
    Image.new("RGB", (60, 40)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    assert ingest_annotations.image_header(tmp_path / "cut.png") == (60, 40, 3)
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(AnnotationError, match=r"text\.png cannot be read"):
        ingest_annotations.image_header(tmp_path / "text.png")


def annotated(*images: str) -> ingest_annotations.Annotated:
    return ingest_annotations.annotated(Path("raw"), [*map(Path, images), Path("Annotations/a.xml")], "voc", None)


def test_an_xml_finds_its_image_by_name_then_by_filename():
    images = annotated("images/a.jpg", "images/b.jpg", "SegmentationClass/a.png")
    assert set(images.images) == {"a", "b"}, "what lies outside images/ is a mask"
    assert images.image_of(Path("Annotations/a.xml"), "b.jpg") == "a"
    assert images.image_of(Path("Annotations/renamed.xml"), "C:\\data\\b.jpg") == "b"
    with pytest.raises(AnnotationError, match="no image that matches"):
        images.image_of(Path("Annotations/c.xml"), "")


def test_equal_names_are_told_apart_by_folder_or_not_at_all():
    images = annotated("p1/images/a.jpg", "p2/images/a.jpg")
    assert images.image_of(Path("p2/Annotations/a.xml"), "a.jpg") == "p2__images__a"
    with pytest.raises(AnnotationError, match="2 images match"):
        images.image_of(Path("Annotations/a.xml"), "a.jpg")
