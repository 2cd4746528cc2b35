"""A trainer of your own: the example keeps the contract, and what breaks it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from trainers import own, power_law
from trainers.own import Cost, OwnConfig, OwnReport, OwnTrainerError, cost_of, find, train

EXAMPLE = "trainers.power_law:PowerLawRegression"


def config(trainer: str = EXAMPLE, **changes: object) -> OwnConfig:
    base = {"trainer": trainer, "settings": {"features": 8, "rate": 0.2}, "horizon": 2048}
    return OwnConfig.model_validate(base | changes)


def losses(reports: Iterator[OwnReport]) -> dict[int, float]:
    return {report.tokens: report.loss for report in reports}


def test_the_example_learns_and_its_cost_is_known() -> None:
    assert cost_of(config()) == Cost(params=8, flops_per_token=48, tokens_per_step=32)
    assert config().floor_tokens(100) == 96


def test_a_resumed_run_and_a_branch_are_bit_identical(tmp_path: Path) -> None:
    whole = losses(train(config(), until=2048, folder=tmp_path / "whole"))
    assert list(whole.values()) == sorted(whole.values(), reverse=True)
    first = list(train(config(), until=500, folder=tmp_path / "first"))
    assert (first[-1].tokens, first[-1].checkpoint is not None) == (480, True)
    rest = losses(train(config(), until=2048, folder=tmp_path / "b", resume=first[-1].checkpoint))
    assert {tokens: whole[tokens] for tokens in rest} == rest
    branch = {"until": 1024, "resume": first[-1].checkpoint, "anneal": True}
    one = list(train(config(), folder=tmp_path / "c", **branch))
    assert [report.phase for report in one] == ["decay", "annealed"]
    stopped = list(train(config(), folder=tmp_path / "d", stop=lambda: True, **branch))
    assert [report.tokens for report in stopped] == [512]
    again = train(config(), folder=tmp_path / "e", **(branch | {"resume": stopped[0].checkpoint}))
    assert list(again)[-1].loss == one[-1].loss != whole[1024]


def test_a_run_that_ended_tells_its_end_again(tmp_path: Path) -> None:
    """As a driver asks that was killed between the last point and the segment's end."""
    (*_, trunk) = train(config(), until=512, folder=tmp_path / "a")
    branch = {"until": 1024, "anneal": True}
    (*_, annealed) = train(config(), folder=tmp_path / "b", resume=trunk.checkpoint, **branch)
    (told,) = train(config(), until=512, folder=tmp_path / "c", resume=trunk.checkpoint)
    assert (told.tokens, told.loss, told.phase) == (512, trunk.loss, "stable")
    (told,) = train(config(), folder=tmp_path / "d", resume=annealed.checkpoint, **branch)
    assert (told.tokens, told.loss, told.phase) == (1024, annealed.loss, "annealed")
    assert told.checkpoint == tmp_path / "d" / annealed.checkpoint.name
    with pytest.raises(OwnTrainerError, match="lies on an anneal"):
        train(config(), until=2048, folder=tmp_path / "e", resume=annealed.checkpoint)


def test_checkpoints_are_whole_and_of_this_run(tmp_path: Path) -> None:
    (*_, last) = train(config(), until=64, folder=tmp_path)
    assert last.checkpoint is not None
    other = config(settings={"features": 8, "rate": 0.1})
    with pytest.raises(OwnTrainerError, match="was trained as"):
        train(other, until=128, folder=tmp_path, resume=last.checkpoint)
    weights = last.checkpoint / "weights.npy"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(OwnTrainerError, match="does not match its SHA-256"):
        train(config(), until=128, folder=tmp_path, resume=last.checkpoint)


class Odd(power_law.PowerLawRegression):
    """Breaks the contract as its settings say."""

    def train(self, until: int) -> Iterator[tuple[int, float]]:
        places = {"back": (64, 32), "past": (until + 32,), "short": (32,), "blown": (32, 64)}
        for tokens in places[find_settings["how"]]:
            yield tokens, float("nan") if find_settings["how"] == "blown" else 1.0


find_settings = {"how": "back"}


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("back", "told of 32 tokens after 64"),
        ("past", "told of 160 tokens after 0"),
        ("short", "ended at 32 tokens, before 128"),
    ],
)
def test_a_broken_contract_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, says: str
) -> None:
    monkeypatch.setattr(own, "find", lambda name: Odd)
    monkeypatch.setitem(find_settings, "how", how)
    with pytest.raises(OwnTrainerError, match=says):
        list(train(config(), until=128, folder=tmp_path))


def test_a_loss_that_is_no_number_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "find", lambda name: Odd)
    monkeypatch.setitem(find_settings, "how", "blown")
    (report,) = train(config(), until=128, folder=tmp_path)
    assert (report.diverged, report.checkpoint) == (True, None)


def test_names_that_lead_nowhere_are_told() -> None:
    with pytest.raises(OwnTrainerError, match=r"cannot be imported .* PYTHONPATH"):
        find("no_such_package.module:Trainer")
    with pytest.raises(OwnTrainerError, match="the module has no Absent"):
        find("trainers.power_law:Absent")
    with pytest.raises(OwnTrainerError, match="lacks cost, train, save, load"):
        find("trainers.power_law:Path")
    with pytest.raises(ValidationError, match="pattern"):
        config(trainer="os.system('x')")
    with pytest.raises(OwnTrainerError, match="no cost for these settings: KeyError"):
        cost_of(config(settings={}))
