"""The report of one data set as a page: `sections` filled with what is there, each part with the commands that made it."""

import base64
import io
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup
from PIL import Image

from hemoct.base import files, label_meaning
from hemoct.base.errors import UserError, one_line
from hemoct.base.workspace import Workspace
from hemoct.evaluation import protocol, text
from hemoct.evaluation.text import Table
from hemoct.report.commands import commands
from hemoct.report.front import front
from hemoct.report.sections import SECTIONS, Section

LEFT_OUT = "LEFT OUT:"
DAMAGED = (UserError, LookupError, TypeError, ValueError, AttributeError)
"""what reading a file raises that is broken, or of another shape than anything we wrote"""
WIDE = 1000  # px; figures with more than one panel are wider and get a row of their own
SHOWN = (800, 1240)  # px that a figure, or a wide one, is drawn with inside of the page; the file itself has more
QUALITY = 72  # of WebP


@dataclass(frozen=True)
class Part:
    """A section filled with what was found."""

    title: str
    about: list[str]
    """what its metrics.json says of itself: data, folds, protocol, thresholds, notes"""
    commands: list[tuple[str, str]]
    """(command, how it ran)"""
    tables: list[tuple[str, Table]]
    figures: list[tuple[str, Path]]
    sources: list[Path]
    """files that the part was made from"""
    folded: bool = False


def collect(work: Workspace, sections: Iterable[Section] = SECTIONS) -> list[Part]:
    """The parts of `sections` for which files exist. Raises UserError when there are none."""
    parts, named = [], set()
    for section in sections:
        pattern = section.folder.format(name=work.dataset)
        above = work.root / pattern.split("*")[0]
        for folder in sorted(work.root.glob(pattern)):
            if pattern.endswith("*") and folder.name == "comparison":  # of experiments, but none itself
                continue
            part = _part(work, section, folder, section.title.format(folder=folder.relative_to(above)), named)
            if part.tables or part.figures or any(line.startswith(LEFT_OUT) for line in part.about):
                parts.append(part)
    if not parts:
        raise UserError(
            f"{work.show(work.work)} and {work.show(work.outputs)} hold nothing to report; "
            f"begin with: python scripts/03_make_labels.py --dataset {work.dataset}"
        )
    return parts


def _part(work: Workspace, section: Section, folder: Path, title: str, named: set[Path]) -> Part:
    """What a folder holds of a section; figures that are `named` already are left out, those that are shown are added.

    Of a file that is damaged it is said so, and the rest is shown.
    """
    tables, figures, sources, about, damaged = [], [], [], [], {}

    def whole(path: Path, read: Callable[[Path], Any]) -> Any:
        try:
            return read(path)
        except DAMAGED as error:
            damaged[path] = f"{LEFT_OUT} {work.show(path)}: {one_line(error)}"
            return None

    metrics = folder / "metrics.json"
    if metrics.is_file():
        about += whole(metrics, lambda path: protocol.headline(protocol.read(path))) or []
        if changed := whole(folder, partial(protocol.changed_since, work)):
            about.append(f"OUT OF DATE: {', '.join(changed)} changed since this was trained or evaluated; run its commands again")
    for file, reader, caption in section.tables:
        path = folder / file
        table = whole(path, reader) if path.exists() and path not in damaged else None
        if table and table.rows:
            tables.append((caption, table))
            sources += [path] if file else sorted(path.glob("*/metrics.json"))
    for pattern, caption in section.figures:
        for path in sorted(set(folder.glob(pattern)) - named):
            named.add(path)
            if whole(path, _picture):
                figures.append((caption or path.stem.replace("_", " ").capitalize() + ".", path))
    records = [path for pattern in section.records for path in sorted(folder.glob(pattern))]
    made = [record for path in records if (record := whole(path, files.read_json))]
    sources += [*(path for _, path in figures), *records, *damaged]
    return Part(title, [*about, *damaged.values()], commands(made), tables, figures, sources, section.folded)


def _picture(path: Path) -> bool:
    """Whether a figure is whole; raises UserError where it is not."""
    try:
        with Image.open(path) as picture:
            picture.verify()
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"no whole picture ({one_line(error)}); draw it again") from None
    return True


def sources(work: Workspace, parts: list[Part]) -> list[Path]:
    """The files that the report is made from."""
    return [*(path for part in parts for path in part.sources), *front(work).sources]


def write(work: Workspace, parts: list[Part]) -> list[Path]:
    """Write report.html (figures inside) and report.md (figures linked) to outputs/NAME."""
    dataset = work.work / "dataset.json"
    try:
        layout = files.read_json(dataset)["layout"] if dataset.is_file() else None
    except UserError:  # the section of the data says so
        layout = None
    numbers = {path: number for number, path in enumerate((path for part in parts for _, path in part.figures), 1)}
    content = {
        "name": work.dataset, "labels_mean": label_meaning.REPORT.get(layout, ""), "parts": parts, "numbers": numbers,
        "front": front(work),
    }  # fmt: skip
    names = ("report.html", "report.md")
    return [files.write_text(work.outputs / name, render(name, outputs=work.outputs, **content)) for name in names]


def render(template: str, **content: Any) -> str:
    """A page from its template; what is filled in is text and no markup, in Markdown too."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), autoescape=lambda name: name.endswith(".html"),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    if template.endswith(".md"):
        environment.finalize = lambda value: text.plain(value) if type(value) is str else value
    environment.filters["code"] = _code
    environment.filters["wide"] = lambda path: Image.open(path).width > WIDE
    environment.filters["unbroken"] = lambda cell: re.sub(r"(?<=\d)-(?=\d)", "\N{NON-BREAKING HYPHEN}", cell)
    environment.filters["inside"] = _inside
    environment.filters["link"] = lambda path, folder: quote(Path(os.path.relpath(path, folder)).as_posix())
    return environment.get_template(template).render(**content)


def _inside(path: Path) -> str:
    """A figure as an address that holds it, of a size for the page."""
    with Image.open(path) as picture:
        shown = picture.convert("RGB")
    width = SHOWN[shown.width > WIDE]
    if shown.width > width:
        shown = shown.resize((width, round(shown.height * width / shown.width)), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    shown.save(stream, "WEBP", quality=QUALITY)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _code(words: str) -> Markup:
    """Words as they are, between so many backticks that none of theirs ends them."""
    fence = "`" * (1 + max(map(len, re.findall("`+", words)), default=0))
    pad = " " * (len(fence) > 1)
    return Markup(f"{fence}{pad}{words}{pad}{fence}")
