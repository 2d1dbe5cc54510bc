-- Tasks that the expiry of the installation leaves alone.
CREATE TABLE kept_tasks (
  task_id TEXT PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
  at      INTEGER NOT NULL
) STRICT;
