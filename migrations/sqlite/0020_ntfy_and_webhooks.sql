-- Besides browsers, a person's ntfy topics and webhooks are told. Their address is a secret like
-- their token, so both are in `sealed`; their endpoint names the host and the row.
ALTER TABLE push_devices ADD COLUMN via TEXT NOT NULL DEFAULT 'web_push' CHECK (via IN ('web_push', 'ntfy', 'webhook'));
ALTER TABLE push_devices ADD COLUMN sealed TEXT;
