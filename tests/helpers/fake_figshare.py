"""A server on this machine that behaves like figshare's API and breaks in the ways that networks do."""

import hashlib
import http.server
import io
import json
import threading
import urllib.parse
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from hemoct.sources import figshare


class Server(http.server.ThreadingHTTPServer):
    """Files by name, and switches for what goes wrong. `asked` lists (name, Range header or None)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.article: dict[str, object] = {}
        self.listed: list[dict[str, object]] = []  # what the API says about each file
        self.asked: list[tuple[str, str | None]] = []
        self.ranges = True
        self.cuts: list[int] = []  # the next answers stop after so many bytes
        self.codes: list[int] = []  # the next answers are these errors
        self.spoil = 0  # so many answers have their last byte changed

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def publish(self, **files: bytes) -> None:
        """Make the article; `name__zip` stands for `name.zip`."""
        self.files = {name.replace("__", "."): content for name, content in files.items()}
        self.listed = [
            {"id": place, "name": name, "size": len(content), "is_link_only": False, "supplied_md5": "", "computed_md5":
             hashlib.md5(content).hexdigest(), "download_url": f"{self.url}/files/{name}"}
            for place, (name, content) in enumerate(self.files.items())
        ]  # fmt: skip
        self.article = {"title": "PHE-SICH-CT-IDS", "version": 1, "license": {"name": "CC BY 4.0"}}


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        kind, _, name = self.path.strip("/").partition("/")
        if kind == "articles":
            return self.describe(name)
        wanted = self.headers.get("Range")
        self.server.asked.append((name, wanted))
        if self.server.codes:
            return self.send_error(self.server.codes.pop(0))
        content = self.server.files[name]
        if self.server.spoil:
            self.server.spoil -= 1
            content = content[:-1] + bytes([content[-1] ^ 1])
        if not wanted or not self.server.ranges:
            return self.answer(200, content)
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            return self.send_error(416)
        return self.answer(206, content[start:], f"bytes {start}-{len(content) - 1}/{len(content)}")

    def describe(self, name: str) -> None:
        """The article with no more than ten of its files, or a page of all of them (page_size 10 unless asked for)."""
        path, _, query = name.partition("?")
        article = str(figshare.PHE_SICH)
        if not self.server.article or path not in (article, f"{article}/files"):
            return self.send_error(404)
        content: object = self.server.article | {"files": self.server.listed[:10]}
        if path != article:
            asked = dict(urllib.parse.parse_qsl(query))
            size = int(asked.get("page_size", 10))
            start = (int(asked.get("page", 1)) - 1) * size
            content = self.server.listed[start : start + size]
        return self.answer(200, json.dumps(content).encode())

    def answer(self, code: int, body: bytes, content_range: str | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()
        if self.path.startswith("/files/") and self.server.cuts:
            body = body[: self.server.cuts.pop(0)]
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


def zip_of(members: dict[str | zipfile.ZipInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def random_bytes(count: int) -> bytes:
    return np.random.default_rng(0).bytes(count)
