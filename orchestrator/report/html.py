"""Elements of a page, escaped from birth: text goes in as text, markup only as `Markup`.

Touches nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


class Markup(str):
    """Text that is HTML already; made by this module alone, or by a figure."""

    __slots__ = ()


Content = str | Markup


def _safe(content: Content) -> str:
    return content if isinstance(content, Markup) else escape(content)


def element(tag: str, *contents: Content, **attributes: str) -> Markup:
    """`<tag a="b">contents</tag>`; `class_` stands for class."""
    shown = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
    )
    return Markup(f"<{tag}{shown}>{''.join(_safe(content) for content in contents)}</{tag}>")


def joined(parts: Iterable[Content]) -> Markup:
    return Markup("".join(_safe(part) for part in parts))


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[Content]],
    *,
    numbers: Sequence[int] = (),
    classes: str = "",
) -> Markup:
    """A table whose columns `numbers` are aligned to the right; wide ones scroll by themselves."""

    def cells(tag: str, row: Sequence[Content]) -> Markup:
        return joined(
            element(tag, cell, class_="n") if i in numbers else element(tag, cell)
            for i, cell in enumerate(row)
        )

    head = element("thead", element("tr", cells("th", heads)))
    body = element("tbody", joined(element("tr", cells("td", row)) for row in rows))
    inner = (
        element("table", head, body, class_=classes) if classes else element("table", head, body)
    )
    return element("div", inner, class_="wide")


def section(title: str, *contents: Content, id: str) -> Markup:
    return element("section", element("h2", title), *contents, id=id)


def items(entries: Iterable[Content], *, classes: str = "") -> Markup:
    listed = joined(element("li", entry) for entry in entries)
    return element("ul", listed, class_=classes) if classes else element("ul", listed)


def folded(summary: Content, *contents: Content) -> Markup:
    return element("details", element("summary", summary), *contents)
