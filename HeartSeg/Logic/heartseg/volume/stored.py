"""Check that a file contains the voxels stated in its header, before ITK reads them.

If a file ends early, ITK leaves the remaining memory uninitialised and returns what looks like an image.
"""

from __future__ import annotations

import gzip
import zlib
from typing import BinaryIO

import numpy as np

from ..errors import InputError
from .headers import DataBlock, Header

_CHUNK = 1 << 22
_SLACK = 1 << 24
"""Number of bytes decoded beyond the stated ones to reach the checksum at the end; further bytes are ignored."""


def check_data(header: Header, voxels: np.ndarray | None = None) -> tuple[np.ndarray | None, int]:
    """Refuse a file that contains fewer voxels than stated in its header, or whose compressed data are damaged.

    Decodes this part of the stream once (about 1 s for a 512x512x600 scan) in pieces.

    Args:
        header: of the file.
        voxels: array of the type that the block names, which is filled; without it, nothing is kept.

    Returns:
        Flat bool mask of the NaN and infinite voxels of a NIfTI file, in file order, if there are any; else ``None``.
        (The NIfTI library inside SimpleITK turns them into zeros.) And the number of bytes after the voxels.

    Raises:
        InputError: the message names the file and the number of missing bytes.
    """
    _check_parts(header)
    block = header.data
    if block is None:
        return None, 0
    name = block.path.name
    if not block.path.is_file():
        what = "is not there" if not block.path.exists() else "is not a regular file"
        raise InputError(f"{header.path.name!r} keeps its voxels in {name!r}, which {what}")
    try:
        found, undefined = _found(block, voxels)
    except EOFError as error:
        raise InputError(
            f"{name!r} is cut short: its compressed data end before the {block.promised} bytes that its header "
            "promises; copy or export it again"
        ) from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"compressed data of {name!r} are damaged: copy or export it again") from error
    if found < block.promised:
        raise InputError(
            f"{name!r} is cut short: its header promises {block.promised} bytes and {found} are there; "
            "copy or export it again"
        )
    return undefined, 0 if block.start < 0 else found - block.promised


def _check_parts(header: Header) -> None:
    """Refuse voxels in several files if one is missing or all together are too short."""
    name = header.path.name
    for part in header.parts:
        if not part.is_file():
            what = "is not there" if not part.exists() else "is not a regular file"
            raise InputError(f"{name!r} keeps its voxels in {part.name!r}, which {what}")
    if not header.parts:
        return
    found, promised = sum(part.stat().st_size for part in header.parts), header.frame_bytes * header.frames
    if found < promised and header.format == "MetaImage":
        raise InputError(
            f"voxels of {name!r} are cut short: its header promises {promised} bytes and its {len(header.parts)} files "
            f"hold {found}; copy or export them again"
        )


def _found(block: DataBlock, voxels: np.ndarray | None) -> tuple[int, np.ndarray | None]:
    """Return the number of available bytes after decoding, and the mask of undefined voxels."""
    size = block.path.stat().st_size
    if block.stored is not None and block.start + block.stored > size:
        raise EOFError
    if block.coding == "raw" and not block.floats:
        return size - max(0, block.start), None
    return _decoded(block, voxels)


def _decoded(block: DataBlock, voxels: np.ndarray | None) -> tuple[int, np.ndarray | None]:
    """Return the number of bytes after decoding, and the mask of undefined voxels."""
    total = 0
    undefined = _Undefined(block) if block.floats else None
    kept = None if voxels is None else voxels.reshape(-1).view(np.uint8)
    with block.path.open("rb") as stream:
        stream.seek(max(0, block.start))
        decoded: gzip.GzipFile | _ZlibStream | BinaryIO = stream
        if block.coding == "gzip":
            decoded = gzip.GzipFile(fileobj=stream)
        elif block.coding == "zlib":
            decoded = _ZlibStream(stream, block)
        while total < block.promised + _SLACK and (piece := decoded.read(_CHUNK)):
            if kept is not None:
                first, at = max(0, block.skip - total), max(0, total - block.skip)  # in the piece, and in the array
                part = np.frombuffer(piece, np.uint8)[first:][: max(0, len(kept) - at)]
                kept[at : at + len(part)] = part
            total += len(piece)
            if undefined is not None:
                undefined.look_at(piece)
    return total, undefined.mask if undefined else None


class _Undefined:
    """Finds the NaN and infinite voxels in a stream of pieces."""

    def __init__(self, block: DataBlock) -> None:
        self.mask: np.ndarray | None = None
        self._dtype = np.dtype(block.floats)
        self._count = (block.promised - block.skip) // self._dtype.itemsize
        self._skip, self._rest, self._done = block.skip, b"", 0

    def look_at(self, piece: bytes) -> None:
        if self._skip:
            piece, self._skip = piece[self._skip :], max(0, self._skip - len(piece))
        data = self._rest + piece
        whole = len(data) // self._dtype.itemsize
        values = np.frombuffer(data, self._dtype, whole)[: max(0, self._count - self._done)]
        bad = ~np.isfinite(values)
        if bad.any():
            if self.mask is None:
                self.mask = np.zeros(self._count, bool)
            self.mask[self._done : self._done + values.size] = bad
        self._done += whole
        self._rest = data[whole * self._dtype.itemsize :]


class _ZlibStream:
    """Reads a zlib stream (MetaImage) in pieces; raises ``EOFError`` if the stream or its stated size ends early."""

    def __init__(self, stream: BinaryIO, block: DataBlock) -> None:
        self._stream, self._decoder = stream, zlib.decompressobj(zlib.MAX_WBITS | 32)
        self._left = block.stored if block.stored is not None else 1 << 62

    def read(self, size: int) -> bytes:
        while not self._decoder.eof:
            chunk = self._decoder.unconsumed_tail
            if not chunk:
                chunk = self._stream.read(min(1 << 20, self._left))
                self._left -= len(chunk)
            if not chunk:
                raise EOFError
            if piece := self._decoder.decompress(chunk, size):
                return piece
        return b""
