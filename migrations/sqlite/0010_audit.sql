-- The audit log: who did what. The hash of a row covers its content and the hash before it (src/core/lib/audit/chain.ts).
CREATE TABLE audit (
  n       INTEGER PRIMARY KEY,
  at      INTEGER NOT NULL,
  actor   TEXT, -- no reference: rows outlive people
  via     TEXT NOT NULL,
  address TEXT NOT NULL,
  action  TEXT NOT NULL,
  target  TEXT,
  outcome TEXT NOT NULL,
  detail  TEXT NOT NULL,
  hash    TEXT NOT NULL
) STRICT;

-- Where the kept rows begin and end, in one row.
CREATE TABLE audit_ends (
  id         INTEGER PRIMARY KEY CHECK (id = 1),
  start_n    INTEGER NOT NULL,
  start_hash TEXT NOT NULL,
  end_n      INTEGER NOT NULL,
  end_hash   TEXT NOT NULL
) STRICT;
INSERT INTO audit_ends VALUES
  (1, 0, '0000000000000000000000000000000000000000000000000000000000000000', 0, '0000000000000000000000000000000000000000000000000000000000000000');

CREATE TRIGGER audit_grows BEFORE INSERT ON audit WHEN NEW.n <> (SELECT end_n FROM audit_ends) + 1
BEGIN SELECT RAISE(ABORT, 'the audit log grows by one row at a time'); END;
CREATE TRIGGER audit_frozen BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_kept BEFORE DELETE ON audit WHEN OLD.n > (SELECT start_n FROM audit_ends)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
