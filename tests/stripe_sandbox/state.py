"""Everything the sandbox knows: dictionaries in memory, written through to one SQLite file.

The process is single-threaded and a request runs without awaiting, so nothing needs a lock. A request's
changes (objects, events, deliveries, its idempotency record) are committed as one SQLite transaction
before its answer leaves, so a kill at any moment leaves whole requests, never halves.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

Record = dict[str, Any]

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    kind TEXT NOT NULL, id TEXT NOT NULL, position INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (kind, id)
)
"""


class State:
    def __init__(self, path: str | None = None) -> None:
        self._kinds: dict[str, dict[str, Record]] = {}
        self._positions: dict[tuple[str, str], int] = {}
        self._next_position = 1
        self._dirty: dict[tuple[str, str], None] = {}
        self._journal = _open(path) if path else None
        if self._journal:
            self._load(self._journal)

    def get(self, kind: str, record_id: str) -> Record | None:
        return self._kinds.get(kind, {}).get(record_id)

    def all(self, kind: str) -> list[Record]:
        """Oldest first."""
        return list(self._kinds.get(kind, {}).values())

    def newest_first(self, kind: str) -> Iterator[Record]:
        return reversed(self._kinds.get(kind, {}).values())

    def save(self, kind: str, record: Record, *, key: str = "id") -> Record:
        record_id = record[key]
        if (kind, record_id) not in self._positions:
            self._positions[kind, record_id] = self._next_position
            self._next_position += 1
        self._kinds.setdefault(kind, {})[record_id] = record
        self._dirty[kind, record_id] = None
        return record

    def delete(self, kind: str, record_id: str) -> None:
        self._kinds.get(kind, {}).pop(record_id, None)
        self._positions.pop((kind, record_id), None)
        self._dirty[kind, record_id] = None

    def clear(self, *, keep: frozenset[str] = frozenset()) -> None:
        for kind, records in self._kinds.items():
            if kind not in keep:
                for record_id in list(records):
                    self.delete(kind, record_id)
        self.commit()

    def commit(self) -> None:
        if self._journal and self._dirty:
            with self._journal:
                for kind, record_id in self._dirty:
                    self._write(self._journal, kind, record_id)
        self._dirty.clear()

    def close(self) -> None:
        self.commit()
        if self._journal:
            self._journal.close()

    def _write(self, journal: sqlite3.Connection, kind: str, record_id: str) -> None:
        record = self.get(kind, record_id)
        if record is None:
            journal.execute("DELETE FROM records WHERE kind = ? AND id = ?", (kind, record_id))
            return
        journal.execute(
            "INSERT INTO records (kind, id, position, body) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
            (kind, record_id, self._positions[kind, record_id], json.dumps(record)),
        )

    def _load(self, journal: sqlite3.Connection) -> None:
        for kind, record_id, position, body in journal.execute(
            "SELECT kind, id, position, body FROM records ORDER BY position"
        ):
            self._kinds.setdefault(kind, {})[record_id] = json.loads(body)
            self._positions[kind, record_id] = position
            self._next_position = position + 1


def _open(path: str) -> sqlite3.Connection:
    journal = sqlite3.connect(path)
    # A killed process loses nothing with these two; only a machine that loses power could.
    journal.execute("PRAGMA journal_mode = WAL")
    journal.execute("PRAGMA synchronous = OFF")
    journal.execute(SCHEMA)
    journal.commit()
    return journal
