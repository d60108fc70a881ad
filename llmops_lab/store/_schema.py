"""The one schema, in the SQL that SQLite and PostgreSQL share. ``{serial}`` and ``{real}`` are the dialect's words.

Replies and scores are only ever added. A call is *in doubt* while its claims outnumber its replies, releases and 'lost' doubts:
the process that claimed it died before anything was recorded, so it may have been paid for.
"""

TABLES = (
    # One line a grid: what was asked for, by whom, and how it ended. ``owner`` is host:pid:start.
    """CREATE TABLE IF NOT EXISTS grids (
        grid TEXT PRIMARY KEY, name TEXT NOT NULL, plan TEXT NOT NULL, state TEXT NOT NULL, owner TEXT NOT NULL,
        started {real} NOT NULL, ended {real}, run_id TEXT)""",
    # One line a cell. ``reused`` is the ``seq`` of an older reply; NULL when the grid asked for itself.
    """CREATE TABLE IF NOT EXISTS cells (
        grid TEXT NOT NULL, cell INTEGER NOT NULL, key TEXT NOT NULL, prompt TEXT NOT NULL, model TEXT NOT NULL, row_id TEXT NOT NULL,
        replicate INTEGER NOT NULL, reused BIGINT, PRIMARY KEY (grid, cell))""",
    # Written before anything is sent ('claim'), and taken back when it was not sent after all ('release').
    """CREATE TABLE IF NOT EXISTS claims (
        seq {serial}, key TEXT NOT NULL, grid TEXT NOT NULL, kind TEXT NOT NULL, owner TEXT NOT NULL, at {real} NOT NULL)""",
    # One line an outcome: ok with a reply, or failed with a fault. ``body`` is ASCII JSON, so NUL and lone surrogates survive.
    """CREATE TABLE IF NOT EXISTS replies (
        seq {serial}, key TEXT NOT NULL, grid TEXT NOT NULL, row_id TEXT NOT NULL, status TEXT NOT NULL, body TEXT NOT NULL,
        at {real} NOT NULL)""",
    # 'lost': the claim ended without an outcome on record. 'retried': sent again after a try that may have been paid for.
    """CREATE TABLE IF NOT EXISTS doubts (
        seq {serial}, key TEXT NOT NULL, grid TEXT NOT NULL, kind TEXT NOT NULL, reason TEXT NOT NULL,
        at {real} NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS scores (
        seq {serial}, grid TEXT NOT NULL, cell INTEGER NOT NULL, key TEXT NOT NULL, scorer TEXT NOT NULL, fingerprint TEXT,
        body TEXT NOT NULL, at {real} NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS outbox (
        id {serial}, kind TEXT NOT NULL, payload TEXT NOT NULL, created {real} NOT NULL, done_at {real}, remote_id TEXT,
        tries INTEGER NOT NULL DEFAULT 0, last_error TEXT)""",
    # What a grid asked about: one line a row of a dataset, kept once for all grids of these rows. ``body`` is the row as JSON, masked.
    """CREATE TABLE IF NOT EXISTS rows (
        dataset TEXT NOT NULL, row_id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (dataset, row_id))""",
    # What a grid that ended came to, so that a large one is shown without reading its cells. It holds while ``ended`` is the grid's own.
    """CREATE TABLE IF NOT EXISTS summaries (grid TEXT PRIMARY KEY, ended {real} NOT NULL, body TEXT NOT NULL)""",
    # One line a rating queue. ``spec`` is all that was fixed when it was made: mode, rubric, sides, overlap, seed.
    """CREATE TABLE IF NOT EXISTS queues (
        queue TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, spec TEXT NOT NULL, created {real} NOT NULL, closed {real})""",
    """CREATE TABLE IF NOT EXISTS items (
        queue TEXT NOT NULL, item TEXT NOT NULL, position INTEGER NOT NULL, row_id TEXT NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (queue, item))""",
    # Ratings are only added. ``id`` is the client's: sent twice it is stored once. ``supersedes`` is the ``seq`` that this one replaces,
    # 0 for the first; as no two can replace the same one, the last of a chain is what holds. ``kind``: rating, skip or undo.
    """CREATE TABLE IF NOT EXISTS ratings (
        seq {serial}, id TEXT NOT NULL UNIQUE, queue TEXT NOT NULL, item TEXT NOT NULL, rater TEXT NOT NULL,
        supersedes BIGINT NOT NULL DEFAULT 0, kind TEXT NOT NULL, body TEXT NOT NULL, created {real} NOT NULL,
        UNIQUE (queue, item, rater, supersedes))""",
    # Who looks at an item now: one line a place, of which an item has as many as it shall have raters.
    """CREATE TABLE IF NOT EXISTS leases (
        queue TEXT NOT NULL, item TEXT NOT NULL, slot INTEGER NOT NULL, rater TEXT NOT NULL, until {real} NOT NULL,
        PRIMARY KEY (queue, item, slot))""",
    # What was settled where raters disagreed; the newest line of an item holds.
    """CREATE TABLE IF NOT EXISTS adjudications (
        seq {serial}, queue TEXT NOT NULL, item TEXT NOT NULL, body TEXT NOT NULL, created {real} NOT NULL)""",
    # How far a judge agreed with people, one line a calibration.
    """CREATE TABLE IF NOT EXISTS cards (
        seq {serial}, judge TEXT NOT NULL, fingerprint TEXT NOT NULL, body TEXT NOT NULL, created {real} NOT NULL)""",
    # One line a job. ``spec`` is what was asked for, ``record`` what run.json said last; ``owner`` is the process that runs it.
    """CREATE TABLE IF NOT EXISTS jobs (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, template TEXT NOT NULL, state TEXT NOT NULL, folder TEXT NOT NULL, owner TEXT NOT NULL,
        spec TEXT NOT NULL, record TEXT NOT NULL, submitted {real} NOT NULL, heartbeat {real}, ended {real}, cancel_requested {real})""",
    # The audit log. Only ever added to, numbered without gaps; ``prev`` is the hash of the entry before. ``name`` is the body's own.
    """CREATE TABLE IF NOT EXISTS audit (
        seq INTEGER PRIMARY KEY, at TEXT NOT NULL, kind TEXT NOT NULL, actor TEXT NOT NULL, body TEXT NOT NULL, prev TEXT NOT NULL,
        hash TEXT NOT NULL, name TEXT NOT NULL)""",
    # Keys of the served endpoint: never a key itself. ``held_usd`` is what calls in flight may cost at most, ``holds`` has each.
    """CREATE TABLE IF NOT EXISTS api_keys (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL UNIQUE, rpm INTEGER, budget_usd {real},
        spent_usd {real} NOT NULL DEFAULT 0, held_usd {real} NOT NULL DEFAULT 0, created {real} NOT NULL, revoked {real})""",
    """CREATE TABLE IF NOT EXISTS holds (
        hold TEXT PRIMARY KEY, api_key TEXT NOT NULL, usd {real} NOT NULL, owner TEXT NOT NULL, at {real} NOT NULL)""",
    # One line a request that was served; ``api_key`` is empty where none was asked for. What was said is not kept here.
    """CREATE TABLE IF NOT EXISTS served (
        id TEXT PRIMARY KEY, api_key TEXT NOT NULL, release TEXT NOT NULL, version TEXT NOT NULL, status TEXT NOT NULL, body TEXT NOT NULL,
        at {real} NOT NULL)""",
    # Replies that the same request to the same release gets again. ``digest`` covers both.
    """CREATE TABLE IF NOT EXISTS served_replies (
        digest TEXT PRIMARY KEY, release TEXT NOT NULL, body TEXT NOT NULL, at {real} NOT NULL)""",
    # What callers said of served replies; only ever added.
    """CREATE TABLE IF NOT EXISTS served_feedback (
        seq {serial}, request TEXT NOT NULL, api_key TEXT NOT NULL, body TEXT NOT NULL, at {real} NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS cells_key ON cells (key)",
    "CREATE INDEX IF NOT EXISTS cells_row ON cells (row_id)",
    "CREATE INDEX IF NOT EXISTS claims_key ON claims (key)",
    "CREATE INDEX IF NOT EXISTS replies_key ON replies (key)",
    "CREATE INDEX IF NOT EXISTS doubts_key ON doubts (key)",
    "CREATE INDEX IF NOT EXISTS scores_cell ON scores (grid, cell)",
    "CREATE INDEX IF NOT EXISTS scores_reuse ON scores (key, fingerprint)",
    "CREATE INDEX IF NOT EXISTS rows_row ON rows (row_id)",
    "CREATE INDEX IF NOT EXISTS items_row ON items (row_id)",
    "CREATE INDEX IF NOT EXISTS cards_judge ON cards (judge)",
    "CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state)",
    "CREATE INDEX IF NOT EXISTS audit_name ON audit (name, kind)",
    "CREATE UNIQUE INDEX IF NOT EXISTS api_keys_name ON api_keys (name) WHERE revoked IS NULL",
    "CREATE INDEX IF NOT EXISTS served_at ON served (at)",
    "CREATE INDEX IF NOT EXISTS served_feedback_request ON served_feedback (request)",
)
LAST = "served_feedback_request"
"""What is made last: where it is, all the rest is. Whoever adds to the tables makes something new last, or older ledgers never get it."""
