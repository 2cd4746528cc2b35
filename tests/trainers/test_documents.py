"""Documents: every refusal says the line, the key and the remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainers.documents import Document, SpecError, load_document, parse_document, validate
from trainers.findings import FieldError
from trainers.quantity import Count, Number


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Halving(Strict):
    kind: Literal["halving"]
    eta: Count = 2


class Uniform(Strict):
    kind: Literal["uniform"]
    share: Number = 1


class Inner(Strict):
    width: Count
    heads: Count = 1

    @model_validator(mode="after")
    def _divides(self) -> Inner:
        if self.width % self.heads:
            raise FieldError("heads", f"{self.heads} does not divide width {self.width}")
        return self


class Spec(Strict):
    name: str
    model: Inner
    policy: Annotated[Halving | Uniform, Field(discriminator="kind")] = Halving(kind="halving")
    rates: list[Number] | Number = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    extras: dict[str, Inner] = {}
    budget: Annotated[Number, Field(gt=0)] = 1


GOOD = "name: a\nmodel:\n  width: 8\n"


def doc(text: str) -> Document:
    return parse_document(text, name="s.yaml")


def refusal(text: str, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        validate(doc(text).with_overrides(overrides), Spec)
    return str(caught.value).splitlines()


def test_scalars_by_the_core_schema() -> None:
    data = doc(
        "a: 1e18\nb: no\nc: yes\nd: 010\ne: 0x1F\nf: true\ng: ~\nh:\ni: 2026-01-02\nj: '1'\n"
        "k: 1_000\nl: [1, -2.5, .5]\nm: {n: on}\no: 12:30:45\n"
    ).data
    assert data == {
        "a": 1e18, "b": "no", "c": "yes", "d": 10, "e": 31, "f": True, "g": None, "h": None,
        "i": "2026-01-02", "j": "1", "k": "1_000", "l": [1, -2.5, 0.5], "m": {"n": "on"},
        "o": "12:30:45",
    }  # fmt: skip
    json.dumps(data, allow_nan=False)


def test_anchors_are_read() -> None:
    assert doc("a: &x [1, 2]\nb: *x\n").data == {"a": [1, 2], "b": [1, 2]}


@pytest.mark.parametrize(
    ("text", "place", "says"),
    [
        ("a: 1\nb:\n\tc: 2\n", "s.yaml:3:1", "spaces, not tabs"),
        ("a: 1\na: 2\n", "s.yaml:2:1  a", "given twice, first at s.yaml:1:1"),
        ("", "s.yaml", "is empty"),
        ("- 1\n", "s.yaml", "mapping"),
        ("word", "s.yaml", "mapping"),
        ("a: [1, 2\n", "s.yaml:2:1", "brackets"),
        ("a: 'x\n", "s.yaml:2:1", "quotes"),
        ("a: b: c\n", "s.yaml:1:5", "colon"),
        ("a: *x\n", "s.yaml:1:4", "anchor"),
        ("a: 1\n---\nb: 2\n", "s.yaml:2:1", "one document"),
        ("a: !!python/object:os.system x\n", "s.yaml:1:4  a", "remove the tag"),
        ("a: !mine {b: 1}\n", "s.yaml:1:4  a", "remove the tag"),
        ("a: .inf\n", "s.yaml:1:4  a", "not finite"),
        ("? [1, 2]\n: x\n", "s.yaml:1:3", "must be a word"),
        ("x: &x {a: 1}\ny:\n  <<: *x\n", "s.yaml:3:3  y", "merge keys"),
        ("a: \x00\n", "s.yaml", "not YAML"),
        ("a: " + "[" * 60 + "]" * 60, "s.yaml:1:", "deep"),
        ("a: " + "[" * 5000, "s.yaml", "deep"),
        ("a: &a [1]\nb: &b [*a, *b]\n", "s.yaml:1:8", "deep"),
    ],
)
def test_refused_text(text: str, place: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        doc(text)
    first = str(caught.value).splitlines()[0]
    assert first.startswith(place), first
    assert says in first
    assert str(caught.value).endswith("1 problem. Nothing was started.")


def test_alias_bomb_is_refused_quickly() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(SpecError, match="fewer aliases"):
        doc("\n".join(lines))


def test_files(tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text("﻿a: é\n", encoding="utf-8")
    assert load_document(good).data == {"a": "é"}
    with pytest.raises(SpecError, match=r"cannot be read: No such file"):
        load_document(tmp_path / "absent.yaml")
    with pytest.raises(SpecError, match=r"cannot be read: Is a directory"):
        load_document(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(SpecError, match=r"not UTF-8 \(byte 3\)"):
        load_document(tmp_path / "latin.yaml")
    (tmp_path / "big.yaml").write_bytes(b"#" * 256_001)
    with pytest.raises(SpecError, match="larger than"):
        load_document(tmp_path / "big.yaml")


def test_valid_document_becomes_the_model() -> None:
    spec = validate(doc(GOOD).with_overrides(["model.heads=2", "rates=[1e-3, 2]"]), Spec)
    assert (spec.model.heads, spec.rates) == (2, [1e-3, 2.0])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (GOOD + "  widht: 3\n", "s.yaml:4:3  model.widht  is no known key; did you mean 'width'?"),
        ("name: a\nmodel: {}\n", "s.yaml:2:1  model.width  is required and not given; add it"),
        (GOOD + "  heads: 3\n", "s.yaml:4:10  model.heads  3 does not divide width 8"),
        (GOOD + "device: gpu\n", "s.yaml:4:9  device  'gpu' is not known; did you mean 'cpu'?"),
        (GOOD + "budget: -1\n", "s.yaml:4:9  budget  must be greater than 0, not -1"),
        (
            GOOD + "policy: {kind: halvin}\n",
            "s.yaml:4:16  policy.kind  'halvin' is not known; did",
        ),
        (GOOD + "policy: {eta: 2}\n", "s.yaml:4:1  policy.kind  is required"),
        (
            GOOD + "policy:\n  kind: uniform\n  eta: 2\n",
            "s.yaml:6:3  policy.eta  is no known key; valid keys: kind, share",
        ),
        (GOOD + "rates: [1, x]\n", "s.yaml:4:12  rates.1  'x' is not a quantity"),
        (
            GOOD + "extras:\n  one: {width: 4, head: 1}\n",
            "s.yaml:5:19  extras.one.head  is no known key; did you mean 'heads'?",
        ),
        (GOOD.replace("a", "[1]", 1), None),
    ],
)
def test_refused_values(text: str, line: str | None) -> None:
    lines = refusal(text)
    if line is not None:
        assert lines[0].startswith(line)
    assert "pydantic" not in "".join(lines)
    assert not any("Annotated" in part or "list[" in part for part in lines)


def test_all_problems_at_once_and_counted() -> None:
    lines = refusal("nam: a\nmodel:\n  width: 1.5\ndevice: gpu\n")
    assert len(lines) == 5
    assert lines[-1] == "4 problems. Nothing was started."


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "model.widht=3",
            "--set model.widht  model.widht  is no known key; did you mean 'width'?",
        ),
        ("model.width=x", "--set model.width  model.width  'x' is not a quantity"),
        ("model.width", "--set  'model.width' is not an assignment; write a.b=value"),
        ("=3", "--set  '=3' is not an assignment"),
        ("a..b=3", "--set  'a..b=3' is not an assignment"),
        ("name.x=3", "--set name.x  'name' holds 'a', not a mapping"),
        ("rates.4=3", "--set rates.4  '4' is no index of a list of 2"),
        ("rates=[1", "--set rates"),
        ("budget=.nan", "--set budget  budget  .nan is not finite"),
    ],
)
def test_overrides_are_placed(override: str, line: str) -> None:
    assert refusal(GOOD + "rates: [1, 2]\n", override)[0].startswith(line)


def test_overrides_leave_the_original_alone() -> None:
    original = doc(GOOD + "rates: [1, 2]\n")
    changed = original.with_overrides(["rates.0=7", "extras.b.width=2", "device="])
    assert original.data["rates"] == [1, 2]
    assert changed.data["rates"] == [7, 2]
    assert changed.data["extras"] == {"b": {"width": 2}}
    assert changed.data["device"] is None


def test_later_problems_are_placed() -> None:
    document = doc(GOOD)
    problems = [document.problem(("model", "width"), "too wide; use 4")]
    problems.append(document.problem(("model", "depth"), "is missing; add it"))
    assert str(SpecError(problems)).splitlines() == [
        "s.yaml:3:10  model.width  too wide; use 4",
        "s.yaml:2:1  model.depth  is missing; add it",
        "2 problems. Nothing was started.",
    ]
