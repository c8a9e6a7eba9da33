"""External data of a model: tensors in files beside it, mapped, never read before they are used.

A model says where: so nothing it says may lead out of its folder, and what it says of sizes is held against the file first.
"""

from __future__ import annotations

import os
import pathlib
import stat
from collections.abc import Mapping

import numpy as np

from nagraph.errors import OnnxError
from nagraph.files import mapped, open_regular, short


class ExternalFiles:
    """The files of one model, each opened and mapped once."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._mapped: dict[str, np.ndarray] = {}

    def bytes_of(self, entries: Mapping[str, str], nbytes: int) -> np.ndarray:
        """The bytes of a tensor, as a read-only view. entries: its `external_data`. OnnxError says what is wrong with them."""
        location = entries.get("location", "")
        offset, length = (self._number(entries, key) for key in ("offset", "length"))
        if "length" in entries and length != nbytes:
            raise OnnxError(f"its external data has {length:,} bytes, by its type and shape it should have {nbytes:,}")
        data = self._file(location)
        if offset + nbytes > data.size:
            raise OnnxError(f"its external data ends at byte {offset + nbytes:,} of {short(location)}, which holds {data.size:,}")
        return data[offset:offset + nbytes]

    @staticmethod
    def _number(entries: Mapping[str, str], key: str) -> int:
        written = entries.get(key, "0")
        if not (written.isascii() and written.isdigit() and len(written) < 19):
            raise OnnxError(f"the {key} of its external data is {short(written)!r}, not a whole number of bytes")
        return int(written)

    def _file(self, location: str) -> np.ndarray:
        if location not in self._mapped:
            self._mapped[location] = self._open(location)
        return self._mapped[location]

    def _open(self, location: str) -> np.ndarray:
        """A file beneath the folder, mapped. No part of its path may be a symbolic link, whose target may be anywhere."""
        parts = pathlib.PurePosixPath(location).parts
        if (not location or not location.isprintable() or "\\" in location or ":" in location or location.startswith("/")
                or not parts or any(p in ("..", ".", "") for p in location.split("/"))):
            raise OnnxError(f"its external data is in {short(location)!r}, but must be in a file beneath the model's folder, "
                            "named by a path such as weights/model.data")
        place = self.folder
        try:
            for part in parts:
                place = place / part
                before = os.lstat(place)
                if stat.S_ISLNK(before.st_mode):
                    raise OnnxError(f"its external data is in {short(location)!r}, but {place} is a symbolic link; "
                                    "put the file itself there")
            with open_regular(place) as file:
                now = os.fstat(file.fileno())
                if (now.st_dev, now.st_ino) != (before.st_dev, before.st_ino):
                    raise OnnxError(f"{place} was changed while it was read")
                return mapped(file.fileno(), now.st_size)
        except FileNotFoundError:
            raise OnnxError(f"its external data is in {short(location)!r}, but {place} does not exist") from None
        except OSError as error:
            raise OnnxError(f"its external data is in {short(location)!r}, but {place} can't be read: {error.strerror or error}") from None
