"""What a user can mend."""


class UserError(Exception):
    """A mistake that a user can mend. Shown as one line that names the file, the problem and the remedy; exit code 2."""
