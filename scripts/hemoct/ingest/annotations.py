"""Boxes in files: VOC XML read safely, matched with its image, repaired and written.

VOC integers are copied unchanged: zero-based pixels, width = xmax - xmin. In PHE-SICH-CT-IDS a box encloses the bleeding
together with its edema.
"""

import hashlib
import re
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import starmap
from pathlib import Path

from lxml import etree
from lxml.builder import E

from hemoct.base import files, pixels, tables
from hemoct.base.errors import UserError
from hemoct.ingest import layouts, phe_sich

DROPPED = "dropped"
DOUBTFUL = "kept"
FARTHEST = 1e6  # pixels: no image is so wide
CORNERS = ("xmin", "ymin", "xmax", "ymax")
PARSER = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
Size = tuple[int, int, int]


class AnnotationError(ValueError):
    """An annotation that cannot be used; the message says why, in one line, without the name of the file."""


@dataclass(frozen=True)
class Box:
    """One object: class name and corners in pixels, zero-based, width = xmax - xmin."""

    name: str
    xmin: float
    ymin: float
    xmax: float
    ymax: float
    truncated: str = "0"
    difficult: str = "0"


@dataclass(frozen=True)
class Annotation:
    """The content of a VOC XML: the boxes of one image."""

    filename: str
    """content of <filename>, "" if there is none"""
    size: Size | None
    """width, height, channels; None without <size>"""
    boxes: list[Box] = field(default_factory=list)
    source: str = ""
    """content of <source><annotation>: in a merged file the path of the file from which it was made"""


@dataclass(frozen=True)
class Repair:
    """One row of repairs.csv. `repair` begins with DROPPED when the annotation could not be used."""

    file: str
    problem: str
    repair: str

    @property
    def dropped(self) -> bool:
        return self.repair.startswith(DROPPED)


def image_header(path: Path) -> Size:
    """Width, height and channels of an image as all steps see it; nothing is decoded. Raises AnnotationError if it is none."""
    try:
        return pixels.header(path)
    except OSError as error:
        raise AnnotationError(f"the image {path.name} cannot be read ({error})") from None


def read_voc(path: Path) -> Annotation:
    """Read a VOC XML. Entities and network are off; a DOCTYPE that defines or loads anything is refused.

    Raises AnnotationError if it is no VOC XML or one of its boxes cannot be used.
    """
    root = _parse(path)
    if root.tag != "annotation":
        raise AnnotationError(f"the root element is <{root.tag}>, not <annotation>")
    size = tuple(_whole(root.findtext(f"size/{name}")) for name in ("width", "height", "depth"))
    return Annotation(
        filename=(root.findtext("filename") or "").strip(),
        size=size if size[0] and size[1] else None,
        boxes=[_box(number, element) for number, element in enumerate(root.iterfind("object"), start=1)],
        source=(root.findtext("source/annotation") or "").strip(),
    )


def _parse(path: Path) -> etree._Element:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AnnotationError(f"cannot be read ({error.strerror})") from None
    try:
        root = etree.fromstring(content, PARSER)
    except etree.XMLSyntaxError as error:
        # The parser may stop inside an entity bomb before there is a document.
        if b"<!ENTITY" in content:
            raise AnnotationError("a DOCTYPE with entities is not accepted") from None
        raise AnnotationError(f"not XML ({error.msg})") from None
    document = root.getroottree().docinfo
    if document.system_url or (document.internalDTD is not None and any(True for _ in document.internalDTD.iterentities())):
        raise AnnotationError("a DOCTYPE with entities is not accepted")
    return root


def _whole(text: str | None) -> int:
    """A size as a whole number; 0 for anything else."""
    return int(text) if text and re.fullmatch(r"\s*[0-9]{1,9}\s*", text) else 0


def _box(number: int, element: etree._Element) -> Box:
    """Read one <object>. Raises an AnnotationError with the number of the object in the file."""
    name = (element.findtext("name") or "").strip()
    if not name:
        raise AnnotationError(f"object {number} has no <name>")
    if element.find("bndbox") is None:
        raise AnnotationError(f"object {number} has no <bndbox>")
    corners = [_pixel(number, corner, element.findtext(f"bndbox/{corner}")) for corner in CORNERS]
    for low, high in ((0, 2), (1, 3)):
        if corners[high] < corners[low]:
            raise AnnotationError(f"object {number} is reversed: {CORNERS[high]} {corners[high]} < {CORNERS[low]} {corners[low]}")
    return Box(name, *corners, element.findtext("truncated") or "0", element.findtext("difficult") or "0")


def _pixel(number: int, corner: str, text: str | None) -> float:
    """A whole number stays an int, so that it is written back unchanged."""
    value = tables.number(text or "")
    if not abs(value) < FARTHEST:
        raise AnnotationError(f"object {number}: <{corner}> is {text!r}, not a number")
    return int(value) if value.is_integer() else value


def write_voc(path: Path, annotation: Annotation) -> None:
    """Write a VOC XML as LabelImg does. Not atomic: write into `files.replacing` or `files.replacing_folder`."""
    size = zip(("width", "height", "depth"), map(str, annotation.size or ()), strict=False)
    root = E(
        "annotation",
        E("filename", annotation.filename),
        E("source", E("annotation", annotation.source)),
        *([E("size", *starmap(E, size))] if annotation.size else []),
        E("segmented", "0"),
        *map(_object, annotation.boxes),
    )
    path.write_bytes(etree.tostring(root, pretty_print=True, xml_declaration=True, encoding="utf-8"))


