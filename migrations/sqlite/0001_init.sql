-- Users -----------------------------------------------------------------------------------------------------------------

CREATE TABLE users (
  id            TEXT PRIMARY KEY,
  email         TEXT NOT NULL UNIQUE, -- lower case
  role          TEXT NOT NULL CHECK (role IN ('user', 'operator', 'admin')),
  password_hash TEXT NOT NULL,
  created_at    INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
  id            TEXT PRIMARY KEY,
  user_id       TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  token_hash    TEXT NOT NULL UNIQUE,
  previous_hash TEXT,
  rotated_at    INTEGER NOT NULL,
  expires_at    INTEGER NOT NULL,
  revoked_at    INTEGER
) STRICT;
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_previous ON sessions (previous_hash) WHERE previous_hash IS NOT NULL;

CREATE TABLE tokens (
  id           TEXT PRIMARY KEY,
  user_id      TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  name         TEXT NOT NULL,
  hash         TEXT NOT NULL UNIQUE,
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER,
  last_used_at INTEGER
) STRICT;
CREATE INDEX tokens_user ON tokens (user_id, created_at);

CREATE TABLE credentials (
  id         TEXT PRIMARY KEY,
  user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  host       TEXT NOT NULL,
  username   TEXT,
  sealed     TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  UNIQUE (user_id, host)
) STRICT;

-- Tasks -----------------------------------------------------------------------------------------------------------------

