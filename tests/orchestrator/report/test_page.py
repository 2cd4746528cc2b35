"""The page: whole, offline, escaped, and honest about what is missing."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from orchestrator.policies.exhaustive import Exhaustive
from orchestrator.policies.successive_halving import SuccessiveHalving
from orchestrator.pool import Pool
from orchestrator.report import words
from orchestrator.report.answers import interval
from orchestrator.report.page import page, plane_png
from orchestrator.report.sections import planning
from orchestrator.values import Candidate
from tests.orchestrator.report.ladders import SIZES, Ladder, annealed, curves_of, swept

VOID = {"meta", "br", "hr", "img", "link", "input"}


class Reader(HTMLParser):
    """Collects tags, attributes and text, and insists that every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.fixture(scope="module")
def ladder() -> Ladder:
    plain = swept(SuccessiveHalving(group_by="params"), 0.4, *curves_of())
    return annealed(plain, gain=0.1)


@pytest.fixture(scope="module")
def html(ladder: Ladder) -> str:
    return page(ladder.material())


def test_what_compute_would_buy_is_the_answer_s(ladder: Ladder) -> None:
    """Two grids of sizes gave two sizes and two intervals, apart in the third digit: the drawn
    line, here one nat off, is for drawing."""
    material = ladder.material()
    conclusions = material.conclusions
    answer, headline = conclusions.recommended, conclusions.headline
    assert answer is not None and answer.params is not None
    assert answer.loss is not None and answer.loss.low is not None
    assert answer.flops == pytest.approx(10 * conclusions.largest_flops)
    assert headline is not None and headline.line is not None
    line = replace(headline.line, low=headline.line.low - 1.0)
    off = replace(conclusions, headline=replace(headline, line=line))
    off = replace(off, laws=tuple(off.headline if r is headline else r for r in off.laws))
    rows = re.findall(r"<tr>(.*?)</tr>", str(planning(replace(material, conclusions=off))), re.S)
    (far,) = [row for row in rows if "10 times the largest run" in row]
    assert f">{words.amount(answer.params.value)}<" in far
    assert interval(answer.loss, conclusions.question.level) in far


def test_the_page_fetches_nothing(html: str) -> None:
    reader = read(html)
    assert "script" not in reader.tags
    assert "link" not in reader.tags
    assert "iframe" not in reader.tags
    for _, name, value in reader.attributes:
        assert not name.startswith("on")
        if name in ("src", "href"):
            assert (value or "").startswith("#"), (name, value)
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    policy = next(value for _, name, value in reader.attributes if name == "content")
    assert policy is not None
    assert "default-src 'none'" in policy


def test_the_page_is_small_enough_to_send(html: str) -> None:
    assert len(html.encode()) < 1_000_000


def test_the_answer_stands_before_everything_else(html: str, ladder: Ladder) -> None:
    text = " ".join(read(html).text)
    answer = ladder.conclusions().sentence
    assert answer in text
    for later in ("What to doubt", "Three aims", "The laws", "What was spent", "Trials"):
        assert text.index(answer) < text.index(later)


def test_every_trial_stands_with_its_reason(html: str, ladder: Ladder) -> None:
    text = " ".join(read(html).text)
    for trial in ladder.material().trials:
        assert trial.id in text
        assert trial.reason in text


def test_all_three_aims_are_there_whichever_was_asked(ladder: Ladder) -> None:
    text = " ".join(read(page(ladder.material(ladder.conclusions(aim="recommend")))).text)
    assert "recommend (asked)" in text
    assert "target" in text
    assert "frontier" in text


def test_nothing_is_saved_without_its_error(html: str) -> None:
    text = " ".join(read(html).text)
    assert "saved" not in text.lower()
    spent = text[text.index("What was spent") :]
    assert re.search(r"It bought a law with .*nats", spent)


def test_the_phases_of_a_law_are_said(html: str) -> None:
    text = " ".join(read(html).text)
    assert "phases: stable" in text and "phases: annealed" in text
    assert "the law says an annealed loss of" in text


def test_a_law_of_constant_rate_losses_says_what_annealing_would_gain() -> None:
    plain = swept(SuccessiveHalving(group_by="params"), 0.4, *curves_of())
    text = " ".join(read(page(annealed(plain, gain=0.1, trials=3).material())).text)
    assert "the law says a constant-rate loss of" in text
    assert "the sweep's own decays lowered the loss by" in text


def test_curves_carry_what_they_are_for_the_pointer(html: str, ladder: Ladder) -> None:
    titles = re.findall(r"<title>([^<]*parameters[^<]*)</title>", html)
    assert len(titles) == len(ladder.material().trials)


def test_names_and_reasons_are_text_and_never_markup() -> None:
    evil = "<script>alert(1)</script>&\"'"
    pool, curves = curves_of(rates=(1e-2,))
    first = pool.candidates[0]
    named = Candidate(
        id=evil,
        params=first.params,
        horizon=first.horizon,
        flops_per_token=first.flops_per_token,
        settings=(("optimizer.<b>", "</style><script>"),),
    )
    renamed = Pool(candidates=(named, *pool.candidates[1:]))
    curves[evil] = curves.pop(first.id)
    ladder = swept(Exhaustive(), 1.0, renamed, curves, name=evil)
    material = replace(
        ladder.material(), spec_text=evil, notes=(evil,), commands=(evil,), policy=evil
    )
    html = page(material)
    assert "script" not in read(html).tags
    assert "<script" not in html
    assert html.count("</style>") == html.count("<style")


def test_no_law_is_said_first_and_no_law_is_drawn() -> None:
    ladder = swept(Exhaustive(), 1.0, *curves_of(SIZES[:2], rates=(1e-2,)))
    html = page(ladder.material(ladder.conclusions(forms=("chinchilla",))))
    text = " ".join(read(html).text)
    assert "No law yet" in text
    assert "extrapolated" not in html
    assert "It bought no law yet." in text


def test_a_sweep_that_did_nothing_has_a_page_too() -> None:
    ladder = swept(Exhaustive(), 0.0, *curves_of())
    assert "No law yet" in page(ladder.material())


def test_a_page_is_written_the_same_twice(ladder: Ladder) -> None:
    material = ladder.material()
    assert page(material) == page(material)


def test_the_picture_is_a_png_for_a_slide(ladder: Ladder) -> None:
    data = plane_png(ladder.material())
    assert data.startswith(b"\x89PNG")
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (2000, 1200)
