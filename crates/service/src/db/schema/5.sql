-- record: as it is answered, of builds of `runner run`, too. Their rows are made anew from their folders.
-- A row that is being deleted is all that is known of that.
DELETE FROM build WHERE origin = 'run' AND state != 'gone';
-- ended: when a batch has ended last, in milliseconds.
ALTER TABLE batch ADD COLUMN ended INTEGER;
UPDATE batch SET ended = max(requested, coalesce(
    CAST(1000 * json_extract(CAST(progress AS TEXT), '$.machine.phases[#-1].startTime') AS INTEGER), 0))
  WHERE state != 'live';
