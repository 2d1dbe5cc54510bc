CREATE UNIQUE INDEX data_keys_active ON data_keys (use) WHERE retired_at IS NULL;

CREATE INDEX deleted_tasks_by ON deleted_tasks (deleted_by) WHERE deleted_by IS NOT NULL;

CREATE INDEX deleted_tasks_rev ON deleted_tasks (rev);

CREATE INDEX deleted_tasks_unpurged ON deleted_tasks (task_id) WHERE purged_at IS NULL;

CREATE INDEX deleted_tasks_user ON deleted_tasks (user_id, task_id);

CREATE INDEX idempotency_keys_task ON idempotency_keys (task_id);

CREATE INDEX identities_user ON identities (user_id, created_at);

CREATE INDEX messages_id ON messages (task_id, id);

CREATE UNIQUE INDEX messages_of_users ON messages (task_id, id) WHERE role = 'user';

CREATE INDEX messages_queued ON messages (task_id, seq) WHERE status = 'queued';

CREATE INDEX model_requests_at ON model_requests (at, usd);

CREATE INDEX model_requests_task ON model_requests (task_id, usd);

CREATE INDEX model_requests_user ON model_requests (user_id, at, usd);

CREATE INDEX notifications_device ON notifications (device_id, due_at);

CREATE INDEX notifications_due ON notifications (next_at) WHERE next_at IS NOT NULL;

CREATE INDEX notifications_subject ON notifications (task_id, subject);

CREATE INDEX passkeys_user ON passkeys (user_id, created_at);

CREATE INDEX push_devices_user ON push_devices (user_id, seen_at);

CREATE INDEX replies_at ON replies (at);

CREATE INDEX replies_user ON replies (user_id, at);

CREATE INDEX sessions_previous ON sessions (previous_hash) WHERE previous_hash IS NOT NULL;

CREATE INDEX sessions_user ON sessions (user_id);

CREATE INDEX task_events_said ON task_events (task_id, seq)
WHERE type IN ('task.submitted', 'task.state', 'message', 'message.status', 'question', 'answer', 'verify', 'push', 'pull_request')
  OR (type = 'notice' AND instr(data, '"code":"branch_') > 0);

CREATE UNIQUE INDEX task_events_worker ON task_events (task_id, attempt, worker_seq) WHERE worker_seq IS NOT NULL;

CREATE INDEX task_reads_user ON task_reads (user_id, rev);

CREATE INDEX task_specs_repo ON task_specs (repo, task_id);

CREATE INDEX task_specs_repo_of ON task_specs (task_id, repo);

CREATE INDEX tasks_due ON tasks (due_at, id) WHERE due_at IS NOT NULL;

CREATE INDEX tasks_ended ON tasks (settled_at, id) WHERE settled_at IS NOT NULL;

CREATE INDEX tasks_open ON tasks (created_at, id) WHERE state NOT IN ('done', 'failed', 'cancelled');

CREATE INDEX tasks_queue ON tasks (rank, id, user_id) WHERE state = 'queued';

CREATE INDEX tasks_queue_turn ON tasks (priority, user_id, turn) WHERE state = 'queued';

CREATE INDEX tasks_queue_user ON tasks (user_id, rank, id) WHERE state = 'queued';

CREATE INDEX tasks_rev ON tasks (rev);

CREATE INDEX tasks_slot ON tasks (user_id) WHERE slot = 1;

CREATE INDEX tasks_state ON tasks (state, id);

CREATE INDEX tasks_thread ON tasks (thread_id, id);

CREATE INDEX tasks_thread_open ON tasks (thread_id, id) WHERE state NOT IN ('done', 'failed', 'cancelled');

CREATE INDEX tasks_user ON tasks (user_id, id);

CREATE INDEX tasks_user_open ON tasks (user_id, id) WHERE state NOT IN ('done', 'failed', 'cancelled');

CREATE INDEX tasks_user_rev ON tasks (user_id, rev);

CREATE INDEX tasks_user_state ON tasks (user_id, state);

