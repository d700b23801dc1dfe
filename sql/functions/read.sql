-- SPDX-License-Identifier: MIT
-- The task as everybody sees it. The one place that derives a status from state, flags and clock.

CREATE OR REPLACE VIEW pgmill.task AS
SELECT
  id, queue::text AS queue, name::text AS name,
  CASE
    WHEN state = 'completed'      THEN 'COMPLETED'
    WHEN state = 'cancelled'      THEN 'CANCELLED'
    WHEN state = 'failed'         THEN 'FAILED'
    WHEN paused_at IS NOT NULL    THEN 'PAUSED'
    WHEN state = 'running'        THEN 'RUNNING'
    WHEN due_at <= clock_timestamp() THEN 'AVAILABLE'
    WHEN started_at IS NOT NULL   THEN 'RETRYABLE'
    ELSE 'SCHEDULED'
  END AS status,
  priority, payload, tags, scheduled_at, created_at, started_at, finished_at,
  attempt, max_attempts, extract(epoch FROM timeout)::float8 AS timeout, worker,
  result, errors -> -1 ->> 'error' AS error, errors
FROM pgmill.tasks;
COMMENT ON VIEW pgmill.task IS 'Tasks with their status, as the REST API shows them';

-- A task as it is at this very moment, changes of the running statement included.
CREATE OR REPLACE FUNCTION pgmill.read(task uuid, after text DEFAULT NULL) RETURNS SETOF pgmill.task
LANGUAGE sql VOLATILE AS $$
  SELECT * FROM pgmill.task t WHERE t.id = read.task
$$;
