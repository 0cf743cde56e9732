"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[object]], numeric: bool = False) -> str:
    """A Markdown table, without a line break at its end.

    Args:
        head: column titles.
        rows: cells, converted with ``str``.
        numeric: whether all columns but the first are right-aligned.
    """
    rule = ["---", *["---:" if numeric else "---"] * (len(head) - 1)]
    return "\n".join([markdown_row(head), f"|{'|'.join(rule)}|", *map(markdown_row, rows)])


def markdown_row(cells: Iterable[object]) -> str:
    """One row of a table. A ``|`` inside a cell would end it, so it becomes a slash."""
    return f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |"
