"""The one exception for what a person got wrong, and the way there for the science, which has errors of its own."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """A wrong input: parameter, label, clip, feature or checkpoint.

    The message is one sentence that names the file and the value; `mer` and the pipeline stages print it
    to stderr without a traceback and exit with 2.
    """


@contextmanager
def as_input_error(kind: type[Exception]) -> Iterator[None]:
    """Raise an error of this kind as the InputError with the same message."""
    try:
        yield
    except kind as error:
        raise InputError(str(error)) from error
