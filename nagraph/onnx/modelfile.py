"""A model's file: read without its weights, and checked before anything is made of it."""

from __future__ import annotations

import pathlib
from typing import Any

from nagraph.errors import OnnxError
from nagraph.files import mapped, open_regular, short
from nagraph.onnx.external import ExternalFiles
from nagraph.onnx.opsets import NEWEST, OLDEST, ONNX_DOMAINS
from nagraph.onnx.tensors import Tensors
from nagraph.onnx.wire import skeleton


class ModelFile:
    """A model: its graph, the versions of its operators, its functions, and the reader of its tensors. OnnxError for a damaged file."""

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
        try:
            with open_regular(self.path) as file:
                data = mapped(file.fileno(), file.seek(0, 2))
        except FileNotFoundError:
            raise OnnxError(f"{self.path} does not exist") from None
        except OSError as error:
            raise OnnxError(f"{self.path} can't be read: {error.strerror or error}") from None
        self.proto = _parsed(data)
        self.tensors = Tensors(data, ExternalFiles(self.path.parent))
        self.opsets = versions(self.proto.opset_import)
        self.functions: dict[tuple[str, str], Any] = {}
        for function in self.proto.functions:
            if (function.domain, function.name) in self.functions:
                raise OnnxError(f"it has two functions {short(function.domain)}.{short(function.name)}")
            self.functions[function.domain, function.name] = function


def _parsed(data: Any) -> Any:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise OnnxError("reading ONNX models takes the package onnx; pip install 'nagraph[onnx]'") from None
    if not data.size:
        raise OnnxError("it is empty")
    try:
        proto = onnx.ModelProto.FromString(skeleton(memoryview(data)))
    except DecodeError:
        raise OnnxError("it is damaged, or no ONNX model") from None
    if not proto.HasField("graph") or not proto.opset_import:
        raise OnnxError("it is no ONNX model: it has no graph, or no versions of operators")
    return proto


def versions(imports: Any) -> dict[str, int]:
    """The version of the operators of each domain, ONNX's own under the empty name. OnnxError for one that is not read."""
    found: dict[str, int] = {}
    for entry in imports:
        domain = "" if entry.domain in ONNX_DOMAINS else entry.domain
        if found.setdefault(domain, entry.version) != entry.version:
            raise OnnxError(f"it asks for versions {found[domain]} and {entry.version} of the operators of {short(domain) or 'ONNX'}")
    version = found.get("", OLDEST)
    if not 1 <= version <= NEWEST:
        raise OnnxError(f"it uses version {version} of the operators of ONNX, and versions {OLDEST} to {NEWEST} are read")
    return found
