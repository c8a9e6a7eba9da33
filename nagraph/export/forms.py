"""The forms that there are: one row each, from which come the functions of `ng.export`, the choices of `nagraph export --to` and its help.

Nothing is loaded here but what help needs.
"""

from __future__ import annotations

from typing import NamedTuple


class Option(NamedTuple):
    """An option of a form on the command line: a keyword of its function, `--name`, of a type that text is turned into."""

    name: str
    type: type
    help: str


class Form(NamedTuple):
    """A form is something that graphs are written as: by the function of its name, `NAME(what, path, args_or_specs, **options)`."""

    #: The module that defines the function, by its name below `nagraph.export`.
    module: str
    #: What the path is called in examples, with the ending that it must have; without one it is a folder.
    example: str
    #: What it is, for help: the end of the sentence "writes ...".
    about: str
    options: tuple[Option, ...] = ()
    #: Whether sizes may stay open (`ng.Dim`); where not, the command line gives them numbers.
    open_sizes: bool = False
    #: Whether the function takes `page`: what a page knows of a language model on which it writes text.
    has_page: bool = False
    #: Whether it can hold several functions, a mapping from their names to pairs (what, args_or_specs).
    has_functions: bool = False

    @property
    def suffix(self) -> str:
        """The ending of its files; "" where it is a folder."""
        return f".{self.example.rpartition('.')[2]}" if "." in self.example else ""


#: A form exists when its function does what it says. In the order of the documentation.
FORMS: dict[str, Form] = {
    "program": Form("program_file", "model.ngx", "a program of nagraph itself, which opens without the code that defined it",
                    (Option("optimised", bool, "The graph after the passes that keep it a graph, not as it was traced."),), True),
    "onnx": Form("to_onnx.model", "model.onnx", "an ONNX model", (
        Option("opset", int, "Version of ONNX's operators, 20 if not given."),
        Option("external", bool, "Weights in a file of their own, PATH.data; by itself from 1.5 GB on.")), True),
    "stablehlo": Form("to_stablehlo.exporting", "model.mlir", "a StableHLO module, for XLA and its like", (
        Option("format", str, "text, or bytecode: a portable artifact."),), True),
    "native": Form("to_native.library", "gpt2", "a library of machine code with a C header, and examples", (
        Option("target", str, "Machine: native, x86-64-v2, x86-64-v3, x86-64-v4, aarch64-linux, arm64-macos."),
        Option("name", str, "What the library is called, if not as the folder.")), has_functions=True),
    "wasm": Form("to_wasm.exporting", "gpt2-wasm", "a WebAssembly module with a loader for browsers and Node", (
        Option("beside", bool, "Weights in a file beside the module; by itself from 256 MB on."),), has_page=True),
    "c": Form("to_c.exporting", "model.c", "one readable file of C99, and its header", (
        Option("weights", str, "Where their numbers are: source, in the file, or header, in a header of their own."),
        Option("function", str, "What its function is called, if not as the target."))),
}
