-- Transcripts of agents. `total` = bytes of the task's records up to and including this one; it precedes the large column so that reading it is cheap.
CREATE TABLE transcripts (
  task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  n       INTEGER NOT NULL CHECK (n >= 1),
  attempt INTEGER NOT NULL CHECK (attempt >= 0), -- 0 = inherited
  total   INTEGER NOT NULL,
  record  TEXT NOT NULL,
  PRIMARY KEY (task_id, n)
) STRICT;

CREATE TRIGGER transcripts_grow BEFORE INSERT ON transcripts
WHEN NEW.n <> coalesce((SELECT max(n) FROM transcripts WHERE task_id = NEW.task_id), 0) + 1
  OR NOT EXISTS (
    SELECT 1 FROM tasks WHERE id = NEW.task_id AND attempt = NEW.attempt AND state NOT IN ('done', 'failed', 'cancelled')
  )
BEGIN SELECT RAISE(ABORT, 'a transcript grows by one record of the current attempt at a time'); END;
CREATE TRIGGER transcripts_frozen BEFORE UPDATE ON transcripts
BEGIN SELECT RAISE(ABORT, 'a transcript is append-only'); END;
CREATE TRIGGER transcripts_kept BEFORE DELETE ON transcripts
WHEN EXISTS (SELECT 1 FROM tasks WHERE id = OLD.task_id AND state NOT IN ('done', 'failed', 'cancelled'))
BEGIN SELECT RAISE(ABORT, 'a transcript is append-only'); END;
