"""Options that several commands have."""

from __future__ import annotations

import click

from nagraph import backends
from nagraph.errors import DataError, SignatureError


def check_backend(ctx: click.Context, param: click.Parameter, name: str) -> str:
    """The name itself. DataError unless there is a backend of this name that can be used here, or for the machine that --target names."""
    try:
        backends.usable(name, ctx.params.get("machine"))
    except SignatureError as error:
        raise DataError(str(error)) from None
    return name


#: For commands that compile: what `nagraph.cli.targets` understands.
target_argument = click.argument("target")
TARGETS = ("TARGET is a model (gpt2), an operation (sgemm_64), a folder that `nagraph train` left, a function with the types of its "
           "arguments ('script.py:function(f32[2,3], i32[2])' or 'module:function(...)'), an ONNX model with numbers for its open sizes "
           "('model.onnx(batch=2)'), a program file (step.ngx), or a graph in the text form (file.ng, or - for standard input). "
           "Arguments are random arrays: floats are normal, whole numbers 0 or 1.")
#: For commands that compile.
backend_option = click.option("--backend", default=backends.DEFAULT, show_default=True, callback=check_backend,
                              help="What runs compiled graphs.")
#: For commands that compile and run nothing.
machine_option = click.option("--target", "machine", is_eager=True, metavar="MACHINE",
                              help="The machine to compile for if it is not this one, such as sm_90 for --backend cuda.")
