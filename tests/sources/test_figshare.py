"""The download, against a server on this machine that behaves like figshare's API and breaks in the ways that networks do."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from helpers.fake_figshare import Server, random_bytes, zip_of
from hemoct.base.errors import UserError
from hemoct.sources import figshare


def fetch(server: Server, folder: Path) -> list[Path]:
    return figshare.download(figshare.read_article(figshare.PHE_SICH, server.url), folder)


def test_article_is_read_with_its_licence_and_checksums(server: Server) -> None:
    server.publish(a__zip=b"12345")
    article = figshare.read_article(figshare.PHE_SICH, server.url)
    assert (article.title, article.version, article.licence) == ("PHE-SICH-CT-IDS", 1, "CC BY 4.0")
    assert article.items == [figshare.Item("a.zip", 5, hashlib.md5(b"12345").hexdigest(), f"{server.url}/files/a.zip")]


@pytest.mark.parametrize("count", [11, 100, 203])
def test_every_file_is_listed_where_the_article_names_ten(server: Server, count: int) -> None:
    server.publish(**{f"image{number}__zip": b"x" for number in range(count)})
    article = figshare.read_article(figshare.PHE_SICH, server.url)
    assert [item.name for item in article.items] == list(server.files)


def test_whole_download_and_a_second_call_asks_for_nothing(server: Server, tmp_path: Path) -> None:
    server.publish(a__zip=random_bytes(300_000), b__xlsx=b"table", empty__txt=b"")
    paths = fetch(server, tmp_path)
    assert [path.read_bytes() for path in paths] == list(server.files.values())
    asked = len(server.asked)
    assert fetch(server, tmp_path) == paths
    assert len(server.asked) == asked
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "b.xlsx", "empty.txt"]


def test_cut_connection_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    content = random_bytes(900_000)
    server.publish(a__zip=content)
    server.cuts = [400_000, 100_000]
    assert fetch(server, tmp_path)[0].read_bytes() == content
    assert server.asked == [("a.zip", None), ("a.zip", "bytes=400000-"), ("a.zip", "bytes=500000-")]


def test_part_of_a_killed_run_is_continued(server: Server, tmp_path: Path) -> None:
    content = random_bytes(50_000)
    server.publish(a__zip=content)
    (tmp_path / "a.zip.part").write_bytes(content[:20_000])
    assert fetch(server, tmp_path)[0].read_bytes() == content
    assert server.asked == [("a.zip", "bytes=20000-")]


def test_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    content = random_bytes(50_000)
    server.publish(a__zip=content)
    server.ranges = False
    server.cuts = [30_000]
    assert fetch(server, tmp_path)[0].read_bytes() == content
    assert server.asked == [("a.zip", None), ("a.zip", "bytes=30000-")]


def test_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    server.publish(a__zip=b"short")
    (tmp_path / "a.zip.part").write_bytes(b"x" * 100)
    assert fetch(server, tmp_path)[0].read_bytes() == b"short"


def test_range_refused_with_416_starts_again(server: Server, tmp_path: Path) -> None:
    content = random_bytes(5_000)
    server.publish(a__zip=content)
    (tmp_path / "a.zip.part").write_bytes(content[:4_000])
    server.codes = [416]
    assert fetch(server, tmp_path)[0].read_bytes() == content
    assert server.asked == [("a.zip", "bytes=4000-"), ("a.zip", None)]


def test_checksum_wrong_once_is_mended_by_a_second_download(server: Server, tmp_path: Path) -> None:
    server.publish(a__zip=b"content")
    server.spoil = 1
    assert fetch(server, tmp_path)[0].read_bytes() == b"content"
    assert len(server.asked) == 2


def test_checksum_wrong_twice_stops_and_keeps_nothing(server: Server, tmp_path: Path) -> None:
    server.publish(a__zip=b"content")
    server.spoil = 9
    with pytest.raises(UserError, match=r"a\.zip: the checksum \(MD5\) was wrong twice"):
        fetch(server, tmp_path)
    assert len(server.asked) == 2 and not list(tmp_path.iterdir())


def test_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.publish(a__zip=b"content")
    server.codes = [503, 429, 500]
    assert fetch(server, tmp_path)[0].read_bytes() == b"content"


def test_endless_failures_end(server: Server, tmp_path: Path) -> None:
    server.publish(a__zip=random_bytes(1000))
    server.cuts = [600] + [0] * 50
    with pytest.raises(UserError, match=r"gave up after 5 tries.*continues from 600 bytes"):
        fetch(server, tmp_path)
    assert len(server.asked) == 1 + figshare.TRIES
    assert (tmp_path / "a.zip.part").stat().st_size == 600


def test_forbidden_file_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    server.publish(a__zip=b"content")
    server.codes = [403]
    with pytest.raises(UserError, match="answered 403"):
        fetch(server, tmp_path)
    assert len(server.asked) == 1


def test_more_bytes_than_announced_stop(server: Server, tmp_path: Path) -> None:
    server.publish(a__zip=b"content")
    server.files["a.zip"] = random_bytes(3_000_000)
    with pytest.raises(UserError, match="more than the 7 bytes"):
        fetch(server, tmp_path)


def test_unknown_article_and_dead_server_are_one_line(server: Server) -> None:
    with pytest.raises(UserError, match="no public article 23957937"):
        figshare.read_article(figshare.PHE_SICH, server.url)
    server.publish(a__zip=b"content")
    server.listed = ["none"]
    with pytest.raises(UserError, match="did not answer as figshare does"):
        figshare.read_article(figshare.PHE_SICH, server.url)
    with pytest.raises(UserError, match=r"cannot reach http://127\.0\.0\.1:9/.*by hand"):
        figshare.read_article(figshare.PHE_SICH, "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "../evil.zip"}, "not a plain file name"),
        ({"download_url": "file:///etc/hostname"}, "not an http address"),
        ({"is_link_only": True}, "has no files to download"),
        ({"size": 1 << 60}, "GB are free"),
    ],
)
def test_strange_lists_are_refused(server: Server, tmp_path: Path, change: dict[str, object], message: str) -> None:
    server.publish(a__zip=b"content")
    server.listed[0].update(change)
    with pytest.raises(UserError, match=message):
        fetch(server, tmp_path / "files")
    assert server.asked == []


def archive(folder: Path, content: bytes, name: str = "a.zip") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_unpacking_keeps_folders_and_plain_files_apart(tmp_path: Path) -> None:
    files = [
        archive(tmp_path, zip_of({"SubdatasetC_PNG/set/a.png": b"1", "__MACOSX/._a": b"", "SubdatasetC_PNG/empty/": b""})),
        archive(tmp_path, zip_of({"set\\b.png": b"2", "note.txt": b"3"}), "loose.zip"),
        archive(tmp_path, b"table", "MedInfo.xlsx"),
    ]
    figshare.unpack(files, tmp_path / "out")
    found = {
        str(path.relative_to(tmp_path / "out")): path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert found == {
        "SubdatasetC_PNG/set/a.png": b"1", "loose/set/b.png": b"2", "loose/note.txt": b"3", "MedInfo.xlsx": b"table"
    }  # fmt: skip


def link() -> zipfile.ZipInfo:
    made = zipfile.ZipInfo("set/link")
    made.external_attr = 0o120777 << 16
    return made


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"good.png": b"1", "../evil": b"2"}, "points outside its folder"),
        ({"good.png": b"1", "set/../../evil": b"2"}, "points outside its folder"),
        ({"good.png": b"1", "/evil": b"2"}, "points outside its folder"),
        ({"good.png": b"1", "..\\evil": b"2"}, "points outside its folder"),
        ({"good.png": b"1", "C:\\evil": b"2"}, "points outside its folder"),
        ({"good.png": b"1", link(): b"/etc/hostname"}, "is a link or device"),
        ({"good": b"1", "good/bad": b"2"}, "cannot be unpacked"),
    ],
)
def test_evil_archives_are_refused_and_leave_nothing(tmp_path: Path, members: dict, message: str) -> None:
    path = archive(tmp_path, zip_of(members))
    with pytest.raises(UserError, match=message):
        figshare.unpack([path], tmp_path / "deep" / "out")
    assert not (tmp_path / "deep" / "out").exists()
    assert not [found for found in tmp_path.rglob("*") if "evil" in found.name or "link" in found.name]


def test_bombs_are_refused_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figshare, "ALWAYS_ALLOWED", 1000)
    path = archive(tmp_path, zip_of({"zeros": bytes(2_000_000)}))
    with pytest.raises(UserError, match="far too much for its size"):
        figshare.unpack([path], tmp_path / "out")


def test_damaged_archives_are_one_line(tmp_path: Path) -> None:
    whole = zip_of({"set/noise": random_bytes(5000)})
    changed = bytearray(whole)
    changed[2000] ^= 255
    for content in (b"no zip at all", whole[:3000], bytes(changed)):
        with pytest.raises(UserError, match=r"a\.zip cannot be unpacked .*delete it and run"):
            figshare.unpack([archive(tmp_path, content)], tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["a.rar", "a.7z", "a.tar.gz"])
def test_archives_that_need_another_program_say_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="unpack it by hand into a folder DIR and use --from DIR"):
        figshare.unpack([archive(tmp_path, b"?", name)], tmp_path / "out")
