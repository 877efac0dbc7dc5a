"""Download a figshare article: list its files, download with resume, verify checksums, unpack safely. Standard library only."""

import hashlib
import http.client
import itertools
import json
import os
import shutil
import ssl
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from hemoct.base.errors import UserError
from hemoct.base.files import replacing_folder

API = "https://api.figshare.com/v2"
PHE_SICH = 23957937
"""PHE-SICH-CT-IDS, CC BY 4.0"""

PAGE = 100  # files in one answer
TRIES = 5  # consecutive tries without new bytes
PAUSE_S = 1.0  # before the second try; doubled before each further one
TIMEOUT_S = 60
CHUNK = 1 << 18
PACKED_ELSEWHERE = {".rar", ".7z", ".tar", ".tgz", ".bz2", ".xz"}
# Head CT is compressed at most about 20 to 1, black slices far more; in a zip bomb everything is compressed a thousand to 1.
LARGEST_GROWTH, ALWAYS_ALLOWED = 200, 1 << 30
# Damaged, encrypted, compressed by an unknown method, or the same name for a file and a folder.
UNREADABLE_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotADirectoryError, FileExistsError, IsADirectoryError)


@dataclass(frozen=True)
class Item:
    """One file of an article."""

    name: str
    size: int
    """bytes"""
    md5: str
    """hexadecimal; empty if figshare has none"""
    url: str


@dataclass(frozen=True)
class Article:
    """What figshare says about an article, and its files."""

    title: str
    version: int
    licence: str
    items: list[Item]


def read_article(number: int, api: str = API) -> Article:
    """Ask the public API of figshare (v2) for an article and all its files. UserError if there is no answer.

    GET articles/NUMBER names at most ten files, so they are requested page by page: GET articles/NUMBER/files.
    """
    url = f"{api.rstrip('/')}/articles/{number}"
    by_hand = f"download https://doi.org/10.6084/m9.figshare.{number} by hand, unpack it and use --from DIR"
    try:
        content = _ask(url)
        items = [
            Item(_plain_name(each["name"]), int(each["size"]), each.get("computed_md5") or each.get("supplied_md5") or "", link)
            for each in _listed(url)
            if not each.get("is_link_only") and (link := each["download_url"])
        ]
        licence = (content.get("license") or {}).get("name", "not stated")
        article = Article(content["title"], int(content.get("version", 1)), licence, items)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise UserError(f"figshare has no public article {number} ({url}); check the number") from None
        raise UserError(f"{url} answered {error.code} {error.reason}; try again later, or {by_hand}") from None
    except (OSError, http.client.HTTPException) as error:
        raise UserError(f"cannot reach {url} ({_why(error)}); check the network, or {by_hand}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{url} did not answer as figshare does ({error!r}); try again later, or {by_hand}") from None
    if not items or len({item.name for item in items}) < len(items):
        what = "two files of one name" if items else "no files to download"
        raise UserError(f"figshare article {number} has {what}; {by_hand}")
    return article


def _ask(url: str) -> Any:
    with _open(url) as answer:
        return json.load(answer)


def _listed(url: str) -> Iterator[dict[str, Any]]:
    """What figshare says about each file of the article at `url`; a page that is not full is the last."""
    for page in itertools.count(1):
        listed = _ask(f"{url}/files?page={page}&page_size={PAGE}")
        yield from listed
        if len(listed) < PAGE:
            return


def _why(error: BaseException) -> str:
    return str(getattr(error, "reason", "") or error or type(error).__name__)


def _plain_name(name: str) -> str:
    if PurePosixPath(name).name != name or "\\" in name or name in ("", ".", ".."):
        raise UserError(f"figshare names a file {name!r}, which is not a plain file name; nothing was downloaded")
    return name


