-- Data keys, wrapped by the installation's secret key (src/auth/keys). The active key of a use seals and signs; retired ones open and verify.
CREATE TABLE data_keys (
  id         TEXT PRIMARY KEY,
  use        TEXT NOT NULL,
  rotation   TEXT NOT NULL, -- the call that made it: the same call again makes none
  created_at INTEGER NOT NULL,
  retired_at INTEGER,
  wrapped    TEXT NOT NULL,
  UNIQUE (rotation, use)
) STRICT;
CREATE UNIQUE INDEX data_keys_active ON data_keys (use) WHERE retired_at IS NULL;
