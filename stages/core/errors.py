"""The one kind of error that a user is meant to read."""


class UserError(Exception):
    """Bad input or environment. The text names the file, the field and what to do."""
