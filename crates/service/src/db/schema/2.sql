-- Where a build's log is, as CloudWatch Logs names it; none where it has none. No line of it is of after log_last.
-- has_folder: 1 once it has had one.
ALTER TABLE build ADD COLUMN log_group TEXT;
ALTER TABLE build ADD COLUMN log_stream TEXT;
ALTER TABLE build ADD COLUMN log_last INTEGER NOT NULL DEFAULT 9223372036854775807;
ALTER TABLE build ADD COLUMN has_folder INTEGER NOT NULL DEFAULT 0;
UPDATE build SET has_folder = 1 WHERE origin = 'run';
UPDATE build SET
  log_group = coalesce(nullif(json_extract(CAST(request AS TEXT), '$.project.logsConfig.cloudWatchLogs.groupName'), ''),
    json_extract(CAST(record AS TEXT), '$.logs.groupName'), '/aws/codebuild/' || project),
  log_stream = coalesce(
    nullif(json_extract(CAST(request AS TEXT), '$.project.logsConfig.cloudWatchLogs.streamName'), '') || '/' || uuid,
    json_extract(CAST(record AS TEXT), '$.logs.streamName'), uuid)
  WHERE state != 'gone';
UPDATE build SET log_group = NULL, log_stream = NULL
  WHERE json_extract(CAST(request AS TEXT), '$.project.logsConfig.cloudWatchLogs.status') = 'DISABLED';
UPDATE build SET log_last = CAST(1000 * json_extract(CAST(record AS TEXT), '$.endTime') AS INTEGER) + 1000
  WHERE state = 'ended' AND json_extract(CAST(record AS TEXT), '$.endTime') IS NOT NULL;
CREATE INDEX build_log ON build (log_group, log_stream);
CREATE INDEX build_log_last ON build (log_group, log_last, log_stream);
CREATE INDEX build_log_project ON build (log_group, project);