def _object(box: Box) -> etree._Element:
    corners = [E(corner, str(getattr(box, corner))) for corner in CORNERS]
    facts = E("name", box.name), E("truncated", box.truncated), E("difficult", box.difficult)
    return E("object", *facts, E("bndbox", *corners))


def repaired(annotation: Annotation, image: str, size: Size, source: str) -> tuple[Annotation, list[Repair]]:
    """Make <filename> and <size> agree with the image; returns the new annotation and what was changed.

    `image`: the file name of the image; `source`: the file the annotation was read from. Boxes are never changed: nobody knows
    to which of two sizes they belong; one object written twice is one.
    """
    once: dict[tuple, Box] = {}
    for box in annotation.boxes:
        once.setdefault((box.name, *(getattr(box, corner) for corner in CORNERS)), box)
    boxes = list(once.values())
    content = {
        "filename": (annotation.filename, image),
        "size": tuple(" x ".join(map(str, one or ())) for one in (annotation.size, size)),
    }
    repairs = [
        Repair(source, f"wrong <{tag}>: {old}" if old else f"no <{tag}>", f"<{tag}> set to {new}")
        for tag, (old, new) in content.items()
        if old != new
    ]
    if annotation.boxes and annotation.size and annotation.size[:2] != size[:2]:
        repairs.append(
            Repair(source, _other_size(annotation.size, size), f"{DOUBTFUL}: nobody knows to which size the boxes belong")
        )
    if twice := len(annotation.boxes) - len(boxes):
        repairs.append(Repair(source, f"same object twice: {twice} of {len(annotation.boxes)}", "each object is kept once"))
    return replace(annotation, filename=image, size=size, boxes=boxes, source=source), repairs


def _other_size(made_for: Size, size: Size) -> str:
    """What is wrong with boxes made for an image of another size; says so when it is a larger or smaller copy."""
    across, down = (old / new for old, new in zip(made_for[:2], size[:2], strict=True))
    same = abs(across - down) < 0.01 * max(across, down)
    ratio = f", {across:.3g} times the image in both directions" if same else ""
    return f"boxes of another size: made for {made_for[0]} x {made_for[1]}{ratio}, the image is {size[0]} x {size[1]} px"


@dataclass(frozen=True)
class Annotated:
    """Images by identifier, the XML files beside them, and which belongs to which. All paths relative."""

    images: dict[str, Path]
    files: list[Path]
    numbered: bool
    """names are patient and slice numbers (PHE-SICH): 013_05 is 0013_05"""

    def image_of(self, xml: Path, filename: str) -> str:
        """The identifier of the image that an XML belongs to; raises AnnotationError if that is not clear.

        The name of the XML counts before its <filename>, which often stays unchanged when files are renamed.
        """
        named = [phe_sich.phe_id(xml)] if self.numbered else [xml.stem, Path(filename.replace("\\", "/")).stem]
        for name in named:
            matches = self._by_name.get(name, [])
            near = [image for image in matches if len(matches) == 1 or _place(self.images[image]) == _place(xml)]
            if len(near) == 1:
                return near[0]
            if matches:
                images = ", ".join(str(self.images[image]) for image in matches[:3])
                raise AnnotationError(f"{len(matches)} images match: {images}")
        raise AnnotationError("no image that matches")

    def rank(self, xml: Path) -> tuple[bool, int]:
        """Sorts the files that may belong to one image: its own name first (not `name (copy)`), then the nearest folder."""
        alike = [xml.stem] if self.numbered and xml.stem in self.images else self._by_name.get(xml.stem, [])
        away = [len({*_place(self.images[image])} ^ {*_place(xml)}) for image in alike]
        return not alike, min(away, default=0)

    @cached_property
    def _by_name(self) -> dict[str | None, list[str]]:
        """The identifiers of the images by what an XML may be called."""
        index: dict[str | None, list[str]] = {}
        for image_id, path in self.images.items():
            index.setdefault(image_id if self.numbered else path.stem, []).append(image_id)
        return index


def _place(path: Path) -> tuple[str, ...]:
    """The folders of a file without those that only say what kind of file it is."""
    return tuple(part for part in path.parent.parts if part.lower() not in layouts.ROLE_FOLDERS)


def annotated(raw: Path, listing: list[Path], layout: str, image_set: str | None) -> Annotated:
    """The images and XML files of a `phe-sich` or `voc` data set in `raw`."""
    if layout == "phe-sich":
        chosen = phe_sich.choose_set(raw, listing, image_set)
        images, ids, xml = chosen.images, layouts.phe_ids(chosen.images), chosen.annotations
    else:
        images, xml = layouts.voc_images(listing), layouts.only_suffix(listing, ".xml")
        ids = layouts.image_ids(images)
    return Annotated(dict(zip(ids, images, strict=True)), xml, numbered=layout == "phe-sich")


def fingerprint(raw: Path, listing: list[Path]) -> str:
    """Identifies the XML files of a data set by their names and contents: whether one was corrected since step 02."""
    digest = hashlib.sha256()
    for path in layouts.only_suffix(listing, ".xml"):
        try:
            digest.update(f"{path}\0{files.sha256(raw / path)}\n".encode(errors="surrogateescape"))
        except OSError as error:
            raise UserError(f"{raw / path} cannot be read ({error.strerror}); check the file and its permissions") from None
    return digest.hexdigest()
