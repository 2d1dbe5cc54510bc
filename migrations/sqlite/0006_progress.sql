-- How far a task is, for lists: JSON, or null when nothing is known (src/store/progress.ts). The activity of earlier logs stays unknown.
ALTER TABLE tasks ADD COLUMN todo TEXT;
ALTER TABLE tasks ADD COLUMN changes TEXT;
ALTER TABLE tasks ADD COLUMN activity TEXT;

-- A settled task never changes; it gets here what its log has said all along.
DROP TRIGGER tasks_settled;
UPDATE tasks SET
  todo = (
    SELECT json_object(
      'done', (SELECT count(*) FROM json_each(e.data, '$.items') AS i WHERE json_extract(i.value, '$.status') = 'completed'),
      'total', json_array_length(e.data, '$.items'),
      'current', (
        SELECT json_extract(i.value, '$.text') FROM json_each(e.data, '$.items') AS i
        WHERE json_extract(i.value, '$.status') = 'in_progress' ORDER BY i.key LIMIT 1
      )
    )
    FROM task_events AS e WHERE e.task_id = tasks.id AND e.type = 'todo' ORDER BY e.seq DESC LIMIT 1
  ),
  changes = (
    SELECT json_object(
      'files', json_extract(e.data, '$.files'),
      'additions', json_extract(e.data, '$.additions'),
      'deletions', json_extract(e.data, '$.deletions')
    )
    FROM task_events AS e WHERE e.task_id = tasks.id AND e.type = 'checkpoint' ORDER BY e.seq DESC LIMIT 1
  );
CREATE TRIGGER tasks_settled BEFORE UPDATE ON tasks WHEN OLD.state IN ('done', 'failed', 'cancelled')
BEGIN SELECT RAISE(ABORT, 'a settled task never changes again'); END;
