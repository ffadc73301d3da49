"""Errors that cross module borders. Each message says what to do."""


class DarkroomError(Exception):
    """The root of Darkroom's own errors."""


class OperatorError(DarkroomError):
    """Something that the person who runs Darkroom has to mend; shown as one line, exit code 2."""


class SchemaMismatch(OperatorError):
    """The database was migrated by an older or a newer release than this code can work with."""


class UnknownModel(DarkroomError):
    """The catalog has no such model, or no such version of it."""
