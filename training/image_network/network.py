"""An image network: a folder with an ONNX file and ``network.json``, and its class probabilities for images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from training.config.yaml_config import Constraint, PositiveInt, YamlConfig, length, one_of, require, settings
from training.image_network.classes import ImageClasses
from xmodelkd_ros.core.errors import BackendError, ConfigError, listed
from xmodelkd_ros.core.model_spec import DataSource, sha256
from xmodelkd_ros.inference.onnxruntime import OnnxRuntimeBackend
from xmodelkd_ros.opencv import opencv
from xmodelkd_ros.segmentation.image_features import resized

SETTINGS = "network.json"
_SUM_TOLERANCE = 0.02
Layout = Annotated[str, one_of("NCHW", "NHWC")]
Color = Annotated[tuple[float, ...], length(3, 3)]


@settings
class InputSettings:
    """Input of an image network: (1, 3, H, W) or (1, H, W, 3) float32.

    Attributes:
        layout: order of the axes.
        color: order of the colours.
        mean: of each colour in 0..255; the network gets (value - mean) / std.
        std: likewise.
        long_sides: sizes of the image's longer side, pixels, that the network is asked at; the mean of its answers
            counts. The shorter side keeps the image's shape. Empty for a network of fixed size.
        multiple_of: both sides are rounded to multiples of this.
    """

    layout: Layout = "NCHW"
    color: Annotated[str, one_of("RGB", "BGR")] = "RGB"
    mean: Color = (0.0, 0.0, 0.0)
    std: Annotated[Color, Constraint("positive", lambda value: min(value) > 0)] = (1.0, 1.0, 1.0)
    long_sides: tuple[PositiveInt, ...] = ()
    multiple_of: PositiveInt = 32


@settings
class OutputSettings:
    """Output of an image network, of any size.

    Attributes:
        kind: ``logits`` or ``probabilities``, (1, K, h, w) or (1, h, w, K); or ``classes``, (1, h, w) or (1, 1, h, w)
            class numbers.
        layout: order of the axes.
        name: of the output; empty for the only one.
    """

    kind: Annotated[str, one_of("logits", "probabilities", "classes")] = "logits"
    layout: Layout = "NCHW"
    name: str = ""


@settings
class ImageNetworkConfig(YamlConfig):
    """``network.json``.

    Attributes:
        name: in messages and reports.
        classes: name of a shipped table (``config/image_classes/``), or a file beside ``network.json``.
        origins: training data and weights, with licence and attribution; they travel into ``model.json`` of students.
        file: the ONNX file.
        input: what it takes.
        output: what it gives.
        mirrored: also ask with the mirrored image, and take the mean.
        average_with: folders of other networks with the same classes, relative to this one; the mean of all answers
            counts.
    """

    name: str
    classes: str
    origins: Annotated[tuple[DataSource, ...], Constraint("a list with at least one entry", bool)]
    file: str = "network.onnx"
    input: InputSettings = InputSettings()
    output: OutputSettings = OutputSettings()
    mirrored: bool = False
    average_with: tuple[str, ...] = ()


class ImageNetwork:
    """A 2-D segmentation network.

    Args:
        folder: with an ONNX file and ``network.json``.
        of_other: folder of the network that it is averaged with, if any.

    Attributes:
        folder: the same.
        config: the content of ``network.json``.
        classes: the K classes of its output.
        origins: training data and weights of all networks that are asked.

    Raises:
        ConfigError: a file is missing or invalid, or the network has other inputs or outputs than the settings say, or
            a network to average with has other classes.
    """

    def __init__(self, folder: Path, of_other: Path | None = None) -> None:
        self.folder = folder
        if not (folder / SETTINGS).is_file():
            raise ConfigError(f"{folder} has no {SETTINGS}; see docs/your_lidar.md for a folder of an image network")
        self.config = ImageNetworkConfig.read(folder / SETTINGS)
        if of_other is not None and self.config.average_with:
            raise ConfigError(
                f"{folder} has average_with itself, so {of_other} cannot name it there; name all networks"
            )
        self.classes = ImageClasses.find(self.config.classes, folder)
        try:
            self._backend = OnnxRuntimeBackend(folder / self.config.file, "fp32")
        except BackendError as error:
            raise ConfigError(f"{folder}: {error}") from error
        self._input, self._output = self._checked_input(), self._checked_output()
        self._others = [self._other(folder / name) for name in self.config.average_with]
        origins = (*self.config.origins, *(origin for other in self._others for origin in other.origins))
        self.origins: tuple[DataSource, ...] = tuple(dict.fromkeys(origins))

    def _other(self, folder: Path) -> ImageNetwork:
        """A network to average with."""
        other = ImageNetwork(folder, self.folder)
        if other.classes != self.classes:
            raise ConfigError(f"{folder} has the classes {other.classes.name}, but {self.folder} {self.classes.name}")
        return other

    @cached_property
    def key(self) -> str:
        """Hash of all that its answers depend on."""
        settings = self.config.to_dict()
        asked: dict[str, Any] = {name: settings[name] for name in ("input", "output", "mirrored")}
        if self._others:
            asked["others"] = [other.key for other in self._others]
        return hashlib.sha256(f"{sha256(self.folder / self.config.file)} {asked}".encode()).hexdigest()

    def probabilities(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(K, h, w) class probabilities of an (H, W, 3) RGB image, edges aligned, in the network's own resolution.

        Raises:
            ConfigError: its output does not have the K classes, or is not finite.
        """
        answers = [self._answer(pixels, size) for size in self._sizes(pixels)]
        if self.config.mirrored:
            flipped = np.ascontiguousarray(pixels[:, ::-1])
            answers += [self._answer(flipped, size)[..., ::-1] for size in self._sizes(pixels)]
        own = _mean(answers)
        return _mean([own, *(other.probabilities(pixels) for other in self._others)]) if self._others else own

    def _sizes(self, pixels: NDArray[np.uint8]) -> Sequence[tuple[int, int]]:
        """Height and width of the images that the network is asked with."""
        *_, height, width = self._image_shape
        if height > 0 and width > 0:
            return [(height, width)]
        unit = self.config.input.multiple_of
        factors = [side / max(pixels.shape[:2]) for side in self.config.input.long_sides]
        sides = [tuple(max(unit, round(n * factor / unit) * unit) for n in pixels.shape[:2]) for factor in factors]
        return [(height, width) for height, width in sides]

    @property
    def _image_shape(self) -> tuple[int, int, int]:
        """3, H and W of the input, -1 where not fixed."""
        _, *rest = self._input.shape
        a, b, c = rest
        return (a, b, c) if self.config.input.layout == "NCHW" else (c, a, b)

    def _answer(self, pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
        """(K, h, w) probabilities of an image resized to a size."""
        given = self.config.input
        image = resized(pixels, size).astype(np.float32)
        image = image[..., ::-1] if given.color == "BGR" else image
        image = (image - np.asarray(given.mean, np.float32)) / np.asarray(given.std, np.float32)
        image = image.transpose(2, 0, 1) if given.layout == "NCHW" else image
        try:
            output = self._backend.infer({self._input.name: np.ascontiguousarray(image[None])})[self._output.name]
        except BackendError as error:
            raise ConfigError(
                f"{self.folder}: {error}; check the input's layout, long_sides and multiple_of"
            ) from error
        return self._as_probabilities(output)

    def _as_probabilities(self, output: NDArray[Any]) -> NDArray[np.float32]:
        count, kind = len(self.classes), self.config.output.kind
        if kind == "classes":
            numbers = output.reshape(output.shape[-2:]).astype(np.int64)
            if numbers.size and not 0 <= numbers.min() <= numbers.max() < count:
                raise ConfigError(
                    f"{self.folder}: the network says classes {numbers.min()} to {numbers.max()}, but "
                    f"{self.classes.name} has 0 to {count - 1}"
                )
            return np.asarray(numbers == np.arange(count)[:, None, None], np.float32)
        values = output[0] if self.config.output.layout == "NCHW" else output[0].transpose(2, 0, 1)
        if len(values) != count:
            raise ConfigError(
                f"{self.folder}: the network's output has {len(values)} classes, but {self.classes.name} has {count}; "
                "check classes and the output's layout"
            )
        if not np.isfinite(values).all():
            raise ConfigError(f"{self.folder}: the network's output is not finite; check the input's mean and std")
        values = values.astype(np.float32)
        if kind == "logits":
            values = np.exp(values - values.max(axis=0))
        total = values.sum(axis=0)
        if kind == "probabilities" and (values.min() < 0 or np.abs(total - 1).max() > _SUM_TOLERANCE):
            raise ConfigError(f"{self.folder}: the network's output is no probabilities; set output.kind to logits")
        return np.asarray(values / total)

    def _checked_input(self) -> Any:
        if len(self._backend.inputs) != 1:
            names = listed(tensor.name for tensor in self._backend.inputs)
            raise ConfigError(f"{self.folder}: the network has inputs {names}, but must have one, an image")
        self._input = image = self._backend.inputs[0]
        colors, *sides = self._image_shape if len(image.shape) == 4 else (0,)
        fits = image.dtype == "float32" and (colors == 3 or (colors == -1 and 3 not in sides))
        require(f"{self.folder}: input {image.name}", image.shape, fits, f"a float32 image, {self.config.input.layout}")
        fixed, asked = min(sides) > 0, self.config.input.long_sides
        require(f"{self.folder}: input.long_sides", asked, fixed or bool(asked), "given: the network takes any size")
        require(f"{self.folder}: input.long_sides", asked, not (fixed and asked), f"empty: the size is {image.shape}")
        return image

    def _checked_output(self) -> Any:
        named = self.config.output.name
        outputs = [tensor for tensor in self._backend.outputs if named in ("", tensor.name)]
        if len(outputs) != 1:
            names = listed(tensor.name for tensor in self._backend.outputs)
            raise ConfigError(f"{self.folder}: the network has outputs {names}; give one of them as output.name")
        return outputs[0]


def _mean(answers: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Mean of probabilities, in the resolution of the largest."""
    largest = max((answer.shape[1:] for answer in answers), key=lambda shape: shape[0] * shape[1])
    return np.asarray(sum(_resized(answer, largest) for answer in answers) / len(answers), np.float32)


def _resized(answer: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """(K, h, w) probabilities in another resolution."""
    if answer.shape[1:] == size:
        return answer
    height, width = size
    cv2 = opencv()
    return np.stack([cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in answer])