def _open(url: str, start: int = 0) -> http.client.HTTPResponse:
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise UserError(f"{url} is not an http address; nothing was downloaded from it")
    headers = {"User-Agent": "hemoct", "Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)


def need_space(folder: Path, size: int, what: str) -> None:
    """Stop if the disk of `folder` has less than `size` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise UserError(
            f"{folder}: {what} needs {size / 1e9:.2f} GB, {free / 1e9:.2f} GB are free; free some or choose another --root DIR"
        )


def download(article: Article, folder: Path) -> list[Path]:
    """Download every file of the article into `folder`; a file that is there with the right checksum is kept.

    A partial file (`NAME.part`) is continued. After a wrong checksum the file is downloaded once more, then UserError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = sum(item.size for item in article.items) - sum(path.stat().st_size for path in folder.iterdir())
    need_space(folder, max(0, missing), "the download")
    return [_fetch(item, folder) for item in article.items]


def _fetch(item: Item, folder: Path) -> Path:
    whole, part = folder / item.name, folder / f"{item.name}.part"
    if whole.exists() and whole.stat().st_size == item.size and _fits(whole, item):
        return whole
    for _ in range(2):
        _receive(item, part)
        if _fits(part, item):
            os.replace(part, whole)
            return whole
        part.unlink()
    raise UserError(
        f"{item.name}: the checksum (MD5) was wrong twice; {item.url} is damaged or was changed in transit, try later"
    )


def _fits(path: Path, item: Item) -> bool:
    if not item.md5:
        return True
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest() == item.md5.lower()


def _receive(item: Item, part: Path) -> None:
    """Download `part` to its full size, however often the connection is cut."""
    most, failures, why = _size(part), 0, "the connection was cut"
    with tqdm(total=item.size, desc=item.name, unit="B", unit_scale=True, disable=None) as bar:
        while (have := _size(part)) != item.size or not part.exists():
            try:
                _read_rest(item, part, have, bar)
            except urllib.error.HTTPError as error:
                why = f"{error.code} {error.reason}"
                if error.code == 416:  # our part is longer than the file: it belongs to another file
                    part.unlink(missing_ok=True)
                elif error.code < 500 and error.code not in (408, 429):
                    raise UserError(f"{item.name}: {item.url} answered {why}; see whether the article has moved") from None
            except (urllib.error.URLError, TimeoutError, ConnectionError, ssl.SSLError, http.client.HTTPException) as error:
                why = _why(error)
            failures = 0 if _size(part) > most else failures + 1
            most = max(most, _size(part))
            if failures >= TRIES:
                raise UserError(f"{item.name}: gave up after {TRIES} tries ({why}); the same command continues from {most} bytes")
            if failures:
                time.sleep(PAUSE_S * 2 ** (failures - 1))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read_rest(item: Item, part: Path, have: int, bar: tqdm) -> None:
    """One request for the bytes from `have` on; a server that ignores Range sends everything, and the file starts again."""
    with _open(item.url, have if have < item.size else 0) as answer:
        if answer.status not in (200, 206):
            raise http.client.HTTPException(f"answer {answer.status} instead of the file")
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if answer.status == 206 and not goes_on:
            part.unlink(missing_ok=True)
            raise http.client.HTTPException("the server sent another range than the requested one")
        with part.open("ab" if goes_on else "wb") as stream:
            bar.n = have if goes_on else 0
            while chunk := answer.read1(CHUNK):  # whatever has arrived: a cut loses nothing
                stream.write(chunk)
                bar.update(len(chunk))
                if stream.tell() > item.size:
                    raise http.client.HTTPException(f"more than the {item.size} bytes that figshare announced")


def unpack(files: list[Path], folder: Path) -> None:
    """Put the article's files into `folder`, all or none: zip archives unpacked, others copied. UserError for other archives."""
    with replacing_folder(folder) as made:
        for path in files:
            if path.suffix.lower() == ".zip":
                _unzip(path, made)
            elif path.suffix.lower() in PACKED_ELSEWHERE or path.name.lower().endswith(".tar.gz"):
                raise UserError(f"{path} cannot be unpacked here; unpack it by hand into a folder DIR and use --from DIR")
            else:
                shutil.copy2(path, made / path.name)


def _unzip(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [(info, _inside(info, path)) for info in archive.infolist() if not info.is_dir()]
            members = [(info, name) for info, name in members if name.parts[0] != "__MACOSX"]
            total = sum(info.file_size for info, _ in members)
            if total > max(ALWAYS_ALLOWED, LARGEST_GROWTH * path.stat().st_size):
                raise UserError(f"{path}: would unpack to {total / 1e9:.1f} GB, far too much for its size; refused")
            need_space(folder, total, f"unpacking {path.name}")
            tops = {name.parts[0] for _, name in members if len(name.parts) > 1}
            # An archive without a folder of its own gets one: files of two archives must not mix.
            target = folder if len(tops) == 1 and all(len(name.parts) > 1 for _, name in members) else folder / path.stem
            for info, name in tqdm(members, desc=f"unpack {path.name}", disable=None):
                info.filename = name.as_posix()
                archive.extract(info, target)
    except UNREADABLE_ZIP as error:
        raise UserError(f"{path} cannot be unpacked ({error}); delete it and run the same command again") from None


def _inside(info: zipfile.ZipInfo, archive: Path) -> PurePosixPath:
    """The path of an archive's member, if it is a plain file that stays below the target folder."""
    name = PurePosixPath(info.filename.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts or not name.parts or ":" in name.parts[0]:
        raise UserError(f"{archive}: member {info.filename!r} points outside its folder; archive refused")
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise UserError(f"{archive}: member {info.filename!r} is a link or device; archive refused")
    return name
