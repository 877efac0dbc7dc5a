"""The slices of a series: their order when tags got lost, scouts that are none of them, copies that are not twice."""

import pytest

from hemoct.ct import series

NOTHING = {"acquisition": None, "thickness": 5.0, "spacing_between": None, "series": "S", "study": "T", "plane": "axial"}
NOTHING |= {"pixel_rows": 64, "pixel_columns": 64, "spacing_row": 0.5, "sop": "1.2", "position": None, "instance": None}


def rows(count: int, **more: object) -> list[dict]:
    """Slices 1.dcm, 2.dcm ... as a folder lists them: 1, 10, 11, 2; a value may be a function of the number."""
    numbers = sorted(range(1, count + 1), key=str)
    made = ({name: value(number) if callable(value) else value for name, value in more.items()} for number in numbers)
    return [
        NOTHING | {"image": f"P1/{number}.dcm", "pixels": str(number)} | one for number, one in zip(numbers, made, strict=True)
    ]


def names(passes: list[list[dict]]) -> list[list[int]]:
    return [[int(row["image"][3:-4]) for row in one] for one in passes]


@pytest.mark.parametrize(
    ("lost", "ordered_by"),
    [
        ({}, series.BY_NAME),
        ({"instance": 1}, series.BY_NAME),
        ({"instance": lambda number: None if number == 3 else number}, series.BY_NAME),
        ({"position": 0.0}, series.BY_NAME),
        ({"sop": lambda number: f"1.{number}"}, series.BY_NAME),
        ({"instance": lambda number: number}, series.BY_NUMBER),
        ({"instance": lambda number: (number + 1) // 2, "acquisition": lambda number: 2 - number % 2}, series.BY_NUMBER),
    ],
    ids=["all", "one number", "a number", "one place", "but the identifier", "places", "two acquisitions"],
)
def test_without_places_numbers_count_and_without_numbers_the_names(lost, ordered_by):
    arranged = series.arrange(rows(12, **lost))
    expected = [*range(1, 13, 2), *range(2, 13, 2)] if "acquisition" in lost else list(range(1, 13))
    assert names(arranged.passes) == [expected] and arranged.ordered_by == ordered_by and arranged.left == []
    assert {row["spacing_z"] for row in arranged.passes[0]} == {5} and {row["position"] for row in arranged.passes[0]} == {None}


def test_where_there_are_places_they_alone_count():
    arranged = series.arrange(rows(12, position=lambda number: 60.0 - 5 * number))
    assert names(arranged.passes) == [list(range(12, 0, -1))] and arranged.ordered_by == ""


def test_one_identifier_for_all_makes_no_copies_unless_the_pixels_are_the_same():
    twelve = rows(12)
    copy = twelve[5] | {"image": "P1/99.dcm"}
    arranged = series.arrange([*twelve, copy])
    assert len(arranged.passes[0]) == 12 and arranged.left == [(copy, series.TWICE)]
    placed = rows(4, sop="", position=lambda number: 5.0 * number, instance=lambda number: number)
    again = placed[1] | {"image": "copy/2.dcm"}
    assert series.arrange([*placed, again]).left == [(again, series.TWICE)], "without an identifier, but at one place"
    nameless = rows(4, sop="", pixels="air")
    assert series.arrange(nameless).left == [], "nothing says that equal air is a copy"


@pytest.mark.parametrize(
    ("scout", "problem"),
    [
        ({"plane": "sagittal", "pixel_rows": 100}, series.OTHER_PLANE),
        ({"plane": "coronal"}, series.OTHER_PLANE),
        ({"pixel_rows": 888, "pixel_columns": 64}, series.OTHER_MATRIX),
        ({"spacing_row": 1.0}, series.OTHER_MATRIX),
        ({"spacing_row": None, "plane": ""}, series.OTHER_MATRIX),
    ],
)
@pytest.mark.parametrize("count", [1, 2])
def test_an_unmarked_scout_takes_no_place(scout, problem, count):
    slices = rows(6, position=lambda number: 5.0 * number)
    scouts = [NOTHING | {"image": f"P1/9{n}.dcm", "pixels": f"s{n}", "position": 5.0 * n} | scout for n in range(count)]
    arranged = series.arrange([*scouts, *slices])
    assert names(arranged.passes) == [[1, 2, 3, 4, 5, 6]] and [each for _, each in arranged.left] == [problem] * count


def test_several_slices_in_another_plane_are_a_pass_of_their_own():
    axial = rows(6, position=lambda number: 5.0 * number)
    coronal = [row | {"image": row["image"].replace("P1/", "P2/"), "plane": "coronal", "sop": "c"} for row in axial[:4]]
    arranged = series.arrange([*coronal, *axial])
    assert [len(each) for each in arranged.passes] == [6, 4] and arranged.left == []
    assert {row["plane"] for row in arranged.passes[1]} == {"coronal"}


def test_a_scout_in_a_series_of_its_own_is_one_where_axial_slices_are_beside_it():
    axial, lone = rows(6, position=lambda number: 5.0 * number), [NOTHING | {"image": "s.dcm", "plane": "sagittal"}]
    assert series.lone_scouts([lone, axial]) == [lone] and series.lone_scouts([lone]) == [] == series.lone_scouts([axial])
    assert series.lone_scouts([lone, axial[:2]]) == []
