"""`python -m trainers config.yaml [key=value ...]`: train one model, alone.

Progress for people goes to stderr, and with --json one report a line to stdout. A folder that
holds a checkpoint is continued; an anneal has a folder of its own. Exit codes: 0 done (a diverged
run too: it is told), 2 bad input, 75 interrupted and resumable. Ctrl-C ends at the next report
with a checkpoint; a second one at once.

`torchrun --nproc-per-node 2 -m trainers config.yaml` shares every batch between processes
(`trainers.distributed`); the first of them speaks and writes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from trainers.config import TrainConfig
from trainers.documents import Problem, SpecError, load_document, validate
from trainers.flops import model_cost
from trainers.quantity import format_quantity, parse_count

if TYPE_CHECKING:
    from trainers.loop import Report

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 75


def main(arguments: list[str] | None = None) -> int:
    """Train as the arguments say; the exit code."""
    options = _options(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        document = load_document(options.config).with_overrides(options.overrides)
        config = validate(document, TrainConfig)
        until = config.horizon if options.until is None else _tokens(options.until)
    except SpecError as error:
        _say(str(error))
        return EXIT_BAD_INPUT
    return _train(config, until, options)


def _tokens(text: str) -> int:
    try:
        return parse_count(text)
    except ValueError as error:
        raise SpecError([Problem(place="--until", key="", message=str(error))]) from None


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainers", description="Train one language model."
    )
    parser.add_argument("config", type=Path, help="a YAML file such as configs/train-one.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="model.width=128")
    parser.add_argument("--folder", type=Path, help="for checkpoints (default: runs/NAME)")
    parser.add_argument("--until", metavar="TOKENS", help="stop there (default: the horizon)")
    parser.add_argument("--resume", type=Path, metavar="CHECKPOINT", help="go on from this one")
    parser.add_argument("--anneal", action="store_true", help="decay to zero from --resume")
    parser.add_argument("--json", action="store_true", help="one report a line on stdout")
    options = parser.parse_intermixed_args(arguments)
    if options.folder is None:
        options.folder = Path("runs") / options.config.stem
    return options


def _train(config: TrainConfig, until: int, options: argparse.Namespace) -> int:
    """Start the run and tell how it goes. torch is loaded only now that the input is good."""
    from trainers import checkpoint
    from trainers.compiling import CompilerError
    from trainers.data import DataError
    from trainers.device import DeviceError
    from trainers.distributed import GroupError, launched
    from trainers.loop import SegmentError, train

    stopper = _Stopper()
    with launched(config.device) as group:
        try:
            resume = _resume(options)
            if group.leads:
                _say_start(config, until, resume)
            reports = train(
                config,
                until=until,
                folder=options.folder,
                resume=resume,
                anneal=options.anneal,
                stop=stopper.asked,
                group=group,
            )
            _make(options.folder)
        except (
            SegmentError,
            checkpoint.CheckpointError,
            DataError,
            DeviceError,
            GroupError,
        ) as error:
            _say(f"{error}\nNothing was started.")
            return EXIT_BAD_INPUT
        try:
            finished = _tell(reports, options.json, config.floor_tokens(until), aloud=group.leads)
        except CompilerError as error:  # shows at the first step
            _say(str(error))
            return EXIT_BAD_INPUT
    if stopper.stopped and not finished:
        _say("interrupted; the same command goes on from the checkpoint")
        return EXIT_INTERRUPTED
    return 0


def _resume(options: argparse.Namespace) -> Path | None:
    """The newest checkpoint of the folder, else the one that was given.

    Raises CheckpointError where going on would pass over what was asked, or train on among the
    files of the trunk.
    """
    from trainers import checkpoint

    folder: Path = options.folder
    given: Path | None = options.resume
    newest = checkpoint.newest(folder)
    if newest is None:
        return given
    if options.anneal and checkpoint.read_position(newest).annealing is None:
        raise checkpoint.CheckpointError(
            f"{folder} holds the trunk, and an anneal would mix with it; give another --folder, "
            f"and --resume with the checkpoint to branch from, such as {newest}"
        )
    if given is None or given.resolve().parent != folder.resolve():
        return newest
    if given.resolve() != newest.resolve():
        raise checkpoint.CheckpointError(
            f"{folder} would go on from {newest}, not from {given}; leave --resume out, or give "
            "another --folder"
        )
    return newest


def _make(folder: Path) -> None:
    """Now, rather than at the first checkpoint. Raises CheckpointError."""
    from trainers import checkpoint

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise checkpoint.CheckpointError(
            f"--folder {folder} cannot be written ({error.strerror}); give another"
        ) from error


def _tell(reports: Iterator[Report], as_json: bool, target: int, *, aloud: bool) -> bool:
    """Tell of each report; whether the last was the run's end, at the target or diverged."""
    finished = False
    for report in reports:
        finished = report.diverged or report.tokens == target
        if not aloud:
            continue
        fields = dataclasses.asdict(report)
        if as_json:
            print(json.dumps({key: _plain(value) for key, value in fields.items()}), flush=True)
        _say(_row(report))
        if report.checkpoint is not None:
            _say(f"checkpoint {report.checkpoint}")
        if report.diverged:
            _say("the run diverged; a smaller optimizer.learning_rate is the usual remedy")
    return finished


def _row(report: Report) -> str:
    losses = f"{report.loss:8.4f}  {report.bits_per_byte:9.4f}  {report.train_loss:7.4f}"
    rest = f"{report.learning_rate:.2e}  {report.phase:8}  {report.elapsed_s:9.1f}"
    return f"{report.tokens:>14,}  {losses}  {rest}"


def _say_start(config: TrainConfig, until: int, resume: Path | None) -> None:
    cost = model_cost(config.model)
    _say(
        f"{format_quantity(cost.params)} parameters, {format_quantity(until)} tokens, "
        f"{format_quantity(cost.flops(until))} FLOPs"
    )
    if resume is not None:
        _say(f"going on from {resume}")
    _say("        tokens      loss  bits/byte    train  rate      phase       seconds")


def _plain(value: object) -> object:
    """JSON has no NaN, and no paths."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class _Stopper:
    """Ctrl-C and SIGTERM ask the run to end at its next report; a second Ctrl-C ends it now."""

    def __init__(self) -> None:
        self.stopped = False
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)

    def asked(self) -> bool:
        return self.stopped

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stopped:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            raise KeyboardInterrupt
        self.stopped = True
        _say("ending at the next report, with a checkpoint; once more to end at once")


if __name__ == "__main__":
    sys.exit(main())
