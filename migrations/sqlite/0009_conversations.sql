-- What people and the agent said, of which a thread's conversation is made: most of a log is output of tools.
CREATE INDEX task_events_said ON task_events (task_id, seq)
WHERE type IN ('task.submitted', 'task.state', 'message', 'message.status', 'question', 'answer', 'verify', 'push', 'pull_request');
-- Counts of a person's tasks.
CREATE INDEX tasks_user_state ON tasks (user_id, state);
