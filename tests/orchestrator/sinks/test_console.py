"""The terminal: few lines, plain ones, nothing that a name could smuggle in."""

from __future__ import annotations

import io
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from orchestrator.backends.replay import ReplayBackend
from orchestrator.events import (
    AttemptLost,
    Decided,
    Diverged,
    Record,
    SegmentEnded,
    Started,
    StopAsked,
)
from orchestrator.journal import MemoryJournal
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.sinks.console import ConsoleSink, anew, counts, lasting, plain, told
from orchestrator.state import apply, fold
from orchestrator.values import Extend, Used
from tests.orchestrator.worlds import drive, fresh, opened, small_pool

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
    assert re.match(r"extending 8 trials \((\S+, ){3}\.\.\.\): rung 1 of 3 at", lines[1])
    assert any(line.startswith("stopped 4 trials (n") for line in lines)
    assert re.fullmatch(
        r"done: the policy has nothing left to decide, with \d+\.\d % of its FLOPs spent",
        lines[-1],
    )
    assert "\x1b" not in text and len(lines) < 15


def test_verbose_tells_each_decision() -> None:
    text = shown(io.StringIO(), verbose=True)
    assert text.count("extend n") >= 8 and "stop n" in text


def test_a_terminal_sees_the_budget_and_who_runs() -> None:
    text = shown(Terminal())
    assert "FLOPs" in text and "running" in text and "told to reach" in text


def test_the_live_view_keeps_each_thing_on_a_line_of_its_own() -> None:
    journal = MemoryJournal()
    drive(POOL, CURVES, SuccessiveHalving(), BUDGET, journal=journal)
    state = fold(fresh(POOL, BUDGET), (record.event for record in journal.records[:20]))
    stream = Terminal()
    sink = ConsoleSink(stream)
    sink.show(journal.records[19:20], state)
    before = len(stream.getvalue())
    sink.close()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue()[before:])
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    assert re.fullmatch(r"[━╸╺]* *\d+ % of \S+ FLOPs", lines[0])
    assert lines[1] == counts(state) and lines[2].startswith("best loss")
    assert len(lines) == 4 + sum(trial.running for trial in state.trials.values())


