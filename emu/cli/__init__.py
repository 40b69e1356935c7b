"""The `emu` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence

EXIT_USER_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code: 1 for a failure, 2 for what the user can set right."""
    import click
    import typer.main

    from emu.cli.app import app
    from emu.core.errors import UserError

    command = typer.main.get_command(app)
    try:
        result = command.main(
            args=list(argv) if argv is not None else None, prog_name="emu", standalone_mode=False
        )
    except UserError as error:
        print(f"emu: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    return result if isinstance(result, int) else 0
