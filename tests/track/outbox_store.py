"""An outbox table in a SQLite file: what the tests hand to ``deliver`` in the ledger's place, shared by processes."""

import json
import sqlite3


class FileOutbox:
    def __init__(self, path):
        self.path = str(path)
        self._run("CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY, kind, payload, remote_id, tries DEFAULT 0, error)")

    def outbox_add(self, kind, payload):
        return self._run("INSERT INTO outbox (kind, payload) VALUES (?, ?)", kind, json.dumps(payload)).lastrowid

    def outbox_pending(self):
        rows = self._run("SELECT id, kind, payload FROM outbox WHERE remote_id IS NULL ORDER BY id").fetchall()
        return [(ident, kind, json.loads(payload)) for ident, kind, payload in rows]

    def outbox_done(self, ident, remote_id):
        self._run("UPDATE outbox SET remote_id = ? WHERE id = ?", remote_id, ident)

    def outbox_failed(self, ident, error):
        self._run("UPDATE outbox SET tries = tries + 1, error = ? WHERE id = ?", error, ident)

    def row(self, ident):
        return dict(
            zip(
                ("remote_id", "tries", "error"),
                self._run("SELECT remote_id, tries, error FROM outbox WHERE id = ?", ident).fetchone(),
                strict=True,
            )
        )

    def _run(self, statement, *values):
        with sqlite3.connect(self.path, timeout=30) as connection:
            return connection.execute(statement, values)
