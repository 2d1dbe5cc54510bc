-- The repository of each task, for lists of one repository and for the repositories that a person used last. Not stored: it follows from the specification; null where that cannot be read.
ALTER TABLE task_specs ADD COLUMN repo TEXT AS (CASE WHEN json_valid(spec) THEN json_extract(spec, '$.repo') END) VIRTUAL;
CREATE INDEX task_specs_repo ON task_specs (repo, task_id);
-- Answers which repository a task has without reading its specification.
CREATE INDEX task_specs_repo_of ON task_specs (task_id, repo);
