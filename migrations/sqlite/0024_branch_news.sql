-- What happened to the branch between two tasks is a part of their thread. A row that is no JSON has no news, so the text is searched, not parsed.
DROP INDEX task_events_said;
CREATE INDEX task_events_said ON task_events (task_id, seq)
WHERE type IN ('task.submitted', 'task.state', 'message', 'message.status', 'question', 'answer', 'verify', 'push', 'pull_request')
  OR (type = 'notice' AND instr(data, '"code":"branch_') > 0);
