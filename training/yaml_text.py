"""Reading YAML that may be damaged, or not be what it says."""

from __future__ import annotations

from typing import Any

import yaml

from xmodelkd_ros.core.errors import one_line

_LONGEST = 1 << 18
"""Characters: a hundred times the longest configuration."""
_DEEPEST = 32


def parse_yaml(text: str) -> Any:
    """What a YAML text says.

    Raises:
        ValueError: it is no YAML; or it is too long, nested too deep, or grows as it is read: an alias inside of what
            has an anchor itself may stand for more than there is memory for.
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
    anchored: list[bool] = []
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            anchored.append(event.anchor is not None)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchored.pop()
        elif isinstance(event, yaml.AliasEvent) and any(anchored):
            raise yaml.YAMLError(f"alias *{event.anchor} inside of what has an anchor; write it out")
        if len(anchored) > _DEEPEST:
            raise RecursionError