CREATE INDEX tokens_user ON tokens (user_id, created_at);

CREATE UNIQUE INDEX tool_calls_running ON tool_calls (task_id, attempt, id) WHERE ended_at IS NULL;

CREATE INDEX transcript_origins_owner ON transcript_origins (owner);

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

CREATE TABLE audit_ends (
  id         INTEGER PRIMARY KEY CHECK (id = 1),
  start_n    INTEGER NOT NULL,
  start_hash TEXT NOT NULL,
  end_n      INTEGER NOT NULL,
  end_hash   TEXT NOT NULL
) STRICT;

CREATE TABLE credentials (
  id         TEXT PRIMARY KEY,
  user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  host       TEXT NOT NULL,
  username   TEXT,
  sealed     TEXT NOT NULL,
  created_at INTEGER NOT NULL, checked TEXT, last_used_at INTEGER, last_use TEXT,
  UNIQUE (user_id, host)
) STRICT;

CREATE TABLE data_keys (
  id         TEXT PRIMARY KEY,
  use        TEXT NOT NULL,
  rotation   TEXT NOT NULL, -- the call that made it: the same call again makes none
  created_at INTEGER NOT NULL,
  retired_at INTEGER,
  wrapped    TEXT NOT NULL,
  UNIQUE (rotation, use)
) STRICT;

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

