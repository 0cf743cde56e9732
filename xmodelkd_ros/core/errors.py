"""Errors that this package raises on purpose. Messages state the problem and the remedy."""

import reprlib
from collections.abc import Iterable

_MAX_LENGTH = 600
"""Maximum length of an error message, characters."""
_MAX_QUOTED = 120
"""Maximum length of a quoted value, characters."""
_MAX_LISTED = 16
"""Maximum number of names in a list."""
_MAX_LIST_LENGTH = 360
"""Maximum length of a list, characters; the rest of the message must fit beside it."""


class XModelKDError(Exception):
    """Base class of the package's errors: one line that a user can act on.

    Messages may quote untrusted content of files and ROS messages, so unprintable characters become spaces and the
    middle of overlong messages is cut out.
    """

    def __str__(self) -> str:
        return short_line(super().__str__())


class CloudError(XModelKDError):
    """A point cloud cannot be read: a field is missing, or its layout is inconsistent."""


class ImageError(XModelKDError):
    """A camera image cannot be decoded, or the library that decodes it is missing."""


class LabelError(XModelKDError):
    """A label table is inconsistent, or two label sets have no translation."""


class SensorError(XModelKDError):
    """A sensor file is unreadable, or its beam table does not match the sweeps."""


class ModelError(XModelKDError):
    """A model folder is incomplete, or its ``model.json`` contradicts the network."""


class BackendError(XModelKDError):
    """An inference library is missing, or failed."""


class BagError(XModelKDError):
    """A bag is missing or truncated, or lacks a requested topic."""


class ConfigError(XModelKDError):
    """A parameter or option has an invalid value."""


class DiskError(XModelKDError):
    """A disk is full, read-only, or fails."""


def one_line(error: Exception) -> str:
    """Message of another library's error, on one line and shortened."""
    return shortened(" ".join(str(error).split()).rstrip(".") or repr(error), 2 * _MAX_QUOTED)


def first_line(error: BaseException) -> str:
    """First line of an error's text."""
    return str(error).strip().split("\n", 1)[0]


def short_line(text: str) -> str:
    """Untrusted text as :class:`XModelKDError` prints it: printable, on one line, of limited length."""
    line = "".join(character if character.isprintable() else " " for character in text)
    if len(line) <= _MAX_LENGTH:
        return line
    half = (_MAX_LENGTH - len(_ELLIPSIS)) // 2
    start, end = line[:half], line[-half:]
    # Between words, unless that would lose much.
    before, after = start.rfind(" "), end.find(" ")
    start = start[:before] if before > half - _MAX_QUOTED else start
    end = end[after + 1 :] if 0 <= after < _MAX_QUOTED else end
    return f"{start}{_ELLIPSIS}{end}"


def quoted(value: object) -> str:
    """Shortened repr of a value.

    Only the outer levels of nested values are shown: a short file with nested references (YAML aliases) could expand
    to a repr that fills the memory.
    """
    return _SHORT_REPR.repr(value)


def shortened(text: str, max_length: int = _MAX_QUOTED) -> str:
    """Text with its middle cut out if it is too long to quote."""
    return text if len(text) <= max_length else f"{text[: max_length // 2]}...{text[-max_length // 2 :]}"


def listed(names: Iterable[str]) -> str:
    """Comma-separated names, limited in number and length."""
    all_names = list(names)
    first_names: list[str] = []
    for name in map(shortened, all_names[:_MAX_LISTED]):
        if first_names and len(", ".join([*first_names, name])) > _MAX_LIST_LENGTH:
            break
        first_names.append(name)
    left = len(all_names) - len(first_names)
    return ", ".join(first_names) + (f" and {left} more" if left else "")


class _ShortRepr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxstring = self.maxlong = self.maxother = _MAX_QUOTED

    def repr(self, x: object) -> str:
        return shortened(super().repr(x))


_ELLIPSIS = " ... "
_SHORT_REPR = _ShortRepr()
