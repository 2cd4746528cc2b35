"""The one error of `laws/`. Touches nothing."""


class FitError(ValueError):
    """The rows give no law. The message says what is missing and what would help.

    Raised instead of returning a number that nothing supports: "no law yet" is an answer.
    """
