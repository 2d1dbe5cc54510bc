-- Public keys with which devices of people sign log-ins (WebAuthn). None of it is secret.
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
CREATE INDEX passkeys_user ON passkeys (user_id, created_at);
