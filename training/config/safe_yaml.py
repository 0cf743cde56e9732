"""Safe parsing of untrusted YAML."""

from __future__ import annotations

from typing import Any

import yaml

from xmodelkd_ros.core.errors import one_line

_MAX_LENGTH = 1 << 18
"""Characters, with aliases expanded; a hundred times the longest configuration."""
_MAX_DEPTH = 32


def parse_yaml(text: str) -> Any:
    """Parse a YAML text.

    Raises:
        ValueError: it is not valid YAML, too long with its aliases expanded, nested too deep, or has an alias inside
            of an anchored node, which could expand beyond the memory.
    """
    if len(text) > _MAX_LENGTH:
        raise ValueError(f"it has more than {_MAX_LENGTH} characters")
    try:
        _check_growth(text)
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except yaml.YAMLError as error:
        raise ValueError(one_line(error)) from error
    except (ValueError, OverflowError, AttributeError, TypeError, KeyError) as error:
        # Malformed numbers, dates and tags.
        raise ValueError(f"it holds a value that cannot be read: {one_line(error)}") from error


def _check_growth(text: str) -> None:
    whole = len(text)
    lengths: dict[str | None, int] = {}
    opened: list[tuple[str | None, int]] = []  # anchors and start positions of open collections
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, event.start_mark.index))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, start = opened.pop()
            lengths[anchor] = event.end_mark.index - start
        elif isinstance(event, yaml.ScalarEvent):
            lengths[event.anchor] = event.end_mark.index - event.start_mark.index
        elif isinstance(event, yaml.AliasEvent):
            if any(anchor is not None for anchor, _ in opened):
                raise yaml.YAMLError(f"alias *{event.anchor} inside of an anchored node; write it out")
            whole += lengths.get(event.anchor, 0)
        if len(opened) > _MAX_DEPTH:
            raise RecursionError
        if whole > _MAX_LENGTH:
            raise yaml.YAMLError(f"with alias *{event.anchor} written out it has more than {_MAX_LENGTH} characters")
