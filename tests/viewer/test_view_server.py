"""The viewer's server gives nothing to those who do not know its address, and nothing that is not on its list."""

import contextlib
import hashlib
import http.client
import re
import socket
import threading
from collections.abc import Iterator

import pytest

from hemoct.base.errors import UserError
from hemoct.viewer import server
from hemoct.viewer.server import Content, Server


def _stop(_: int) -> bytes:
    raise UserError("toy.png is missing; restore it")


CONTENT = Content({"index.json": lambda: b"{}"}, {"grey.nii.gz": lambda case: b"grey %d" % case, "truth.nii.gz": _stop}, 2)


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with serving() as made:
        yield made


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    with server.serving(CONTENT) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(of: Server, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a request exactly as it is written here: no client makes its path tidy."""
    given = {"Host": f"127.0.0.1:{of.server_port}", **headers, "Connection": "close"}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value), "", ""]
    with socket.create_connection(("127.0.0.1", of.server_port), timeout=10) as connection:
        connection.sendall("\r\n".join(lines).encode())
        answer = http.client.HTTPResponse(connection, method=method)
        answer.begin()
        return answer.status, dict(answer.headers), answer.read()


def test_what_is_on_the_list_is_given_with_headers_that_shut_the_page_in(running):
    status, headers, body = ask(running, f"/{running.secret}/")
    assert status == 200 and b"<html" in body and headers["Content-Type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'" and policy["frame-ancestors"] == "'none'"
    assert headers["Cache-Control"] == "no-store" and headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Content-Type-Options"] == "nosniff" and "Access-Control-Allow-Origin" not in headers
    assert ask(running, f"/{running.secret}/case/1/grey.nii.gz")[2] == b"grey 1"
    assert ask(running, f"/{running.secret}/index.json", "HEAD")[::2] == (200, b"")


def test_nobody_gets_anything_without_the_secret(running):
    wrong = running.secret[:-1] + ("A" if running.secret[-1] != "A" else "B")
    for start in (
        "",
        f"/{wrong}",
        f"/{running.secret[:-1]}",
        f"/{running.secret}x",
        f"/{running.secret.upper()}",
        "/%C3%A9",
        "/\xe9",
    ):
        for path in ("/", "/index.json", "/view.js", "/niivue.js", "/case/0/grey.nii.gz"):
            status, _, body = ask(running, start + path)
            assert status == 404 and b"{}" not in body and running.secret.encode() not in body
    assert len(running.secret) >= 32


def test_each_server_has_a_secret_of_its_own(running):
    with serving() as other:
        assert other.secret != running.secret
        assert ask(other, f"/{running.secret}/")[0] == 404


def test_a_name_of_another_site_that_leads_here_gets_nothing(running):
    port = running.server_port
    for name in (f"evil.example:{port}", "evil.example", f"127.0.0.1.evil.example:{port}", "127.0.0.1", "127.0.0.1:1", ""):
        assert ask(running, f"/{running.secret}/index.json", Host=name)[0] == 403, name
    for name in (f"127.0.0.1:{port}", f"localhost:{port}"):
        assert ask(running, f"/{running.secret}/index.json", Host=name)[0] == 200, name


@pytest.mark.parametrize("path", [
    "../view.html", "../../../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/server.py", "/etc/passwd", "//etc/passwd",
    "web/view.html", "view.html", "NIIVUE.md", "server.py", "index.json?x", "index.json/", "index.json%00", "./index.json",
    "case/2/grey.nii.gz", "case/-1/grey.nii.gz", "case/01/grey.nii.gz", "case/\u0661/grey.nii.gz",
   
    "case/0/../1/grey.nii.gz", "case/0/other.nii.gz", "case/0/", "case/0/grey.nii.gz\\..\\x",
    "case/99999999999999999999/grey.nii.gz",
])  # fmt: skip
def test_what_is_not_on_the_list_is_not_there(running, path):
    status, _, body = ask(running, f"/{running.secret}/{path}".replace(" ", "%20"))
    assert status == 404 and b"root:" not in body and b"import" not in body


def test_other_methods_are_refused(running):
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"):
        assert ask(running, f"/{running.secret}/index.json", method)[0] == 501


def test_what_a_person_can_mend_is_told_to_the_page(running):
    status, headers, body = ask(running, f"/{running.secret}/case/0/truth.nii.gz")
    assert (status, body) == (422, b"toy.png is missing; restore it") and headers["Content-Type"].startswith("text/plain")


def test_it_listens_on_this_machine_alone(running):
    assert running.server_address[0] == "127.0.0.1" == server.HOST
    assert re.fullmatch(rf"http://127\.0\.0\.1:{running.server_port}/[\w-]{{32}}/", running.address)


def test_a_port_in_use_is_one_line():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(UserError, match=rf"--port {port} cannot be used \(.*in use.*\); give another"),
            server.serving(CONTENT, port),
        ):
            pass
    with pytest.raises(UserError, match="--port 70000 cannot be used"), server.serving(CONTENT, 70000):
        pass
    with server.serving(CONTENT) as first:
        port = first.server_port
    with server.serving(CONTENT, port):  # free again
        pass


def test_without_a_browser_the_address_is_said_and_ctrl_c_ends_it(capsys, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(server.sys, "platform", "linux")
    monkeypatch.setattr(server.webbrowser, "open", lambda _: pytest.fail("a browser of the terminal would take it over"))

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Server, "serve_forever", stopped)
    with server.serving(CONTENT) as made:
        server.show(made)
    out = capsys.readouterr().out
    assert f"open in a browser of this machine: {made.address}\n" in out and out.endswith("closed\n")


def test_a_browser_that_fails_is_told_as_one_that_is_not_there(capsys, monkeypatch):
    def absent(_: str) -> bool:
        raise server.webbrowser.Error("could not locate runnable browser")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(server.webbrowser, "open", absent)
    monkeypatch.setattr(Server, "serve_forever", lambda _: None)
    with server.serving(CONTENT) as made:
        server.show(made)
    assert "open in a browser of this machine" in capsys.readouterr().out


def test_the_vendored_viewer_is_the_one_that_was_published():
    note = (server.WEB / "NIIVUE.md").read_text()
    assert hashlib.sha256((server.WEB / "niivue.umd.js").read_bytes()).hexdigest() in note
    assert "BSD 2-Clause" in (server.WEB / "LICENSE.niivue").read_text()


def test_the_page_loads_nothing_from_elsewhere_and_puts_no_text_in_as_markup():
    for name in ("view.html", "view.css", "view.js", "lists.js"):
        text = (server.WEB / name).read_text()
        assert not re.search(
            r"https?://(?!www\.w3\.org/2000/svg)|innerHTML|insertAdjacentHTML|document\.write|eval\(|style=", text
        ), name
    assert {path.name for path in server.WEB.iterdir()} == {*server.STATIC.values(), "NIIVUE.md", "LICENSE.niivue"}
