"""Errors that end a command: what a user reads on one line."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can set right. The message is one sentence that names the thing and the remedy.

    The `emu` command prints it and exits with code 2.
    """
