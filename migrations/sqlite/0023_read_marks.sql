-- The last event that the owner of a task should see; NULL = none, as in all that was recorded before.
ALTER TABLE tasks ADD COLUMN notable INTEGER;

-- Up to which seq the owner has read. `rev` is from the counter of tasks.rev: a mark is a change of
-- the owner's list, and of no other. 0 = from before there were marks.
CREATE TABLE task_reads (
  task_id TEXT PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
  user_id TEXT NOT NULL,
  seq     INTEGER NOT NULL,
  rev     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX task_reads_user ON task_reads (user_id, rev);
INSERT INTO task_reads (task_id, user_id, seq, rev) SELECT id, user_id, seq, 0 FROM tasks;
