-- The usage ledger: one row per model request. No reference to tasks, because the cost remains when a task is deleted.
CREATE TABLE model_requests (
  id                 TEXT PRIMARY KEY,
  task_id            TEXT NOT NULL,
  user_id            TEXT NOT NULL,
  attempt            INTEGER NOT NULL,
  at                 INTEGER NOT NULL,
  model              TEXT NOT NULL,
  input_tokens       INTEGER NOT NULL,
  output_tokens      INTEGER NOT NULL,
  cache_read_tokens  INTEGER NOT NULL,
  cache_write_tokens INTEGER NOT NULL,
  usd                REAL NOT NULL,
  estimated          INTEGER NOT NULL CHECK (estimated IN (0, 1))
) STRICT;
CREATE INDEX model_requests_task ON model_requests (task_id, usd);
CREATE INDEX model_requests_at ON model_requests (at, usd);
CREATE INDEX model_requests_user ON model_requests (user_id, at, usd);
