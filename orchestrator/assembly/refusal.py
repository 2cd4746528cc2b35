"""The errors that assembly raises for what its caller can mend, and how others become them.

Touches nothing.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager


class Refused(Exception):
    """It cannot be done as asked: the message names the value, the rule and the fix."""


class Interrupted(Exception):
    """The sweep could not go on, but nothing journalled is lost: resume it when the cause is
    gone."""


@contextmanager
def told() -> Generator[None]:
    """Turn the rooms' own refusals into Refused, with their words, and into Interrupted what is
    nobody's mistake and may work later; bugs pass through."""
    from orchestrator.backends.base import BackendError, UnavailableError
    from orchestrator.journal import JournalError
    from orchestrator.recorded import RecordedError
    from trainers.documents import SpecError

    try:
        yield
    except UnavailableError as error:
        raise Interrupted(
            f"{error}\nNothing that was journalled is lost: when that is mended, the same command "
            "goes on."
        ) from error
    except (BackendError, JournalError, RecordedError, SpecError) as error:
        raise Refused(str(error)) from error
