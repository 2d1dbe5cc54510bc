-- People whose deletion has begun and not ended. The row goes with the last of what names them.
CREATE TABLE person_deletions (
  user_id    TEXT PRIMARY KEY,
  alias      TEXT NOT NULL, -- of the person in rows that stay
  begun_at   INTEGER NOT NULL,
  deleted_by TEXT NOT NULL
) STRICT;
-- For the rows that get an alias in place of an admin who deleted them.
CREATE INDEX deleted_tasks_by ON deleted_tasks (deleted_by) WHERE deleted_by IS NOT NULL;
