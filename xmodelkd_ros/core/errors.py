"""Every error this package raises on purpose. The message says what is wrong and what to do."""

import reprlib
from collections.abc import Iterable

_LONGEST = 600
"""Characters of an error."""
_QUOTED = 120
"""Characters that are quoted of a value."""
_LISTED = 16
"""Names that are listed."""


class XModelKDError(Exception):
    """Root of the package's errors: one line a user can act on.

    It may name what a message or a file holds. What would break the line or move a terminal's cursor becomes a space,
    and of what is too long to read the middle is left out.
    """

    def __str__(self) -> str:
        return short_line(super().__str__())


class CloudError(XModelKDError):
    """A point cloud cannot be read: a field is missing, or the layout contradicts itself."""


class ImageError(XModelKDError):
    """A camera image cannot be decoded, or the library that decodes it is missing."""


class LabelError(XModelKDError):
    """A label table is inconsistent, or no translation between two label sets is known."""


class SensorError(XModelKDError):
    """A sensor file is unreadable, or its beam table does not fit the sweeps."""


class ModelError(XModelKDError):
    """A model folder is incomplete, or its ``model.json`` contradicts the network."""


class BackendError(XModelKDError):
    """An inference library is missing, or failed."""


class BagError(XModelKDError):
    """A bag is missing, truncated, or lacks the topic that was asked for."""


class ConfigError(XModelKDError):
    """A parameter or option has a value that cannot be used."""


class DiskError(XModelKDError):
    """A disk is full, read-only, or fails."""


def one_line(error: Exception) -> str:
    """What another library says is wrong, without its line breaks, and not all of what it quotes."""
    return shortened(" ".join(str(error).split()).rstrip(".") or repr(error), 2 * _QUOTED)


def short_line(text: str) -> str:
    """A text that names foreign things, as :class:`XModelKDError` shows it."""
    line = "".join(character if character.isprintable() else " " for character in text)
    half = (_LONGEST - len(_LEFT_OUT)) // 2
    return line if len(line) <= _LONGEST else f"{line[:half]}{_LEFT_OUT}{line[-half:]}"


def quoted(value: object) -> str:
    """What a value looks like, as far as it takes to find it again.

    Of what is nested only the outer levels are shown: lists that hold each other several times are short in a file, and
    written out in full would fill the memory.
    """
    return _SHORT.repr(value)


def shortened(text: str, most: int = _QUOTED) -> str:
    """A foreign text, whose middle is left out where it is too long to quote."""
    return text if len(text) <= most else f"{text[: most // 2]}...{text[-most // 2 :]}"


def listed(names: Iterable[str]) -> str:
    """Names to choose from: the first, and how many more there are."""
    every = list(names)
    shown = [shortened(name) for name in every[:_LISTED]]
    more = f" and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return ", ".join(shown) + more


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2
        self.maxstring = self.maxlong = self.maxother = _QUOTED

    def repr(self, x: object) -> str:
        return shortened(super().repr(x))


_LEFT_OUT = " ... "
_SHORT = _Short()
