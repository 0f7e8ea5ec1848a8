"""The tables of a ledger file, and the way to them from each older format."""

FORMAT = 2
TABLES = """
CREATE TABLE IF NOT EXISTS replies (
    id INTEGER PRIMARY KEY, created TEXT NOT NULL, model TEXT NOT NULL, body TEXT NOT NULL,
    prompt_tokens INTEGER, completion_tokens INTEGER, cached_tokens INTEGER,
    usd REAL, kind TEXT, expected_prompt REAL, expected_completion REAL
);
CREATE TABLE IF NOT EXISTS rows (
    key TEXT NOT NULL, reply INTEGER NOT NULL REFERENCES replies(id), sent_as TEXT NOT NULL,
    PRIMARY KEY (key, reply)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (
    key TEXT PRIMARY KEY, owner TEXT NOT NULL, expires REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS claims_of_owner ON claims (owner);
CREATE INDEX IF NOT EXISTS replies_of_kind ON replies (kind);
"""
# From each older format to the next: a paid reply is never left behind.
MIGRATIONS = {
    1: """
ALTER TABLE replies ADD COLUMN usd REAL;
ALTER TABLE replies ADD COLUMN kind TEXT;
ALTER TABLE replies ADD COLUMN expected_prompt REAL;
ALTER TABLE replies ADD COLUMN expected_completion REAL;
CREATE INDEX IF NOT EXISTS replies_of_kind ON replies (kind);
"""
}


def statements_from(found: int) -> list[str]:
    """The SQL that leads from a format to the present one; 0: a file without tables."""
    steps = [MIGRATIONS[number] for number in range(found, FORMAT)] if found else [TABLES]
    return [statement for step in steps for statement in step.split(";")]
