"""Errors a user can cause, each one sentence that names what, where and the remedy."""


class InputError(ValueError):
    """Bad input from the user: a file, a row, an option. Doors print it and exit with status 2."""


class ArtifactMismatch(InputError):  # noqa: N818  (the name a caller reads is the condition)
    """An artifact is missing, damaged, of another kind or of another schema version."""
