-- SPDX-License-Identifier: MIT
-- What an operator does to a task. Each answers with a verdict:
--   done      as asked, or it was so already
--   asked     it runs; its worker has been told, and has yet to act
--   unknown   no such task
--   ended     it has ended
--   running   it runs, and what runs cannot be retried
--   taken     another unfinished task has its unique_key (retry)
-- A task that another session's open transaction holds raises lock_not_available (55P03) after half a second, or after
-- what the session has set as pgmill.patience.

-- The SET clause of a function that calls it keeps the setting within that function.
CREATE OR REPLACE FUNCTION pgmill.be_patient() RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM set_config('lock_timeout', coalesce(nullif(current_setting('pgmill.patience', true), ''), '500ms'), true);
END
$$;

CREATE OR REPLACE FUNCTION pgmill.steerable(task uuid) RETURNS text
LANGUAGE plpgsql VOLATILE SET lock_timeout = '500ms' AS $$
DECLARE
  state pgmill.state;
BEGIN
  PERFORM pgmill.be_patient();
  SELECT t.state INTO state FROM pgmill.tasks t WHERE t.id = task FOR NO KEY UPDATE;
  RETURN CASE
    WHEN state IS NULL     THEN 'unknown'
    WHEN state = 'ready'   THEN 'done'
    WHEN state = 'running' THEN 'running'
    ELSE 'ended'
  END;
END
$$;

-- Calls the worker that runs the task; it asks pgmill.orders what there is to do.
CREATE OR REPLACE FUNCTION pgmill.call_worker(task uuid) RETURNS void
LANGUAGE sql VOLATILE AS $$
  SELECT pg_notify('pgmill_' || t.worker, 'orders') FROM pgmill.tasks t WHERE t.id = task
$$;

-- What waits is not claimed. What runs is frozen by its worker, which says so with pgmill.obey.
CREATE OR REPLACE FUNCTION pgmill.pause(task uuid) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  verdict text := pgmill.steerable(task);
BEGIN
  IF verdict NOT IN ('done', 'running') THEN
    RETURN verdict;
  END IF;
  WITH paused AS (
    UPDATE pgmill.tasks SET paused_at = clock_timestamp(), ready = false
    WHERE id = task AND paused_at IS NULL RETURNING queue, state
  )
  INSERT INTO pgmill.tallies (queue, paused) SELECT queue, 1 FROM paused WHERE state = 'ready';
  IF verdict = 'running' THEN
    PERFORM pgmill.call_worker(task);
    RETURN (SELECT CASE WHEN t.frozen_at IS NULL THEN 'asked' ELSE 'done' END FROM pgmill.tasks t WHERE t.id = task);
  ELSIF FOUND THEN
    PERFORM pgmill.tell(ARRAY[task]);
  END IF;
  RETURN 'done';
END
$$;

-- A resumed task takes its place at the end of the line, or waits on for the time it was waiting for; one that was
-- frozen goes on where it stood.
CREATE OR REPLACE FUNCTION pgmill.resume(task uuid) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  verdict text := pgmill.steerable(task);
  q text;
  n text;
BEGIN
  IF verdict NOT IN ('done', 'running') THEN
    RETURN verdict;
  END IF;
  UPDATE pgmill.tasks
  SET paused_at = NULL, ready = state = 'ready',
      due_at = CASE WHEN state = 'ready' THEN greatest(due_at, clock_timestamp()) ELSE due_at END
  WHERE id = task AND paused_at IS NOT NULL
  RETURNING queue, name INTO q, n;
  IF verdict = 'running' THEN
    PERFORM pgmill.call_worker(task);
    RETURN (SELECT CASE WHEN t.frozen_at IS NULL THEN 'done' ELSE 'asked' END FROM pgmill.tasks t WHERE t.id = task);
  ELSIF FOUND THEN
    INSERT INTO pgmill.tallies (queue, paused) VALUES (q, -1);
    PERFORM pgmill.wake(ARRAY[q], ARRAY[n]), pgmill.tell(ARRAY[task]);
  END IF;
  RETURN 'done';
END
$$;

