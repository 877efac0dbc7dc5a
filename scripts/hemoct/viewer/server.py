"""A page for the browser of this machine: on 127.0.0.1 alone, under an address with a secret, with nothing else to be had.

Scans are patients' data. Nobody reaches the page from another machine; another user or a web site open beside it does not know
the secret, and an address that is not on the list of the page has no answer: no path is ever joined to a folder.
"""

import contextlib
import hmac
import json
import os
import re
import secrets
import sys
import webbrowser
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any

from hemoct.base.errors import UserError, one_line

HOST = "127.0.0.1"
WEB = Path(__file__).with_name("web")
STATIC = {"": "view.html", "view.css": "view.css", "view.js": "view.js", "lists.js": "lists.js", "niivue.js": "niivue.umd.js"}
"""what a browser may ask for, and the file of `web` that it gets"""
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".json": "application/json",
         ".gz": "application/gzip", ".txt": "text/plain"}  # fmt: skip
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
"""with every answer: nothing from elsewhere is loaded, nothing is kept, the address with its secret is not passed on"""
OF_CASE = re.compile(r"case/(0|[1-9][0-9]{0,8})/(.+)", re.ASCII)
WAIT_S = 30  # for a request that does not come


def as_json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


@dataclass(frozen=True)
class Content:
    """All that a page may ask for beside STATIC, by address. Whatever fails for a reason that people mend raises UserError."""

    files: Mapping[str, Callable[[], bytes]]
    """`index.json` ..."""
    of_case: Mapping[str, Callable[[int], bytes]]
    """NAME of the address `case/NUMBER/NAME`; called with the number"""
    cases: int
    """how many there are, from 0 on"""

    def find(self, address: str) -> Callable[[], bytes] | None:
        """What makes the content of an address (behind the secret); None where there is none."""
        if address in STATIC:
            return (WEB / STATIC[address]).read_bytes
        if address in self.files:
            return self.files[address]
        case = OF_CASE.fullmatch(address)
        if case and case[2] in self.of_case and int(case[1]) < self.cases:
            return partial(self.of_case[case[2]], int(case[1]))
        return None


class Server(ThreadingHTTPServer):
    """`port` 0: any that is free."""

    daemon_threads = True
    allow_reuse_address = os.name != "nt"  # there it would share a port that is in use

    def __init__(self, content: Content, port: int = 0) -> None:
        self.content, self.secret = content, secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), Handler)
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or one_line(error)
            raise UserError(f"--port {port} cannot be used ({why}); give another, or leave it out for any free one") from None

    def server_bind(self) -> None:
        """As TCP does it: HTTP's own way asks for the name of this machine, for which a broken network lets wait."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/{self.secret}/"

    @property
    def names(self) -> set[str]:
        """As what a browser of this machine may call the server; a name of another site that leads here is none of them."""
        return {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that goes away in the midst of an answer is no error; all else is shown as Python does."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One request: GET or HEAD of an address on the list, with the secret, under one of our names."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "hemoct", ""
    timeout = WAIT_S

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        if self.headers.get("Host") not in self.server.names:
            return self._send(403, b"this page is for the browser of its own machine\n", ".txt")
        secret, _, address = self.path.removeprefix("/").partition("/")
        make = self.server.content.find(address) if self._knows(secret) else None
        if make is None:
            return self._send(404, b"there is nothing here; the address is the one that the command shows, whole\n", ".txt")
        try:
            return self._send(200, make(), Path(STATIC.get(address, address)).suffix)
        except UserError as error:
            return self._send(422, str(error).encode(), ".txt")

    def _knows(self, secret: str) -> bool:
        return hmac.compare_digest(secret.encode("utf-8", "replace"), self.server.secret.encode())

    def _send(self, code: int, body: bytes, suffix: str) -> None:
        self.send_response(code)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        kind = KINDS[suffix]
        self.send_header("Content-Type", kind if suffix == ".gz" else f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: addresses hold the secret."""


@contextlib.contextmanager
def serving(content: Content, port: int = 0) -> Iterator[Server]:
    """A server that can be asked as soon as it is `serve_forever`; its port is free again at the end."""
    server = Server(content, port)
    try:
        yield server
    finally:
        server.server_close()


def show(server: Server, browser: bool = True) -> None:
    """Say where the page is, open it in a browser where there is one, and answer until Ctrl-C."""
    opened = browser and _open(server.address)
    print("opened in the browser:" if opened else "open in a browser of this machine:", server.address, flush=True)
    if not opened:
        print(f"from another machine first: ssh -L {server.server_port}:{HOST}:{server.server_port} THIS_MACHINE", flush=True)
    print("Ctrl-C ends it", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    print("\nclosed", flush=True)


def _open(address: str) -> bool:
    """Whether a browser with windows took the address; one of a terminal, which would take it over, is not asked."""
    windows = sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
    if not windows:
        return False
    with contextlib.suppress(webbrowser.Error, OSError):
        return webbrowser.open(address)
    return False
