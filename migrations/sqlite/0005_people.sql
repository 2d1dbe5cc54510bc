-- People: who they are at a provider, where their sessions are, what their tokens may do, and one-time links.

ALTER TABLE users ADD COLUMN disabled_at INTEGER; -- an empty password_hash = no password: the person logs in with a provider

ALTER TABLE sessions ADD COLUMN created_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN device TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN address TEXT NOT NULL DEFAULT '';
UPDATE sessions SET created_at = expires_at - 7776000000; -- every session lived 90 days

ALTER TABLE tokens ADD COLUMN scopes TEXT; -- comma-separated; NULL = a token from before there were scopes

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
CREATE INDEX identities_user ON identities (user_id, created_at);

-- Invitations and new passwords.
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
