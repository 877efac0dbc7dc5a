"""Messages name a few of many things, and the errors of other libraries in one line."""

from hemoct.base.errors import few, one_line
from hemoct.base.workspace import REPOSITORY, Workspace


def test_of_many_names_a_few_are_shown_with_the_number_of_the_others():
    assert few(["a", "b"]) == "a, b"
    assert few("abcdefgh") == "a, b, c, d, e, f, g, h"
    assert few("abcdefghi") == "a, b, c, d, e, f, g, h ... (1 more)"
    assert few(range(1000), most=2) == "0, 1 ... (998 more)"


def test_an_error_of_another_library_is_one_short_line():
    assert one_line(ValueError("a\n  b")) == "a b"
    assert one_line(ValueError()) == "ValueError"
    assert len(one_line(ValueError("x" * 500))) == 160 and one_line(ValueError("x" * 500)).endswith("...")


def test_a_command_names_the_data_set_and_a_root_that_is_not_the_repository(tmp_path):
    assert Workspace(REPOSITORY, "ct").command("scripts/05_make_splits.py") == "python scripts/05_make_splits.py --dataset ct"
    root = tmp_path / "my data"
    expected = f"python task1_classification/04_predict.py a.png --experiment x --dataset ct --root '{root}'"
    assert Workspace(root, "ct").command("task1_classification/04_predict.py", "a.png", "--experiment", "x") == expected
