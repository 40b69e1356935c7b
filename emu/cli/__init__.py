"""The `emu` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 1 for a failure, 2 for what the user can set right."""
    import typer

    from emu.cli.app import app
    from emu.core.errors import UserError

    # What all errors of the command line derive from; typer does not export it under its own name.
    usage_error: Any = typer.BadParameter.__mro__[2]
    command = typer.main.get_command(app)
    arguments = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        result = command.main(args=arguments, prog_name="emu", standalone_mode=False)
    except UserError as error:
        print(f"emu: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except (typer.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except usage_error as error:
        return _explain(error)
    return result if isinstance(result, int) else 0


def _explain(error: Any) -> int:
    """One sentence for a command line that was not understood."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "emu"
    sentence = " ".join(error.format_message().split()).rstrip(".")
    print(f"emu: {sentence}; see `{path} --help`", file=sys.stderr)
    return EXIT_USER_ERROR
