-- Which trigrams the searchable text of each task contains. Without their places: what is found is decided by the text itself.
CREATE VIRTUAL TABLE task_search USING fts5 (
  search,
  content = 'task_specs',
  content_rowid = 'rowid',
  detail = 'none',
  tokenize = 'trigram case_sensitive 1'
);
INSERT INTO task_search (task_search) VALUES ('rebuild');
CREATE TRIGGER task_search_insert AFTER INSERT ON task_specs
BEGIN INSERT INTO task_search (rowid, search) VALUES (NEW.rowid, NEW.search); END;
CREATE TRIGGER task_search_update AFTER UPDATE OF search ON task_specs
BEGIN
  INSERT INTO task_search (task_search, rowid, search) VALUES ('delete', OLD.rowid, OLD.search);
  INSERT INTO task_search (rowid, search) VALUES (NEW.rowid, NEW.search);
END;
CREATE TRIGGER task_search_delete AFTER DELETE ON task_specs
BEGIN INSERT INTO task_search (task_search, rowid, search) VALUES ('delete', OLD.rowid, OLD.search); END;
-- Whether an older task of the thread is open, however many settled ones it has.
CREATE INDEX tasks_thread_open ON tasks (thread_id, id) WHERE state NOT IN ('done', 'failed', 'cancelled');
