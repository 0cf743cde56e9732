"""HTML building blocks of report pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from xmodelkd_ros.core.labels import LabelMap

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #22262e; background: #fff; max-width: 1180px;
       margin: 2.5rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p, figcaption { color: #6b7280; margin: .3rem 0; }
.warning { color: #8a4b00; background: #fff4e0; padding: .4rem .8rem; border-radius: 6px; }
figure { margin: 0; }
img { max-width: 100%; }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.4rem 0; }
.card { border: 1px solid #e5e7eb; border-radius: 8px; padding: .6rem 1rem; min-width: 9rem; }
.card b { display: block; font-size: 1.45rem; font-weight: 600; }
.card span { color: #6b7280; font-size: .85rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .25rem .9rem .25rem 0; text-align: right; }
td:first-child, th:first-child { text-align: left; }
th { color: #6b7280; font-weight: 500; border-bottom: 1px solid #e5e7eb; }
.swatch { display: inline-block; width: .85em; height: .85em; border: 1px solid #9aa1ab; border-radius: 3px;
          margin-right: .5em; vertical-align: -.08em; }
.columns { display: flex; flex-wrap: wrap; gap: 0 3.5rem; }
.columns img { max-width: 41rem; width: 100%; }
.bar { width: 11rem; padding-right: 0; }
.bar div { height: .6rem; background: #2f6fde; border-radius: 2px; }
footer { color: #6b7280; font-size: .85rem; border-top: 1px solid #e5e7eb; margin-top: 3rem; padding-top: .8rem; }
"""


def write_page(path: Path, title: str, sections: Iterable[str]) -> None:
    """Write a page from HTML sections."""
    page = "\n".join(sections)
    path.write_text(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n{page}\n</body></html>\n",
        encoding="utf-8",
    )


def number(value: float | None, digits: int = 3) -> str:
    """A formatted number, or a dash for None."""
    return "-" if value is None else f"{value:.{digits}f}"


def warning_lines(warnings: Iterable[str]) -> str:
    """A conspicuous paragraph for each warning."""
    return "".join(f'<p class="warning">Warning: {escape(text)}.</p>\n' for text in warnings)


def figure_section(title: str, file: str, caption: str) -> str:
    """A section with an image file next to the page."""
    return (
        f'<h2>{escape(title)}</h2>\n<figure><img src="{file}" alt="{escape(title)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table of cells that are HTML."""
    header = "".join(f"<th>{escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(_cell(c) for c in row) + "</tr>\n" for row in rows)
    return f"<table><tr>{header}</tr>\n{body}</table>"


def _cell(content: str) -> str:
    return f'<td class="bar">{content}</td>' if content.startswith("<div") else f"<td>{content}</td>"


def bar(share: float | None) -> str:
    """A horizontal bar for a table cell."""
    return f'<div style="width:{100 * (share or 0):.1f}%"></div>'


def swatch(label_map: LabelMap, name: str) -> str:
    """A class name with its colour."""
    red, green, blue = label_map.palette[label_map.id_of(name)]
    return f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>{escape(name.replace("_", " "))}'
