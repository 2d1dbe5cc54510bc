-- What the host said about a git credential when it was saved, and what it was used for last. JSON.
ALTER TABLE credentials ADD COLUMN checked TEXT;
ALTER TABLE credentials ADD COLUMN last_used_at INTEGER;
ALTER TABLE credentials ADD COLUMN last_use TEXT;
