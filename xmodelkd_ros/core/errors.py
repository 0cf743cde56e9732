"""Every error this package raises on purpose. The message says what is wrong and what to do."""


class XModelKDError(Exception):
    """Root of the package's errors: one line a user can act on."""


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
