-- SPDX-License-Identifier: MIT
-- What an operator does to a task that is not running. Each answers with a verdict:
--   done      as asked, or it was so already
--   unknown   no such task
--   ended     it has ended
--   running   it runs, and this version cannot do that to a running task
-- A task that another session's open transaction holds raises lock_not_available (55P03) after half a second.

CREATE OR REPLACE FUNCTION pgmill.steerable(task uuid) RETURNS text
LANGUAGE plpgsql VOLATILE SET lock_timeout = '500ms' AS $$
DECLARE
  state pgmill.state;
BEGIN
  SELECT t.state INTO state FROM pgmill.tasks t WHERE t.id = task FOR NO KEY UPDATE;
  RETURN CASE
    WHEN state IS NULL     THEN 'unknown'
    WHEN state = 'ready'   THEN 'done'
    WHEN state = 'running' THEN 'running'
    ELSE 'ended'
  END;
END
$$;

CREATE OR REPLACE FUNCTION pgmill.pause(task uuid) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  verdict text := pgmill.steerable(task);
BEGIN
  IF verdict = 'done' THEN
    UPDATE pgmill.tasks SET paused_at = clock_timestamp(), ready = false WHERE id = task AND paused_at IS NULL;
  END IF;
  RETURN verdict;
END
$$;

-- A resumed task takes its place at the end of the line, or waits on for the time it was waiting for.
CREATE OR REPLACE FUNCTION pgmill.resume(task uuid) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  verdict text := pgmill.steerable(task);
  q text;
  n text;
BEGIN
  IF verdict = 'done' THEN
    UPDATE pgmill.tasks
    SET paused_at = NULL, ready = true, due_at = greatest(due_at, clock_timestamp())
    WHERE id = task AND paused_at IS NOT NULL
    RETURNING queue, name INTO q, n;
    IF FOUND THEN
      PERFORM pgmill.wake(ARRAY[q], ARRAY[n]);
    END IF;
  END IF;
  RETURN verdict;
END
$$;
