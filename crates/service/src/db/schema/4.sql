-- What the queue asks with every build that it takes in or starts, however many wait.
CREATE INDEX build_waiting ON build (seq, uuid, project, batch) WHERE state = 'queued';
CREATE INDEX build_single ON build (id) WHERE state = 'queued' AND batch IS NULL;
CREATE INDEX build_due ON build (deadline) WHERE state = 'queued';
CREATE INDEX build_active ON build (project, origin, state, batch) WHERE state IN ('queued', 'starting', 'live');
