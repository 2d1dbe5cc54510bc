-- Settled tasks by age, for those that the installation's policy deletes.
CREATE INDEX tasks_ended ON tasks (settled_at, id) WHERE settled_at IS NOT NULL;
