"""The `emu` command."""
