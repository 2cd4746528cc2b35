"""Signals: the first asks, the second leaves; nothing is waited for that a pause cannot keep."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.cli.signals import Interrupts

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_is_a_reason_to_pause(number: signal.Signals) -> None:
    outside = signal.signal(number, signal.default_int_handler)  # under nohup it may be ignored
    try:
        with Interrupts() as interrupts:
            assert interrupts.asked() is None
            os.kill(os.getpid(), number)
            time.sleep(0.01)
            assert interrupts.asked() == f"interrupted by {number.name}"
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, outside)


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
            assert interrupts.asked() is None
    finally:
        signal.signal(signal.SIGHUP, before)


def ended(body: str) -> tuple[int, str]:
    """Exit code and stderr of a process that runs `body` with `interrupts` entered."""
    code = (
        "import os, signal, time\nfrom orchestrator.cli.signals import Interrupts\n"
        "def sent():\n    os.kill(os.getpid(), signal.SIGINT)\n    time.sleep(0.05)\n"
        f"with Interrupts() as interrupts:\n    {body}\n    print('went on')\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    return process.returncode, process.stderr + process.stdout


def test_the_second_leaves_at_once() -> None:
    code, said = ended("sent(); sent()")
    assert code == 75
    assert "pausing" in said and "leaving at once" in said and "went on" not in said


def test_while_the_laws_are_fitted_the_first_leaves_and_says_how_to_write_the_report() -> None:
    code, said = ended("interrupts.leave_at_once(); sent()")
    assert code == 75
    assert "pausing" not in said
    assert "`frontrunner report` writes" in said and "went on" not in said


def test_a_terminal_that_is_gone_is_no_error() -> None:
    code, said = ended("os.close(2); sent(); print(interrupts.asked())")
    assert code == 0
    assert "interrupted by SIGINT" in said
