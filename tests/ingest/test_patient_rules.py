"""The rule for patients is found on file names of all usual kinds, and never where nothing groups them."""

from pathlib import Path

import pytest

from hemoct.ingest import reader_tables

KINDS = {
    r"^(\d+)_": [f"{patient:04d}_{number:02d}.png" for patient in range(6) for number in range(4)],
    r"^(sub-\d+)_": [
        f"sub-{patient:02d}_ses-{session}_{number}.png" for patient in range(7) for session in (1, 2) for number in (1, 2)
    ],
    r"^([^_]+)_": [f"{name}_{number}.jpg" for name in "abcdef" for number in range(3)],
    "number": [f"patient {name} ({number}).png" for name in ("ann", "bob", "eve", "kim", "leo") for number in range(3)],
    "folder": [f"images/P{patient}x/{number}.png" for patient in range(5) for number in range(3)],
    None: [f"{number}.png" for number in range(20)],
    "hash": [f"ID_{number * 7919:09x}.png" for number in range(20)],
    "few": [f"{patient}_{number}.png" for patient in range(3) for number in range(9)],
    "mixed": [f"{patient}_{number}.png" for patient in range(9) for number in range(3)] + ["odd.png"],
}
PATIENTS = {r"^(\d+)_": 6, r"^(sub-\d+)_": 7, r"^([^_]+)_": 6, "number": 5, "folder": 5}


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_rule_is_the_one_that_groups_best(kind: str | None):
    found = reader_tables.propose([*map(Path, KINDS[kind])])
    if kind not in PATIENTS:
        assert found is None, found
    else:
        assert found.patients == PATIENTS[kind] and f"gives {PATIENTS[kind]} patients" in str(found)


def test_class_folders_are_no_patients():
    images = [Path(f"class{name}/{number}.png") for name in range(6) for number in range(5)]
    assert reader_tables.propose(images).rule == reader_tables.FOLDER
    assert reader_tables.propose(images, [f"class{name}" for name in range(6)]) is None
