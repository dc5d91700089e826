"""The one exception for what a person got wrong."""


class InputError(ValueError):
    """A wrong input: parameter, label, clip, feature or checkpoint.

    The message is one sentence that names the file and the value; `mer` and the pipeline stages print it
    to stderr without a traceback and exit with 2.
    """
