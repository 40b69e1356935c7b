"""The durable part of the store: rows of changes in SQLite.

A row is committed before `append` returns. It then outlives the process, killed in whatever way: the text is
with the operating system, and the write-ahead log is read again at the next start. It need not outlive a
failure of the power supply.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from emu.api.errors import StateError
from emu.api.items import Key

log = logging.getLogger(__name__)


class Row(NamedTuple):
    """One change: its version, ADDED, MODIFIED or DELETED, and the JSON text of the object."""

    version: int
    type: str
    key: Key
    data: bytes


class Journal:
    """One file, owned by one process."""

    def __init__(self, path: Path | None) -> None:
        """`path` None keeps everything in memory. Raises StateError when the file cannot be used."""
        try:
            self._database = sqlite3.connect(path or ":memory:", isolation_level=None)
            # One process owns the journal: the second one to open it is told so at once.
            self._database.execute("PRAGMA busy_timeout=0")
            self._database.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=OFF")
            self._database.executescript(
                "CREATE TABLE IF NOT EXISTS journal (version INTEGER PRIMARY KEY, type TEXT NOT NULL,"
                " resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, data BLOB NOT NULL);"
                "CREATE TABLE IF NOT EXISTS horizon (one INTEGER PRIMARY KEY CHECK (one = 1),"
                " version INTEGER);"
            )
        except sqlite3.Error as error:
            raise StateError(
                f"the journal {path} cannot be opened ({error}): stop the API server that uses it, or clear "
                "the state directory with `emu reset`"
            ) from None

    def horizon(self) -> int:
        """The version up to which changes may be missing; what is live of that time has a row."""
        row = self._database.execute("SELECT version FROM horizon").fetchone()
        return row[0] if row else 0

    def rows(self) -> Iterator[Row]:
        """All rows in the order of their versions."""
        for version, kind, resource, namespace, name, data in self._database.execute(
            "SELECT version, type, resource, namespace, name, data FROM journal ORDER BY version"
        ):
            yield Row(version, kind, Key(resource, namespace, name), data)

    def append(self, version: int, kind: str, key: Key, data: bytes) -> None:
        """Write one row, durably."""
        self._database.execute("INSERT INTO journal VALUES (?,?,?,?,?,?)", (version, kind, *key, data))

    def forget(self, versions: Sequence[int], horizon: int) -> bool:
        """Remove rows and move the horizon, both or neither. Gives whether it was done.

        That it fails costs space and no data, so it is told and not raised.
        """
        try:
            self._database.execute("BEGIN")
            self._database.executemany("DELETE FROM journal WHERE version=?", ((v,) for v in versions))
            self._database.execute("INSERT OR REPLACE INTO horizon VALUES (1, ?)", (horizon,))
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            # A transaction left open would swallow the writes that follow.
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            log.warning("the journal cannot be compacted: %s", error)
            return False
        return True

    def close(self) -> None:
        """Close the file."""
        self._database.close()
