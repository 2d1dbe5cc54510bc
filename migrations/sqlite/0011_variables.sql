-- Values that a person gives to the commands of their tasks on a repository.
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
