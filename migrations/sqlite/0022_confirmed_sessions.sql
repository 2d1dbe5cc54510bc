-- When an access token that came with the newest refresh token was first used: the answer to the
-- refresh arrived. Until then the token before it stays good. NULL = not yet; what there is counts
-- as arrived.
ALTER TABLE sessions ADD COLUMN confirmed_at INTEGER;
UPDATE sessions SET confirmed_at = rotated_at;