-- What waits is cancelled at once. What runs is marked, so that it can end in no other way but its own, and its worker
-- is told; the mark survives whatever happens to the worker.
CREATE OR REPLACE FUNCTION pgmill.cancel(task uuid) RETURNS text
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  verdict text := pgmill.steerable(task);
BEGIN
  IF verdict = 'done' THEN
    WITH cancelled AS (
      UPDATE pgmill.tasks
      SET state = 'cancelled', ready = false, unique_held = false, cancel_at = clock_timestamp(),
          finished_at = clock_timestamp()
      WHERE id = task RETURNING queue, paused_at
    )
    INSERT INTO pgmill.tallies (queue, cancelled, paused)
    SELECT queue, 1, CASE WHEN paused_at IS NULL THEN 0 ELSE -1 END FROM cancelled;
    PERFORM pgmill.tell(ARRAY[task]);
  ELSIF verdict = 'running' THEN
    UPDATE pgmill.tasks SET cancel_at = clock_timestamp() WHERE id = task AND cancel_at IS NULL;
    PERFORM pgmill.call_worker(task);
    RETURN 'asked';
  ELSIF verdict = 'ended' AND EXISTS (SELECT FROM pgmill.tasks WHERE id = task AND state = 'cancelled') THEN
    RETURN 'done';
  END IF;
  RETURN verdict;
END
$$;

-- What has failed or was cancelled takes its place at the end of the line, with one attempt more if none is left.
-- What waits for its time is due now; paused, it stays so.
CREATE OR REPLACE FUNCTION pgmill.retry(task uuid) RETURNS text
LANGUAGE plpgsql VOLATILE SET lock_timeout = '500ms' AS $$
DECLARE
  verdict text := pgmill.steerable(task);
  t pgmill.tasks;
BEGIN
  PERFORM pgmill.be_patient();
  IF verdict NOT IN ('done', 'ended') THEN
    RETURN verdict;
  END IF;
  SELECT * INTO t FROM pgmill.tasks WHERE id = task;
  IF t.state = 'completed' THEN
    RETURN 'ended';
  ELSIF t.state = 'ready' THEN
    UPDATE pgmill.tasks SET due_at = clock_timestamp() WHERE id = task AND due_at > clock_timestamp();
  ELSE
    UPDATE pgmill.tasks
    SET state = 'ready', ready = true, unique_held = unique_key IS NOT NULL, due_at = clock_timestamp(),
        paused_at = NULL, cancel_at = NULL, finished_at = NULL,
        max_attempts = CASE WHEN max_attempts <= attempt THEN least(attempt + 1, 1000) ELSE max_attempts END
    WHERE id = task;
    INSERT INTO pgmill.tallies (queue, reopened_failed, reopened_cancelled)
    VALUES (t.queue, (t.state = 'failed')::int, (t.state = 'cancelled')::int);
  END IF;
  IF FOUND THEN
    PERFORM pgmill.wake(ARRAY[t.queue::text], ARRAY[t.name::text]), pgmill.tell(ARRAY[task]);
  END IF;
  RETURN 'done';
EXCEPTION WHEN unique_violation THEN
  RETURN 'taken';
END
$$;

-- One of these for the API, which sends it again when its answer was lost. act: an id that the request keeps; what was done
-- under it is answered, and not done again.
CREATE OR REPLACE FUNCTION pgmill.steer(verb text, task uuid, act uuid) RETURNS text
LANGUAGE plpgsql VOLATILE SET lock_timeout = '500ms' AS $$
DECLARE
  said text;
BEGIN
  PERFORM pgmill.be_patient();
  INSERT INTO pgmill.acts (id) VALUES (act) ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    PERFORM pgmill.confirm();
    RETURN (SELECT a.verdict FROM pgmill.acts a WHERE a.id = act);
  END IF;
  said := CASE verb WHEN 'pause'  THEN pgmill.pause(task)
                    WHEN 'resume' THEN pgmill.resume(task)
                    WHEN 'cancel' THEN pgmill.cancel(task)
                    WHEN 'retry'  THEN pgmill.retry(task) END;
  UPDATE pgmill.acts SET verdict = said WHERE id = act;
  RETURN said;
END
$$;
