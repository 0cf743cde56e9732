"""Reading YAML that may be damaged, or not be what it says."""

from __future__ import annotations

from typing import Any

import yaml

from xmodelkd_ros.core.errors import one_line

_LONGEST = 1 << 18
"""Characters: a hundred times the longest configuration. An alias has as many as what it stands for."""
_DEEPEST = 32


def parse_yaml(text: str) -> Any:
    """What a YAML text says.

    Raises:
        ValueError: it is no YAML; or it is too long with its aliases written out, nested too deep, or has an alias
            inside of what has an anchor itself, which may stand for more than there is memory for.
    """
    if len(text) > _LONGEST:
        raise ValueError(f"it has more than {_LONGEST} characters")
    try:
        _check_growth(text)
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except yaml.YAMLError as error:
        raise ValueError(one_line(error)) from error
    except (ValueError, OverflowError, AttributeError, TypeError, KeyError) as error:
        # Of numbers, dates and tags that look like ones and are none.
        raise ValueError(f"it holds a value that cannot be read: {one_line(error)}") from error


def _check_growth(text: str) -> None:
    whole = len(text)
    lengths: dict[str | None, int] = {}
    opened: list[tuple[str | None, int]] = []  # anchors of what is not closed yet, and where it begins
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
                raise yaml.YAMLError(f"alias *{event.anchor} inside of what has an anchor; write it out")
            whole += lengths.get(event.anchor, 0)
        if len(opened) > _DEEPEST:
            raise RecursionError
        if whole > _LONGEST:
            raise yaml.YAMLError(f"with alias *{event.anchor} written out it has more than {_LONGEST} characters")
