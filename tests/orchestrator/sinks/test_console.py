"""The terminal: few lines, plain ones, nothing that a name could smuggle in."""

from __future__ import annotations

import io

from orchestrator.events import AttemptLost, Diverged
from orchestrator.journal import MemoryJournal
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.sinks.console import ConsoleSink, counts, lasting, plain, told
from orchestrator.state import apply
from tests.orchestrator.worlds import drive, fresh, small_pool

POOL, CURVES = small_pool()
BUDGET = 0.2 * POOL.exhaustive_flops


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, *, verbose: bool = False) -> str:
    journal = MemoryJournal()
    drive(POOL, CURVES, SuccessiveHalving(), BUDGET, journal=journal)
    sink = ConsoleSink(stream, verbose=verbose)
    state = fresh(POOL, BUDGET)
    for record in journal.records:
        state = apply(state, record.event)
        sink.show([record], state)
    sink.close()
    return stream.getvalue()


def test_a_log_file_gets_a_line_for_what_matters_and_no_escapes() -> None:
    text = shown(io.StringIO())
    lines = text.splitlines()
    assert lines[0] == "started small: 8 candidates, 3 at a time"
    assert lines[1].startswith("extending 8 trials: rung 1 of 3 at")
    assert any(line.startswith("stopped 4 trials, such as") for line in lines)
    assert lines[-1] == "done: the policy has nothing left to decide"
    assert "\x1b" not in text and len(lines) < 15


def test_verbose_tells_each_decision() -> None:
    text = shown(io.StringIO(), verbose=True)
    assert text.count("extend n") >= 8 and "stop n" in text


def test_a_terminal_sees_the_budget_and_who_runs() -> None:
    text = shown(Terminal())
    assert "FLOPs" in text and "running" in text and "told to reach" in text


def test_trouble_is_told() -> None:
    state = fresh(POOL, BUDGET)
    lost = AttemptLost(trial="a", attempt=2, reached=5, cause="died", reason="signal 9")
    assert told(lost, state, verbose=False) == ["a, attempt 2, was lost: signal 9"]
    diverged = Diverged(trial="a", attempt=1, tokens=5, reason="the loss is NaN")
    assert told(diverged, state, verbose=False) == ["a diverged: the loss is NaN"]


def test_words() -> None:
    assert plain("a\x1b[31mb\r\n") == "a[31mb"
    assert [lasting(s) for s in (5, 600, 9000)] == ["5 s", "10 min", "2.5 h"]
    assert counts(fresh(POOL, BUDGET)) == "8 unstarted"
