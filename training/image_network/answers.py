"""Answers of an image network, kept on disk by the content of network and image."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.datasets.sequence import decode_jpeg
from training.image_network.network import ImageNetwork
from xmodelkd_ros.core.atomic_write import atomic_file, make_folder
from xmodelkd_ros.inference.engine_cache import user_cache

_LEVELS = 255
"""Steps that probabilities are stored in."""


class ImageAnswers:
    """The class probabilities that an image network gives for encoded images, each computed once.

    Args:
        network: the network.
        folder: of the answers; None: in the user's cache folder. It may be removed at any time.
    """

    def __init__(self, network: ImageNetwork, folder: Path | None = None) -> None:
        self.network = network
        self._folder = (folder or user_cache("image_answers")) / network.key[:16]

    def of(self, jpeg: bytes) -> NDArray[np.float32]:
        """(K, h, w) probabilities; errors as in :meth:`ImageNetwork.probabilities` and :func:`decode_jpeg`."""
        path = self._folder / f"{hashlib.sha256(jpeg).hexdigest()[:32]}.npz"
        stored = _read(path, len(self.network.classes))
        if stored is None:
            answer = self.network.probabilities(decode_jpeg(jpeg))
            stored = np.rint(answer * _LEVELS).astype(np.uint8)
            make_folder(self._folder)
            with atomic_file(path) as unfinished, unfinished.open("wb") as file:
                np.savez_compressed(file, probabilities=stored)
        return stored.astype(np.float32) / np.maximum(stored.sum(axis=0, dtype=np.float32), 1)


def _read(path: Path, classes: int) -> NDArray[np.uint8] | None:
    """A stored answer; None if there is none, or a damaged one."""
    if not os.path.exists(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = file["probabilities"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = stored.dtype == np.uint8 and stored.ndim == 3 and len(stored) == classes
    return stored if fits else None
