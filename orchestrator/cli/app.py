"""The verbs put together, and what becomes of their errors.

No traceback is shown for what a person can mend; one of ours goes to a file, and is shown with
`--debug`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import cast

import typer

from orchestrator.assembly.refusal import Interrupted, Refused, told
from orchestrator.cli import launch, learn, look, predict, speech

HELP = """Neural scaling laws from pruned sweeps: train small models, stop the ones that teach
nothing more, and end with a law, its uncertainty and the runs that support it.

Exit codes: 0 done, 2 bad input, 75 interrupted or the cluster is away (the same command goes on),
1 our fault."""


def build() -> typer.Typer:
    """The command line of `frontrunner`."""
    app = typer.Typer(
        name="frontrunner",
        help=HELP,
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command("plan")(look.plan)
    app.command("launch")(launch.launch)
    app.command("status")(look.status)
    app.command("resume")(launch.resume)
    app.command("stop")(launch.stop)
    app.command("fit")(learn.fit)
    app.command("predict")(predict.predict)
    app.command("report")(learn.report)
    app.command("replay")(learn.replay)
    return app


def run(argv: Sequence[str]) -> int:
    """The exit code of the command on `argv`."""
    words = [word for word in argv if word != "--debug"]
    try:
        with told():
            code = typer.main.get_command(build())(
                args=words, prog_name="frontrunner", standalone_mode=False
            )
        return int(code or 0)
    except Refused as refused:
        speech.say(str(refused), style="red")
        return speech.BAD
    except Interrupted as interrupted:
        speech.say(str(interrupted), style="yellow")
        return speech.LATER
    except typer.Exit as left:
        return left.exit_code
    except (typer.Abort, KeyboardInterrupt):
        speech.say("interrupted", style="yellow")
        return speech.LATER
    except BrokenPipeError:
        # Whoever read our output has left: say nothing more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return speech.DONE
    except Exception as error:  # told below, and kept whole in a file
        if isinstance(error, _usage_errors()):
            speech.say(f"{error.format_message()} (--help says more)")
            return speech.BAD
        return _our_fault(error, shown="--debug" in argv)


class _UsageProblem(Exception):
    """The shape of what typer raises for a command line; never raised by us."""

    def format_message(self) -> str: ...


def _usage_errors() -> type[_UsageProblem]:
    """What typer raises for a command line it cannot read. It comes from the copy of click inside
    typer, or from click itself, depending on typer's version."""
    bases = typer.BadParameter.__mro__
    found = next(base for base in bases if base.__name__ == "ClickException")
    return cast("type[_UsageProblem]", found)


def _our_fault(error: Exception, *, shown: bool) -> int:
    if shown:
        traceback.print_exception(error)
        return speech.FAULT
    handle, path = tempfile.mkstemp(prefix="frontrunner-trouble-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    speech.say(
        f"This is a fault of ours: {type(error).__name__}: {error}\n"
        f"What we know is in {path}; --debug shows it. A sweep keeps all that it journalled.",
        style="red",
    )
    return speech.FAULT