def test_the_share_and_the_time_left_are_of_what_runs_out_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr("orchestrator.sinks.console.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    amount = [1.0]
    sink = ConsoleSink(stream, used=lambda _: Used(unit="GPU-hours", amount=amount[0], budget=4.0))
    state = fresh(POOL, BUDGET)
    assert state.ledger.spent == 0, "FLOPs would say 0 %"
    for seconds, hours in ((0.0, 1.0), (60.0, 1.01), (120.0, 2.0)):
        now[0], amount[0] = seconds, hours
        sink.show([], state)
    first, last = stream.getvalue().splitlines()
    # A hundredth of an hour says nothing of the rest; one of four within 2 minutes does.
    assert first.startswith("25 % of 4 GPU-hours, ") and "left" not in first
    assert last.startswith("50 % of 4 GPU-hours, ") and last.endswith("about 4 min left")


def test_one_trial_is_called_by_its_name_and_a_raised_budget_told() -> None:
    state = fresh(POOL, BUDGET)
    one = Decided(policy="p", decisions=(Extend(trial="a", tokens=9, reason="why"),))
    assert told(one, state, verbose=False) == ["extending a to 9 tokens: why"]
    again = replace(opened(2, ReplayBackend(CURVES, POOL)), raised=("budget.dollars 4 -> 8",))
    assert told(again, state, verbose=False)[0].endswith("with more: budget.dollars 4 -> 8")


def test_purchases_with_reasons_of_their_own_have_a_line_each() -> None:
    state = fresh(POOL, BUDGET)
    both = (
        Extend(trial="a", tokens=4096, reason="width 0.3, for 1e9"),
        Extend(trial="b", tokens=2048, reason="width 0.2, for 2e9"),
    )
    assert told(Decided(policy="p", decisions=both), state, verbose=False) == [
        "extending a to 4,096 tokens: width 0.3, for 1e9",
        "extending b to 2,048 tokens: width 0.2, for 2e9",
    ]


def test_a_clause_that_was_just_told_is_not_told_again() -> None:
    doubt = " (joint_law may not choose yet: it ordered 84 % of the pairs); no rule can end it yet"
    one, two = f"extending a: falls by 0.2 %{doubt}", f"extending b: falls by 0.1 %{doubt}"
    assert anew(two, one) == "extending b: falls by 0.1 % ..."
    assert anew(one, "") == one and anew(one, "done") == one
    assert anew("extending b: as told (w1); why", "extending a: as told (w1); why").endswith("why")
    stream = io.StringIO()
    sink = ConsoleSink(stream)
    state = fresh(POOL, BUDGET)
    for seq, reason in enumerate((f"falls by 0.2 %{doubt}", f"falls by 0.1 %{doubt}")):
        event = Decided(policy="p", decisions=(Extend(trial="a", tokens=9 + seq, reason=reason),))
        sink.show([Record(seq=seq, time=0.0, event=event)], state)
    first, second = stream.getvalue().splitlines()
    assert first.endswith(doubt)
    assert second == "extending a to 10 tokens: falls by 0.1 % ..."
    stream = io.StringIO()
    sink = ConsoleSink(stream, verbose=True)
    for seq in range(2):
        event = Decided(policy="p", decisions=(Extend(trial="a", tokens=9, reason=f"x{doubt}"),))
        sink.show([Record(seq=seq, time=0.0, event=event)], state)
    assert all(line.endswith(doubt) for line in stream.getvalue().splitlines()), "all of it"


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


class Broken(io.StringIO):
    """A stream that is gone after its first lines."""

    def __init__(self, error: OSError, *, tty: bool, lines: int = 2) -> None:
        super().__init__()
        self._error, self._tty, self._lines = error, tty, lines

    def isatty(self) -> bool:
        return self._tty

    def write(self, text: str) -> int:
        self._lines -= 1
        if self._lines < 0:
            raise self._error
        return super().write(text)


@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "Broken pipe"), OSError(5, "Input/output error")]
)
def test_a_reader_who_left_stops_nothing(error: OSError, tty: bool) -> None:
    stdout = os.fstat(sys.__stdout__.fileno()) if sys.__stdout__ else None
    text = shown(Broken(error, tty=tty), verbose=True)
    assert len(text) < 2000
    # rich would have pointed our own stdout at nothing.
    assert sys.__stdout__ is None or os.fstat(sys.__stdout__.fileno()) == stdout


def test_a_pause_says_whom_it_waits_for_until_they_have_ended() -> None:
    events = [
        Decided(
            policy="p",
            decisions=tuple(Extend(trial=c.id, tokens=c.end, reason="r") for c in POOL),
        ),
        *(Started(trial=c.id, attempt=1, until=c.end) for c in POOL),
        StopAsked(by="driver", reason="enough"),
    ]
    state = fresh(POOL, 2 * POOL.exhaustive_flops)
    stream = io.StringIO()
    sink = ConsoleSink(stream, awaited_s=0.01)
    for seq, event in enumerate(events):
        state = apply(state, event)
        sink.show([Record(seq=seq, time=0.0, event=event)], state)
    until(lambda: stream.getvalue().count("pausing for") >= 2)
    first = POOL.candidates[0].id
    assert f"waiting for {first}, " in stream.getvalue()
    assert "and 2 more to checkpoint at the next point" in stream.getvalue()
    ended = SegmentEnded(trial=first, attempt=1, tokens=0, checkpoint=None, stopped=True)
    state = apply(state, ended)
    sink.show([Record(seq=len(events), time=0.0, event=ended)], state)
    until(lambda: f"waiting for {POOL.candidates[1].id}, " in stream.getvalue())
    sink.close()
    said = stream.getvalue()
    time.sleep(0.05)
    assert stream.getvalue() == said


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)
