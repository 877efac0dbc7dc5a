"""The optional tags of a DICOM header, as far as they hold a value that can be used."""

import math
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

LARGEST = 2**53  # of whole numbers: tags hold 32 bits, and some programs write a number that no database takes


class Tags:
    """The optional tags of a header. `unreadable` collects those that are there but hold no value that can be used."""

    def __init__(self, header: Dataset) -> None:
        self.header = header
        self.unreadable: dict[str, None] = {}

    def value(self, name: str) -> Any:
        """The value of a tag; None if it is missing, empty or unreadable."""
        try:
            value = self.header.get(name)
        except Exception:  # a value that the type of the tag does not allow: pydicom raises whatever its parser meets
            self.unreadable[name] = None
            return None
        return None if value == "" else value

    def text(self, name: str) -> str:
        value = self.value(name)
        return "" if value is None else " ".join(str(value).split())

    def numbers(self, name: str, count: int) -> list[float]:
        """The first `count` numbers of a tag; [] if they are not all known."""
        value = self.value(name)
        values = list(value) if isinstance(value, MultiValue) else [] if value is None else [value]
        try:
            numbers = [float(each) for each in values[:count]]
        except (TypeError, ValueError):
            numbers = []
        if len(numbers) == count and all(map(math.isfinite, numbers)):
            return numbers
        if values:
            self.unreadable[name] = None
        return []

    def number(self, name: str) -> float | None:
        """A number, the first if there are several."""
        return next(iter(self.numbers(name, 1)), None)

    def whole(self, name: str) -> int | None:
        number = self.number(name)
        if number is not None and abs(number) > LARGEST:
            self.unreadable[name] = number = None
        return None if number is None else int(number)
