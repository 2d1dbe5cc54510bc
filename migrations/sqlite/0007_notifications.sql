-- Devices that get notifications by Web Push, and what became of each notification.
CREATE TABLE push_devices (
  id         TEXT PRIMARY KEY,
  user_id    TEXT NOT NULL,
  session_id TEXT,
  endpoint   TEXT NOT NULL UNIQUE,
  p256dh     TEXT NOT NULL,
  auth       TEXT NOT NULL,
  label      TEXT NOT NULL,
  kinds      TEXT NOT NULL, -- a JSON list
  created_at INTEGER NOT NULL,
  seen_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX push_devices_user ON push_devices (user_id, seen_at);

-- No reference to tasks: a test has none, and the record stays when a task is deleted.
CREATE TABLE notifications (
  id          TEXT PRIMARY KEY,
  device_id   TEXT NOT NULL REFERENCES push_devices (id) ON DELETE CASCADE,
  user_id     TEXT NOT NULL,
  task_id     TEXT NOT NULL,
  subject     TEXT NOT NULL,
  seq         INTEGER NOT NULL,
  kind        TEXT NOT NULL,
  title       TEXT NOT NULL,
  due_at      INTEGER NOT NULL,
  accepted_at INTEGER,
  shown_at    INTEGER,
  opened_at   INTEGER,
  acted_at    INTEGER,
  ended       TEXT CHECK (ended IN ('quiet', 'obsolete', 'refused')),
  problem     TEXT,
  tries       INTEGER NOT NULL,
  next_at     INTEGER,
  passed_at   INTEGER,
  UNIQUE (device_id, task_id, subject)
) STRICT;
CREATE INDEX notifications_due ON notifications (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX notifications_device ON notifications (device_id, due_at);
CREATE INDEX notifications_subject ON notifications (task_id, subject);
