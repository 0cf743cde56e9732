"""Every error this package raises on purpose. The message says what is wrong and what to do."""

_LONGEST = 4000
"""Characters of an error."""


class XModelKDError(Exception):
    """Root of the package's errors: one line a user can act on.

    It may name what a message or a file holds. What would break the line or move a terminal's cursor becomes a space,
    and of what is too long to read the middle is left out.
    """

    def __str__(self) -> str:
        line = "".join(character if character.isprintable() else " " for character in super().__str__())
        half = _LONGEST // 2
        return line if len(line) <= _LONGEST else f"{line[:half]} ... {line[-half:]}"


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
    """What another library says is wrong, without its line breaks."""
    return " ".join(str(error).split()).rstrip(".") or repr(error)
