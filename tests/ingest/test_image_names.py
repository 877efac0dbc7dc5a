"""Names in tables, compared as text: of a hundred thousand there is no object each."""

from pathlib import PurePosixPath

import pytest

from hemoct.ingest import image_names

NAMES = ("a.png", "/a/b.png", "a//b.png", "./a/b.PNG", "a/./b.png/", "a\\b.png", "..png", "a.b/c", "1.2.840.77", ".", "")


@pytest.mark.parametrize("name", NAMES)
def test_a_name_as_text_is_what_a_path_makes_of_it(name: str) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    plain = path.with_suffix("") if path.suffix.lower() in image_names.SUFFIXES else path
    assert (image_names.posix(name), image_names.bare(name)) == (path.as_posix(), plain.as_posix())
