"""What a user can mend, and how messages name many things."""

from collections.abc import Collection


class UserError(Exception):
    """A mistake that a user can mend. Shown as one line that names the file, the problem and the remedy; exit code 2."""


def few(names: Collection[object], most: int = 8) -> str:
    """Names for a message: all of a few, else the first of them and how many more there are."""
    shown = ", ".join(map(str, list(names)[:most]))
    return shown if len(names) <= most else f"{shown} ... ({len(names) - most} more)"


def one_line(error: Exception, most: int = 160) -> str:
    """The error of another library as one short line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else f"{text[: most - 3]}..."
