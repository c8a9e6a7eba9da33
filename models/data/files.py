"""Text files: one, or those of a folder, read as UTF-8 or refused in one sentence."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

from nagraph.errors import DataError
from nagraph.files import read_bytes

#: What a folder is searched for.
SUFFIXES = (".txt", ".md", ".rst", ".py", ".csv", ".html", ".tex")


@dataclass(frozen=True)
class Document:
    """A document is a text and its name, for a file of a folder the path inside it."""

    name: str
    text: str

    @property
    def nbytes(self) -> int:
        """The length in UTF-8."""
        return len(self.text.encode("utf-8", "surrogatepass"))


def read(path: str | pathlib.Path) -> list[Document]:
    """A file, or the text files in a folder that are not empty, in the order of their paths. DataError for what is no text."""
    root = pathlib.Path(path)
    try:
        if not root.is_dir():
            return [Document(root.name, decode(root, read_bytes(root)))]
        files = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        contents = [(p, raw) for p in files if (raw := read_bytes(p))]
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} does not exist") from None
    except OSError as error:
        raise DataError(f"{error.filename or root} can't be read: {error.strerror or error}") from None
    if not contents:
        raise DataError(f"{root} holds no text file ({', '.join(SUFFIXES)})" if not files else f"every text file in {root} is empty")
    return [Document(p.relative_to(root).as_posix(), decode(p, raw)) for p, raw in contents]


def decode(path: pathlib.Path, raw: bytes) -> str:
    """The text of a file's bytes, without byte order mark, lines ending in a newline alone."""
    if not raw:
        raise DataError(f"{path} is empty")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: byte {error.start} is 0x{raw[error.start]:02x}") from None
    if "\0" in text:
        raise DataError(f"{path} is a binary file: it holds zero bytes")
    return text.replace("\r\n", "\n")
