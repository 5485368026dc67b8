CREATE TABLE kv (k TEXT PRIMARY KEY, v BLOB NOT NULL);
-- What was given, defaults not filled in.
CREATE TABLE project (
  name TEXT PRIMARY KEY, json BLOB NOT NULL, created INTEGER NOT NULL, modified INTEGER NOT NULL,
  cache_epoch INTEGER NOT NULL DEFAULT 0
);
-- state: queued, starting, live, ended, gone. origin: serve, run. Times are milliseconds.
CREATE TABLE build (
  id INTEGER PRIMARY KEY, uuid TEXT NOT NULL UNIQUE, seq INTEGER NOT NULL UNIQUE, project TEXT NOT NULL,
  number INTEGER NOT NULL, state TEXT NOT NULL, origin TEXT NOT NULL, status TEXT NOT NULL,
  requested INTEGER NOT NULL, deadline INTEGER, request BLOB, record BLOB
);
CREATE INDEX build_project ON build (project, requested, seq);
CREATE INDEX build_state ON build (state, seq);
CREATE INDEX build_requested ON build (requested, seq);
CREATE TABLE token (
  operation TEXT NOT NULL, caller TEXT NOT NULL, token TEXT NOT NULL, digest BLOB NOT NULL, result TEXT NOT NULL,
  wall INTEGER NOT NULL, boot_id TEXT NOT NULL, boot INTEGER NOT NULL, PRIMARY KEY (operation, caller, token)
);
