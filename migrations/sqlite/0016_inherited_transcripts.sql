-- A transcript that continues another one refers to the records of that one. Those of earlier versions are copies and stay so.
CREATE TABLE transcript_origins (
  task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  owner   TEXT NOT NULL REFERENCES tasks (id), -- whose records these are; the task itself for those that a deleted task has left to it
  after   INTEGER NOT NULL CHECK (after >= 0), -- records after + 1 to upto
  upto    INTEGER NOT NULL CHECK (upto > after),
  total   INTEGER NOT NULL, -- bytes of the records 1 to upto
  PRIMARY KEY (task_id, upto)
) STRICT, WITHOUT ROWID;
CREATE INDEX transcript_origins_owner ON transcript_origins (owner);

CREATE TRIGGER transcript_origins_frozen BEFORE UPDATE OF task_id, after, upto, total ON transcript_origins
BEGIN SELECT RAISE(ABORT, 'an inherited transcript does not change'); END;

DROP TRIGGER transcripts_grow;
CREATE TRIGGER transcripts_grow BEFORE INSERT ON transcripts
WHEN NOT (
  -- One record of the current attempt at a time.
  NEW.n = max(
    coalesce((SELECT max(n) FROM transcripts WHERE task_id = NEW.task_id), 0),
    coalesce((SELECT max(upto) FROM transcript_origins WHERE task_id = NEW.task_id), 0)
  ) + 1
  AND EXISTS (
    SELECT 1 FROM tasks WHERE id = NEW.task_id AND attempt = NEW.attempt AND state NOT IN ('done', 'failed', 'cancelled')
  )
) AND NOT (
  -- What was inherited from a task that is deleted.
  NEW.attempt = 0 AND EXISTS (
    SELECT 1 FROM transcript_origins AS o JOIN transcripts AS r ON r.task_id = o.owner AND r.n = NEW.n
    WHERE o.task_id = NEW.task_id AND NEW.n > o.after AND NEW.n <= o.upto AND r.record = NEW.record
  )
)
BEGIN SELECT RAISE(ABORT, 'a transcript grows by one record of the current attempt at a time'); END;

DROP TRIGGER transcripts_kept;
CREATE TRIGGER transcripts_kept BEFORE DELETE ON transcripts
WHEN EXISTS (SELECT 1 FROM tasks WHERE id = OLD.task_id AND state NOT IN ('done', 'failed', 'cancelled'))
  OR EXISTS (SELECT 1 FROM transcript_origins WHERE owner = OLD.task_id AND task_id <> owner)
BEGIN SELECT RAISE(ABORT, 'a transcript is append-only'); END;