CREATE TABLE idempotency_keys (
  user_id     TEXT NOT NULL,
  key         TEXT NOT NULL,
  task_id     TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  fingerprint TEXT NOT NULL,
  PRIMARY KEY (user_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE identities (
  id           TEXT PRIMARY KEY,
  user_id      TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  issuer       TEXT NOT NULL,
  subject      TEXT NOT NULL, -- the provider's own id of the person, which is never given to another
  name         TEXT NOT NULL, -- for people to read
  created_at   INTEGER NOT NULL,
  last_used_at INTEGER,
  UNIQUE (issuer, subject)
) STRICT;

CREATE TABLE kept_tasks (
  task_id TEXT PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
  at      INTEGER NOT NULL
) STRICT;

CREATE TABLE links (
  id         TEXT PRIMARY KEY,
  hash       TEXT NOT NULL UNIQUE,
  kind       TEXT NOT NULL CHECK (kind IN ('invitation', 'password')),
  user_id    TEXT REFERENCES users (id) ON DELETE CASCADE, -- whose password
  email      TEXT,
  role       TEXT CHECK (role IN ('user', 'operator', 'admin')),
  made_by    TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  used_at    INTEGER
) STRICT;

CREATE TABLE "messages" (
  task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  seq     INTEGER NOT NULL,
  id      TEXT NOT NULL,
  at      INTEGER NOT NULL,
  role    TEXT NOT NULL CHECK (role IN ('user', 'assistant')),
  mode    TEXT CHECK (mode IN ('steer', 'follow_up')),
  status  TEXT CHECK (status IN ('queued', 'delivered', 'withdrawn', 'moved', 'undelivered')),
  content TEXT NOT NULL,
  PRIMARY KEY (task_id, seq)
) STRICT;

CREATE TABLE migrations (number INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;

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

CREATE TABLE passkeys (
  id            TEXT PRIMARY KEY,
  user_id       TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  credential_id TEXT NOT NULL UNIQUE, -- base64url
  public_key    TEXT NOT NULL, -- base64url of a COSE key
  counter       INTEGER NOT NULL, -- of the last signature; 0 = the authenticator does not count
  transports    TEXT NOT NULL, -- with commas
  rp_id         TEXT NOT NULL,
  name          TEXT NOT NULL,
  created_at    INTEGER NOT NULL,
  last_used_at  INTEGER
) STRICT;

CREATE TABLE person_deletions (
  user_id    TEXT PRIMARY KEY,
  alias      TEXT NOT NULL, -- of the person in rows that stay
  begun_at   INTEGER NOT NULL,
  deleted_by TEXT NOT NULL
) STRICT;

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
, via TEXT NOT NULL DEFAULT 'web_push' CHECK (via IN ('web_push', 'ntfy', 'webhook')), sealed TEXT) STRICT;

CREATE TABLE replies (
  user_id  TEXT NOT NULL,
  endpoint TEXT NOT NULL, -- method and path
  key      TEXT NOT NULL,
  at       INTEGER NOT NULL,
  sealed   TEXT NOT NULL,
  PRIMARY KEY (user_id, endpoint, key)
) STRICT;

CREATE TABLE repository_variables (
  user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  repo       TEXT NOT NULL, -- canonical address without .git
  name       TEXT NOT NULL,
  sealed     TEXT NOT NULL,
  secret     INTEGER NOT NULL CHECK (secret IN (0, 1)),
  phase      TEXT NOT NULL CHECK (phase IN ('setup', 'agent')),
  updated_at INTEGER NOT NULL,
  PRIMARY KEY (user_id, repo, name)
) STRICT;

CREATE TABLE sessions (
  id            TEXT PRIMARY KEY,
  user_id       TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  token_hash    TEXT NOT NULL UNIQUE,
  previous_hash TEXT,
  rotated_at    INTEGER NOT NULL,
  expires_at    INTEGER NOT NULL,
  revoked_at    INTEGER
, created_at INTEGER NOT NULL DEFAULT 0, device TEXT NOT NULL DEFAULT '', address TEXT NOT NULL DEFAULT '', confirmed_at INTEGER) STRICT;

CREATE TABLE settings (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tallies (
  state TEXT PRIMARY KEY,
  tasks INTEGER NOT NULL CHECK (tasks >= 0)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE task_reads (
  task_id TEXT PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
  user_id TEXT NOT NULL,
  seq     INTEGER NOT NULL,
  rev     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE VIRTUAL TABLE task_search USING fts5 (
  search,
  content = 'task_specs',
  content_rowid = 'rowid',
  detail = 'none',
  tokenize = 'trigram case_sensitive 1'
);

CREATE TABLE 'task_search_config'(k PRIMARY KEY, v) WITHOUT ROWID;

CREATE TABLE 'task_search_data'(id INTEGER PRIMARY KEY, block BLOB);

CREATE TABLE 'task_search_docsize'(id INTEGER PRIMARY KEY, sz BLOB);

CREATE TABLE 'task_search_idx'(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID;

CREATE TABLE task_specs (
  task_id TEXT PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
  spec    TEXT NOT NULL,
  search  TEXT NOT NULL -- title, prompt and repository in lower case
, repo TEXT AS (CASE WHEN json_valid(spec) THEN json_extract(spec, '$.repo') END) VIRTUAL) STRICT;

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
, todo TEXT, changes TEXT, activity TEXT, notable INTEGER) STRICT;

CREATE TABLE tokens (
  id           TEXT PRIMARY KEY,
  user_id      TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  name         TEXT NOT NULL,
  hash         TEXT NOT NULL UNIQUE,
  created_at   INTEGER NOT NULL,
  expires_at   INTEGER,
  last_used_at INTEGER
, scopes TEXT) STRICT;

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

CREATE TABLE transcript_origins (
  task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  owner   TEXT NOT NULL REFERENCES tasks (id), -- whose records these are; the task itself for those that a deleted task has left to it
  after   INTEGER NOT NULL CHECK (after >= 0), -- records after + 1 to upto
  upto    INTEGER NOT NULL CHECK (upto > after),
  total   INTEGER NOT NULL, -- bytes of the records 1 to upto
  PRIMARY KEY (task_id, upto)
) STRICT, WITHOUT ROWID;

CREATE TABLE transcripts (
  task_id TEXT NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
  n       INTEGER NOT NULL CHECK (n >= 1),
  attempt INTEGER NOT NULL CHECK (attempt >= 0), -- 0 = inherited
  total   INTEGER NOT NULL,
  record  TEXT NOT NULL,
  PRIMARY KEY (task_id, n)
) STRICT;

CREATE TABLE turns (
  user_id  TEXT NOT NULL,
  priority INTEGER NOT NULL,
  turn     INTEGER NOT NULL,
  PRIMARY KEY (user_id, priority)
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
  id            TEXT PRIMARY KEY,
  email         TEXT NOT NULL UNIQUE, -- lower case
  role          TEXT NOT NULL CHECK (role IN ('user', 'operator', 'admin')),
  password_hash TEXT NOT NULL,
  created_at    INTEGER NOT NULL
, disabled_at INTEGER) STRICT;

CREATE TRIGGER audit_frozen BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

CREATE TRIGGER audit_grows BEFORE INSERT ON audit WHEN NEW.n <> (SELECT end_n FROM audit_ends) + 1
BEGIN SELECT RAISE(ABORT, 'the audit log grows by one row at a time'); END;

CREATE TRIGGER audit_kept BEFORE DELETE ON audit WHEN OLD.n > (SELECT start_n FROM audit_ends)
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

CREATE TRIGGER tallies_delete AFTER DELETE ON tasks
BEGIN UPDATE tallies SET tasks = tasks - 1 WHERE state = OLD.state; END;

CREATE TRIGGER tallies_insert AFTER INSERT ON tasks
BEGIN INSERT INTO tallies (state, tasks) VALUES (NEW.state, 1) ON CONFLICT DO UPDATE SET tasks = tasks + 1; END;

CREATE TRIGGER tallies_update AFTER UPDATE OF state ON tasks WHEN OLD.state <> NEW.state
BEGIN
  UPDATE tallies SET tasks = tasks - 1 WHERE state = OLD.state;
  INSERT INTO tallies (state, tasks) VALUES (NEW.state, 1) ON CONFLICT DO UPDATE SET tasks = tasks + 1;
END;

CREATE TRIGGER task_events_behind BEFORE INSERT ON task_events
WHEN NEW.seq > coalesce((SELECT seq FROM tasks WHERE id = NEW.task_id), 0)
BEGIN SELECT RAISE(ABORT, 'the log of a task grows only with its row'); END;

CREATE TRIGGER task_events_cascade AFTER DELETE ON tasks
BEGIN DELETE FROM task_events WHERE task_id = OLD.id; END;

CREATE TRIGGER task_events_frozen BEFORE UPDATE ON task_events
BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;

CREATE TRIGGER task_search_delete AFTER DELETE ON task_specs
BEGIN INSERT INTO task_search (task_search, rowid, search) VALUES ('delete', OLD.rowid, OLD.search); END;

CREATE TRIGGER task_search_insert AFTER INSERT ON task_specs
BEGIN INSERT INTO task_search (rowid, search) VALUES (NEW.rowid, NEW.search); END;

CREATE TRIGGER task_search_update AFTER UPDATE OF search ON task_specs
BEGIN
  INSERT INTO task_search (task_search, rowid, search) VALUES ('delete', OLD.rowid, OLD.search);
  INSERT INTO task_search (rowid, search) VALUES (NEW.rowid, NEW.search);
END;

CREATE TRIGGER tasks_settled BEFORE UPDATE ON tasks WHEN OLD.state IN ('done', 'failed', 'cancelled')
BEGIN SELECT RAISE(ABORT, 'a settled task never changes again'); END;

CREATE TRIGGER transcript_origins_frozen BEFORE UPDATE OF task_id, after, upto, total ON transcript_origins
BEGIN SELECT RAISE(ABORT, 'an inherited transcript does not change'); END;

CREATE TRIGGER transcripts_frozen BEFORE UPDATE ON transcripts
BEGIN SELECT RAISE(ABORT, 'a transcript is append-only'); END;

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

CREATE TRIGGER transcripts_kept BEFORE DELETE ON transcripts
WHEN EXISTS (SELECT 1 FROM tasks WHERE id = OLD.task_id AND state NOT IN ('done', 'failed', 'cancelled'))
  OR EXISTS (SELECT 1 FROM transcript_origins WHERE owner = OLD.task_id AND task_id <> owner)
BEGIN SELECT RAISE(ABORT, 'a transcript is append-only'); END;
