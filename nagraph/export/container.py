"""Containers: zips of a few files, stored as they are and aligned, so that arrays in them can be mapped; any tool of zips opens them.

Nothing is ever unpacked to disk, nothing is compressed, and what a zip says of itself is held against the file before memory is asked for:
so names that lead elsewhere, bombs, files that lie in one another and sizes that lie are all refused as what they are.
"""

from __future__ import annotations

import os
import pathlib
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import IO, Any

import numpy as np

from nagraph.errors import ProgramError
from nagraph.files import mapped, open_regular, short

#: Where the contents of a file begin: at a multiple of so many bytes.
ALIGNMENT = 64
#: The number of files that a zip may say it holds, and the bytes of its directory.
_MOST_FILES, _MOST_DIRECTORY = 16, 1 << 16
#: A field of padding in the header of a file, as Android's packages have it.
_PADDING = 0xD935
_LOCAL, _END, _END64, _LOCATOR = (struct.Struct(f) for f in ("<4s5H3L2H", "<4s4H2LH", "<4sQ2H2L4Q", "<4sLQL"))
#: Bytes that are checked at a time.
_CHUNK = 1 << 24


def write_container(file: IO[bytes], members: Mapping[str, Iterable[Any]]) -> None:
    """Write a zip of these files, whose contents come in pieces, to an empty file that is open. Equal contents give equal bytes."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as made:
        for name, pieces in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o644 << 16
            begin = file.tell() + _LOCAL.size + len(name.encode()) + 20 + 4  # of sizes in 64 bits, and of the padding's own header
            padding = -begin % ALIGNMENT
            info.extra = struct.pack("<2H", _PADDING, padding) + bytes(padding)
            with made.open(info, "w", force_zip64=True) as member:
                for piece in pieces:
                    member.write(piece)


def read_container(path: str | pathlib.Path, names: Collection[str]) -> dict[str, np.ndarray[Any, Any]]:
    """The bytes of the files of a zip, by their names, as read-only views of the mapped file; each has been held against its checksum.

    names: the files that there must be, and no others. ProgramError for anything else.
    """
    try:
        with open_regular(path) as file:
            data = mapped(file.fileno(), os.fstat(file.fileno()).st_size)
            _check_end(data)
            with zipfile.ZipFile(file) as opened:
                entries, directory = opened.infolist(), opened.start_dir
    except FileNotFoundError:
        raise ProgramError("it does not exist") from None
    except OSError as error:
        raise ProgramError(f"it can't be read: {error.strerror or error}") from None
    except (zipfile.BadZipFile, ValueError, ArithmeticError, LookupError, NotImplementedError, RuntimeError, struct.error) as error:
        if isinstance(error, ProgramError):
            raise
        raise ProgramError(f"it is damaged: {short(str(error)) or type(error).__name__}") from None
    found: dict[str, np.ndarray[Any, Any]] = {}
    free = 0  # where the next file may begin
    for entry in sorted(entries, key=lambda e: e.header_offset):
        if entry.filename not in names or entry.filename in found:
            why = "twice" if entry.filename in found else "which is no file of a program"
            raise ProgramError(f"it holds {short(entry.filename)!r}, {why}")
        begin = _begin(data, entry, free)
        free = begin + entry.file_size
        if free > directory:
            raise ProgramError(f"it is damaged: {entry.filename} would end at byte {free:,}, and the directory begins at {directory:,}")
        found[entry.filename] = data[begin:free]
        _check_sum(entry, found[entry.filename])
    if len(found) < len(names):
        raise ProgramError(f"it is no program, or damaged: there is no {next(n for n in names if n not in found)} in it")
    return found


def _check_end(data: np.ndarray[Any, Any]) -> None:
    """ProgramError unless a zip ends here, whose directory is small: before anyone makes a list of what is in it."""
    end = bytes(data[-_END.size:])
    if len(end) < _END.size or end[:4] != b"PK\5\6" or end[-2:] != b"\0\0":
        raise ProgramError("it is no program, or cut off: a program is a zip, which it does not end as" if data.size else "it is empty")
    _, _, _, _, count, nbytes, _, _ = _END.unpack(end)
    at = data.size - _END.size - _LOCATOR.size
    if at >= 0 and bytes(data[at:at + 4]) == b"PK\6\7":
        _, _, place, _ = _LOCATOR.unpack(bytes(data[at:at + _LOCATOR.size]))
        if place != at - _END64.size:
            raise ProgramError("it is damaged: its directory is not where its end says")
        record = _END64.unpack(bytes(data[place:at]))
        count, nbytes = max(record[6], record[7]), record[8]
    if count > _MOST_FILES or nbytes > _MOST_DIRECTORY:
        raise ProgramError(f"it holds {count:,} files and a directory of {nbytes:,} bytes, and is no program")


def _begin(data: np.ndarray[Any, Any], entry: zipfile.ZipInfo, free: int) -> int:
    """Where the contents of a file begin. ProgramError unless it is stored as it is, behind the one before."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size or entry.flag_bits & 0x2041:
        raise ProgramError(f"{entry.filename} in it is compressed or encrypted; the files of a program are stored as they are")
    at = entry.header_offset
    header = bytes(data[at:at + _LOCAL.size]) if at >= free else b""
    if len(header) < _LOCAL.size or header[:4] != b"PK\3\4":
        raise ProgramError(f"it is damaged: {entry.filename} does not begin at byte {at:,}, where the directory says")
    name, extra = struct.unpack("<2H", header[-4:])
    if bytes(data[at + _LOCAL.size:at + _LOCAL.size + name]) != entry.filename.encode():
        raise ProgramError(f"it is damaged: at byte {at:,} there is another file than {entry.filename}")
    return int(at + _LOCAL.size + name + extra)


def _check_sum(entry: zipfile.ZipInfo, content: np.ndarray[Any, Any]) -> None:
    found = 0
    for at in range(0, content.size, _CHUNK):
        found = zlib.crc32(content[at:at + _CHUNK].data, found)
    if found != entry.CRC:
        raise ProgramError(f"it is damaged: the contents of {entry.filename} do not have their checksum")
