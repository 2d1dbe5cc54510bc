-- Tasks that were deleted: what costs, quotas and the audit log need of them, and nothing that they contained.
CREATE TABLE deleted_tasks (
  task_id    TEXT PRIMARY KEY,
  user_id    TEXT NOT NULL,
  thread_id  TEXT NOT NULL,
  state      TEXT NOT NULL CHECK (state IN ('done', 'failed', 'cancelled')),
  rev        INTEGER NOT NULL, -- of the deletion, in the order of the revs of tasks
  created_at INTEGER NOT NULL,
  settled_at INTEGER NOT NULL,
  deleted_at INTEGER NOT NULL,
  deleted_by TEXT, -- null = the policy of the installation
  purged_at   INTEGER -- null = rows of the task are left; no read returns them
) STRICT;
CREATE INDEX deleted_tasks_unpurged ON deleted_tasks (task_id) WHERE purged_at IS NULL;
CREATE INDEX deleted_tasks_user ON deleted_tasks (user_id, task_id);
CREATE INDEX deleted_tasks_rev ON deleted_tasks (rev);
