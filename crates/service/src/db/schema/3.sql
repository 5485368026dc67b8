-- state: live, ended, gone. request: what is to be built, as of a build, and what its builds do not change of it. progress: how
-- far it is. Times are milliseconds.
CREATE TABLE batch (
  id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, seq INTEGER NOT NULL UNIQUE, project TEXT NOT NULL,
  number INTEGER NOT NULL, state TEXT NOT NULL, status TEXT NOT NULL, requested INTEGER NOT NULL, deadline INTEGER,
  request BLOB NOT NULL, progress BLOB NOT NULL
);
CREATE INDEX batch_project ON batch (project, requested, seq);
CREATE INDEX batch_requested ON batch (requested, seq);
CREATE INDEX batch_state ON batch (state, deadline);
-- The batch that a build belongs to, by its uuid.
ALTER TABLE build ADD COLUMN batch TEXT;
CREATE INDEX build_batch ON build (batch) WHERE batch IS NOT NULL;
