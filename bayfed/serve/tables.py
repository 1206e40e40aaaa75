"""The tables of the history."""

VERSION = 1
"""Raised with every change that an older version cannot read."""

SCHEMA = """
CREATE TABLE items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    received TEXT NOT NULL,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    digest TEXT NOT NULL,
    revision TEXT NOT NULL,
    ms REAL NOT NULL,
    error TEXT,
    score REAL,
    log_odds REAL,
    p_value REAL,
    epistemic REAL,
    threshold REAL,
    decision TEXT,
    regions TEXT NOT NULL DEFAULT '[]',
    verdict TEXT,
    note TEXT NOT NULL DEFAULT '',
    reviewed TEXT,
    learned TEXT
);
CREATE INDEX by_digest ON items (digest, source);
CREATE INDEX by_doubt ON items (epistemic DESC, id) WHERE decision = 'review' AND verdict IS NULL;
CREATE INDEX by_chance ON items (digest, id) WHERE decision = 'ok' AND verdict IS NULL;
CREATE INDEX by_review ON items (reviewed, id) WHERE verdict IS NOT NULL;
CREATE INDEX unlearned ON items (digest) WHERE verdict = 'good' AND learned IS NULL;
CREATE INDEX learned ON items (digest) WHERE learned IS NOT NULL;

CREATE TABLE maps (
    item INTEGER PRIMARY KEY REFERENCES items (id),
    height INTEGER NOT NULL,
    width INTEGER NOT NULL,
    surprise BLOB NOT NULL,
    low REAL NOT NULL,
    high REAL NOT NULL,
    threshold REAL
);

CREATE TABLE tallies (
    decision TEXT NOT NULL,
    verdict TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (decision, verdict)
);
CREATE TRIGGER counted AFTER INSERT ON items BEGIN
    INSERT INTO tallies VALUES (ifnull(NEW.decision, ''), ifnull(NEW.verdict, ''), 1)
    ON CONFLICT DO UPDATE SET number = number + 1;
END;
CREATE TRIGGER recounted AFTER UPDATE OF verdict ON items BEGIN
    UPDATE tallies SET number = number - 1
    WHERE decision = ifnull(OLD.decision, '') AND verdict = ifnull(OLD.verdict, '');
    INSERT INTO tallies VALUES (ifnull(NEW.decision, ''), ifnull(NEW.verdict, ''), 1)
    ON CONFLICT DO UPDATE SET number = number + 1;
END;

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    item INTEGER REFERENCES items (id),
    text TEXT NOT NULL
);

CREATE TABLE watched (
    path TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    modified INTEGER NOT NULL
);

CREATE TABLE lessons (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    revision TEXT NOT NULL,
    digests TEXT NOT NULL
);

CREATE TABLE unlearnable (
    digest TEXT PRIMARY KEY,
    reason TEXT NOT NULL
);
"""
"""Items with their maps, numbers of them, what people did, files seen; updates under way, and
images that no update can take."""
