"""Decompression of files by their first bytes, as far as pandas compresses files."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from typing import IO, Any

from xmodelkd_ros.bags.storage import ZSTD_MAGIC, zstd

SUFFIXES = (".gz", "", ".bz2", ".xz", ".zst", ".zip")
"""Names end with these; the compression itself is recognized by the content."""

_PART = 1 << 20


def _open_zip(file: IO[bytes]) -> IO[bytes]:
    """The only file in a zip archive."""
    archive = zipfile.ZipFile(file)
    names = archive.namelist()
    if len(names) != 1:
        raise ValueError(f"it is a zip archive of {len(names)} files; unpack it")
    return archive.open(names[0])


_OPENED_BY: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
    ZSTD_MAGIC: zstd.open,
    b"PK\x03\x04": _open_zip,
}


def unpacked(content: bytes, max_bytes: int) -> bytes:
    """The content of a file, decompressed if it is compressed.

    Args:
        content: the file's bytes.
        max_bytes: limit of the result, against bombs.

    Raises:
        ValueError: the result is larger, or a zip archive holds several files.
        Exception: the decompressor's own, for damaged content.
    """
    opened = next((by for magic, by in _OPENED_BY.items() if content.startswith(magic)), None)
    if opened is None:
        return content
    data = bytearray()
    with opened(io.BytesIO(content)) as file:
        while part := file.read(_PART):  # larger parts would be allocated before they are known to exist
            data += part
            if len(data) > max_bytes:
                raise ValueError(f"it unpacks to more than {max_bytes >> 20} MB")
    return bytes(data)
