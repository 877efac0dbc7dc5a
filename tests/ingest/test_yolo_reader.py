"""YOLO label files and class names, as different tools write them."""

from pathlib import Path

import pytest

from hemoct.base.errors import UserError
from hemoct.ingest import yolo_reader
from hemoct.ingest.annotations import Box

NAMES = {0: "a", 1: "b"}


def test_yolo_becomes_pixels(tmp_path: Path):
    (tmp_path / "one.txt").write_text("1 0.5 0.5 0.5 0.25\n\n0 0.25 0.25 0.5 0.5\n")
    assert yolo_reader.read_labels(tmp_path / "one.txt", NAMES, 200, 100).boxes == [
        Box("b", 50, 37.5, 150, 62.5),
        Box("a", 0, 0, 100, 50),
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2 0.5 0.5 0.1 0.1", "line 2 has class 2, but there are 2 classes"),
        ("-1 0.5 0.5 0.1 0.1", "line 2 has class -1"),
        ("0 0.5 0.5 0.1", "line 2 is '0 0.5 0.5 0.1' where"),
        ("a 0.5 0.5 0.1 0.1", "line 2 is 'a 0.5"),
        ("0 320 240 0.1 0.1", "line 2 has a number outside 0..1"),
        ("0.5 0.5 0.5 0.1 0.1", "line 2 is '0.5 0.5"),
        ("0 0.5 0.5 0.1 0.1 0.9", "line 2 is '0 0.5 0.5 0.1 0.1 0.9' where"),  # a prediction, not a label
        ("0 0.1 0.1 0.9 0.1 0.9 1.2", "line 2 has a number outside 0..1"),
        ("0 nan 0.5 0.1 0.1", "line 2 has a number outside 0..1"),
    ],
)
def test_yolo_mistakes_name_file_and_line(tmp_path: Path, line: str, reason: str):
    path = tmp_path / "one.txt"
    path.write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(UserError) as error:
        yolo_reader.read_labels(path, NAMES, 100, 100)
    assert reason in str(error.value)
    assert str(path) in str(error.value)


def test_a_binary_label_file_is_named(tmp_path: Path):
    (tmp_path / "one.txt").write_bytes(b"\xf0\x00\x80")
    with pytest.raises(UserError, match=r"one\.txt is not a text file"):
        yolo_reader.read_labels(tmp_path / "one.txt", NAMES, 10, 10)


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("0.0 0.5 0.5 0.5 0.25\n", (0, 0)),
        ("\ufeff0 0.5 0.5 0.5 0.25\r\n", (0, 0)),
        ("0 0.25 0.375 0.75 0.375 0.75 0.625 0.25 0.625\n", (1, 0)),  # four points, an oriented box
        ("0 0.25 0.5 0.5 0.375 0.75 0.625\n", (1, 0)),
        ("0 0.5 0.5 0.5 0.25\n0 0.5 0.5 0.5 0.25\n\n0.0 0.5 0.5 0.5 0.25\n", (0, 2)),
    ],
    ids=["class as a float", "byte order mark", "oriented box", "polygon", "three times"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_lines_of_other_tools(tmp_path: Path, text: str, counts: tuple[int, int], encoding: str):
    (tmp_path / "a.txt").write_text(text.removeprefix("\ufeff") if encoding == "utf-16" else text, encoding=encoding)
    found = yolo_reader.read_labels(tmp_path / "a.txt", NAMES, 200, 100)
    assert found.boxes == [Box("a", 50, 37.5, 150, 62.5)]
    assert (found.polygons, found.twice) == counts


def names(folder: Path, **texts: str) -> dict[int, str]:
    listing = []
    for name, text in texts.items():
        path = Path(name.replace("__", "/").replace("_", "."))
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
        listing.append(path)
    return yolo_reader.class_names(folder, sorted(listing))


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        ({"data_yaml": "names: [no, yes]"}, {0: "no", 1: "yes"}),
        ({"data_yaml": "names: [1, 2.0, null, on]"}, {0: "1", 1: "2.0", 2: "null", 3: "on"}),
        ({"data_yaml": "names: {0: no, 1: yes}"}, {0: "no", 1: "yes"}),
        ({"data_yaml": "names:\n  1: a\n  2: b"}, {1: "a", 2: "b"}),
        ({"data_yaml": "\ufeffnames: [a]"}, {0: "a"}),
        ({"data_yml": "names: [a]", "args_yaml": "names: [z, y]"}, {0: "a"}),
        ({"args_yaml": "names: [z]", "data_yaml": "names: [a, b]"}, {0: "a", 1: "b"}),
        ({"set__data_yaml": "names: [a]", "args_yaml": "names: [z]"}, {0: "a"}),
        ({"old__data_yaml": "names: [z]", "data_yaml": "names: [a]"}, {0: "a"}),
        ({"data_yaml": "nc: 2", "classes_txt": "a\nb\n"}, {0: "a", 1: "b"}),
        ({"labels__train__classes_txt": "\ufeffa\r\nb c\r\n\r\n"}, {0: "a", 1: "b c"}),
        ({"train__classes_txt": "a\nb", "test__classes_txt": "a\nb\n"}, {0: "a", 1: "b"}),
        ({"obj_names": "a\nb"}, {0: "a", 1: "b"}),
        ({"custom_yaml": "names: [a]", "classes_txt": "z"}, {0: "a"}),
    ],
)
def test_class_names(tmp_path: Path, texts: dict[str, str], wanted: dict[int, str], capsys: pytest.CaptureFixture[str]):
    assert names(tmp_path, **texts) == wanted
    assert ("1 a, 2 b" in capsys.readouterr().out) == (min(wanted) == 1)


def test_names_that_do_not_agree_stop(tmp_path: Path):
    with pytest.raises(UserError, match=r"b/data\.yaml name other classes; .*--labels A,B"):
        names(tmp_path, a__data_yaml="names: [a]", b__data_yaml="names: [b]")
    with pytest.raises(UserError, match=r"no data\.yaml .* and no classes\.txt"):
        names(tmp_path / "other", readme_txt="a", data_yaml="- a")


def test_an_id_that_is_not_named_is_told_with_those_that_are(tmp_path: Path):
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.25\n")
    with pytest.raises(UserError, match=r"line 1 has class 0, but the classes are 1 a, 2 b; correct it"):
        yolo_reader.read_labels(tmp_path / "a.txt", {1: "a", 2: "b"}, 10, 10)