-- The current state of each task, computed from its log. The specification is in task_specs: it never changes, so it must not be rewritten with each event.
CREATE TABLE tasks (
  id              TEXT PRIMARY KEY,
  user_id         TEXT NOT NULL,
  thread_id       TEXT NOT NULL,
  parent_id       TEXT,
  machine_version INTEGER NOT NULL,
  priority        INTEGER NOT NULL,
  turn            INTEGER NOT NULL, -- start tag of fair queueing
  rank            INTEGER NOT NULL, -- the order of the queue
  created_at      INTEGER NOT NULL,
  state           TEXT NOT NULL
    CHECK (state IN ('queued', 'provisioning', 'running', 'pushing', 'retrying', 'cancelling', 'done', 'failed', 'cancelled')),
  slot            INTEGER NOT NULL CHECK (slot IN (0, 1)),
  attempt         INTEGER NOT NULL CHECK (attempt >= 0),
  excused         INTEGER NOT NULL CHECK (excused >= 0),
  seq             INTEGER NOT NULL CHECK (seq >= 1),
  rev             INTEGER NOT NULL,
  due_at          INTEGER,
  updated_at      INTEGER NOT NULL,
  started_at      INTEGER,
  settled_at      INTEGER,
  snapshot        TEXT NOT NULL
) STRICT;
CREATE INDEX tasks_user ON tasks (user_id, id);
CREATE INDEX tasks_thread ON tasks (thread_id, id);
CREATE INDEX tasks_state ON tasks (state, id);
CREATE INDEX tasks_open ON tasks (created_at, id) WHERE state NOT IN ('done', 'failed', 'cancelled');
CREATE INDEX tasks_user_open ON tasks (user_id, id) WHERE state NOT IN ('done', 'failed', 'cancelled');
CREATE INDEX tasks_queue ON tasks (rank, id, user_id) WHERE state = 'queued';
CREATE INDEX tasks_queue_user ON tasks (user_id, rank, id) WHERE state = 'queued';
CREATE INDEX tasks_queue_turn ON tasks (priority, user_id, turn) WHERE state = 'queued';
CREATE INDEX tasks_slot ON tasks (user_id) WHERE slot = 1;
CREATE INDEX tasks_due ON tasks (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX tasks_rev ON tasks (rev);
CREATE INDEX tasks_user_rev ON tasks (user_id, rev);

CREATE TABLE task_specs (
  task_id TEXT PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
  spec    TEXT NOT NULL,
  search  TEXT NOT NULL -- title, prompt and repository in lower case
) STRICT;

-- The log, append-only.
CREATE TABLE task_events (
  task_id    TEXT NOT NULL,
  seq        INTEGER NOT NULL,
  at         INTEGER NOT NULL,
  attempt    INTEGER NOT NULL,
  type       TEXT NOT NULL,
  from_state TEXT,
  to_state   TEXT NOT NULL
    CHECK (to_state IN ('queued', 'provisioning', 'running', 'pushing', 'retrying', 'cancelling', 'done', 'failed', 'cancelled')),
  worker_seq INTEGER,
  data       TEXT NOT NULL,
  PRIMARY KEY (task_id, seq)
) STRICT;
CREATE UNIQUE INDEX task_events_worker ON task_events (task_id, attempt, worker_seq) WHERE worker_seq IS NOT NULL;

-- A settled task never changes (rule T2), and its log cannot grow: an event is accepted only if the task's row already has its seq.
CREATE TRIGGER tasks_settled BEFORE UPDATE ON tasks WHEN OLD.state IN ('done', 'failed', 'cancelled')
BEGIN SELECT RAISE(ABORT, 'a settled task never changes again'); END;
CREATE TRIGGER task_events_behind BEFORE INSERT ON task_events
WHEN NEW.seq > coalesce((SELECT seq FROM tasks WHERE id = NEW.task_id), 0)
BEGIN SELECT RAISE(ABORT, 'the log of a task grows only with its row'); END;
CREATE TRIGGER task_events_frozen BEFORE UPDATE ON task_events
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER task_events_cascade AFTER DELETE ON tasks
BEGIN DELETE FROM task_events WHERE task_id = OLD.id; END;

-- Number of tasks per state, maintained by triggers, because counting settled tasks takes longer with each of them.
CREATE TABLE tallies (
  state TEXT PRIMARY KEY,
  tasks INTEGER NOT NULL CHECK (tasks >= 0)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER tallies_insert AFTER INSERT ON tasks
BEGIN INSERT INTO tallies (state, tasks) VALUES (NEW.state, 1) ON CONFLICT DO UPDATE SET tasks = tasks + 1; END;
CREATE TRIGGER tallies_update AFTER UPDATE OF state ON tasks WHEN OLD.state <> NEW.state
BEGIN
  UPDATE tallies SET tasks = tasks - 1 WHERE state = OLD.state;
  INSERT INTO tallies (state, tasks) VALUES (NEW.state, 1) ON CONFLICT DO UPDATE SET tasks = tasks + 1;
END;
CREATE TRIGGER tallies_delete AFTER DELETE ON tasks
BEGIN UPDATE tallies SET tasks = tasks - 1 WHERE state = OLD.state; END;

-- Projections of the log ------------------------------------------------------------------------------------------------

CREATE TABLE messages (
  task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  seq     INTEGER NOT NULL,
  id      TEXT NOT NULL,
  at      INTEGER NOT NULL,
  role    TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
  mode    TEXT CHECK (mode IN ('steer', 'follow_up')),
  status  TEXT CHECK (status IN ('queued', 'delivered', 'withdrawn')),
  content TEXT NOT NULL,
  PRIMARY KEY (task_id, seq)
) STRICT;
CREATE INDEX messages_id ON messages (task_id, id);

CREATE TABLE tool_calls (
  task_id    TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  seq        INTEGER NOT NULL,
  attempt    INTEGER NOT NULL,
  id         TEXT NOT NULL,
  name       TEXT NOT NULL,
  input      TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at   INTEGER,
  output     TEXT,
  exit_code  INTEGER,
  truncated  INTEGER NOT NULL CHECK (truncated IN (0, 1)),
  PRIMARY KEY (task_id, seq)
) STRICT;
CREATE INDEX tool_calls_running ON tool_calls (task_id, attempt, id) WHERE ended_at IS NULL;

CREATE TABLE attempts (
  task_id    TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  number     INTEGER NOT NULL,
  container  TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at   INTEGER,
  exit_code  INTEGER,
  failure    TEXT,
  PRIMARY KEY (task_id, number)
) STRICT, WITHOUT ROWID;

-- Other -----------------------------------------------------------------------------------------------------------------

CREATE TABLE idempotency_keys (
  user_id     TEXT NOT NULL,
  key         TEXT NOT NULL,
  task_id     TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  fingerprint TEXT NOT NULL,
  PRIMARY KEY (user_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_task ON idempotency_keys (task_id);

-- Fair queueing (rule D8): the largest claimed turn per owner and priority; owner '' = the virtual time of the priority.
CREATE TABLE turns (
  user_id  TEXT NOT NULL,
  priority INTEGER NOT NULL,
  turn     INTEGER NOT NULL,
  PRIMARY KEY (user_id, priority)
) STRICT, WITHOUT ROWID;

CREATE TABLE settings (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
