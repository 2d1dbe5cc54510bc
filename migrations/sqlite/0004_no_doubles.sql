-- Messages and tool calls that exist once. The log keeps what it has; where it has a message of a user twice, the first row is kept.
CREATE TABLE messages_of_0004 (
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
INSERT INTO messages_of_0004 (task_id, seq, id, at, role, mode, status, content)
SELECT task_id, seq, id, at, role, mode, status, content FROM messages AS m
WHERE role <> 'user' OR seq = (SELECT min(seq) FROM messages WHERE task_id = m.task_id AND id = m.id AND role = 'user');
DROP TABLE messages;
ALTER TABLE messages_of_0004 RENAME TO messages;
CREATE INDEX messages_id ON messages (task_id, id);
CREATE UNIQUE INDEX messages_of_users ON messages (task_id, id) WHERE role = 'user';
CREATE INDEX messages_queued ON messages (task_id, seq) WHERE status = 'queued';

DELETE FROM tool_calls AS t
WHERE ended_at IS NULL AND EXISTS (
  SELECT 1 FROM tool_calls WHERE task_id = t.task_id AND attempt = t.attempt AND id = t.id AND ended_at IS NULL AND seq < t.seq
);
DROP INDEX tool_calls_running;
CREATE UNIQUE INDEX tool_calls_running ON tool_calls (task_id, attempt, id) WHERE ended_at IS NULL;

-- Answers to requests that came with an Idempotency-Key, for the request that is sent again. Sealed, because some contain a secret.
CREATE TABLE replies (
  user_id  TEXT NOT NULL,
  endpoint TEXT NOT NULL, -- method and path
  key      TEXT NOT NULL,
  at       INTEGER NOT NULL,
  sealed   TEXT NOT NULL,
  PRIMARY KEY (user_id, endpoint, key)
) STRICT;
CREATE INDEX replies_at ON replies (at);
CREATE INDEX replies_user ON replies (user_id, at);
