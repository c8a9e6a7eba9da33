"""The command `nagraph`: train, eval, generate, inspect, profile, tune, bench, opt, run, export, fuzz, cache, info."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import Any

import click

import nagraph
from nagraph.cli.lazy import Commands
from nagraph.errors import NagraphError

INTERRUPTED = 130


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(nagraph.__version__, prog_name="nagraph")
def cli() -> None:
    """nagraph, a graph compiler for neural networks.

    \b
    nagraph train gpt2                      train a small GPT-2 on text, then see it write
    nagraph eval runs/gpt2                  its figures on what was held out, beside those of baselines
    nagraph generate runs/gpt2 --prompt The continue a text with a trained model
    nagraph inspect gpt2 --pass fuse        the graph before and after a pass
    nagraph profile gpt2                    where the time and the memory of a step go
    """


def main(args: list[str] | None = None) -> Any:
    """Run the command line; errors raised on purpose are one sentence on stderr and an exit code that is not 0."""
    try:
        code = cli.main(args, prog_name="nagraph", standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        with contextlib.suppress(ValueError):  # in another thread than the main one
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # pressed again, it ends the process without a traceback of its last steps
        sys.exit(INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        more = f" ({where.command_path} --help tells more)" if where else ""
        click.echo(f"nagraph: {error.format_message().rstrip('.')}{more}", err=True)
        sys.exit(error.exit_code)
    except NagraphError as error:
        click.echo(f"nagraph: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"nagraph: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}", err=True)
        sys.exit(1)
    except MemoryError as error:
        click.echo(f"nagraph: not enough memory{f': {error}' if str(error) else ''}", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
