-- SPDX-License-Identifier: MIT
-- Submission: one task from SQL, a group from the API, and the call that wakes sleeping workers.

-- Tells as many sleeping workers as there are tasks, picked at random; arrays in parallel, one element a task.
-- It only reads who sleeps. NOTIFY takes a lock for the whole database at commit, so nobody asleep: no NOTIFY.
CREATE OR REPLACE FUNCTION pgmill.wake(queues text[], names text[]) RETURNS void
LANGUAGE sql VOLATILE AS $$
  SELECT pg_notify('pgmill_' || s.worker, '')
  FROM (SELECT queue, name, count(*) AS n FROM unnest(queues, names) AS u (queue, name) GROUP BY 1, 2) w
  CROSS JOIN LATERAL (
    SELECT worker FROM pgmill.sleepers s
    WHERE s.queue = w.queue AND w.name = ANY (s.names)
    ORDER BY random() LIMIT w.n) s
$$;

-- Inside the client's own transaction: the task exists if and only if that transaction commits.
CREATE OR REPLACE FUNCTION pgmill.submit(
  name text,
  payload jsonb DEFAULT 'null',
  queue text DEFAULT 'default',
  priority pgmill.priority DEFAULT 'MEDIUM',
  scheduled_at timestamptz DEFAULT NULL,
  max_attempts int DEFAULT NULL,
  timeout interval DEFAULT NULL,
  tags text[] DEFAULT '{}',
  id uuid DEFAULT pgmill.uuid_v7()
) RETURNS uuid
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_variable
DECLARE
  due_at timestamptz := greatest(scheduled_at, clock_timestamp());
BEGIN
  INSERT INTO pgmill.tasks (id, queue, name, payload, priority, scheduled_at, due_at, max_attempts, timeout, tags)
  VALUES (id, queue, name, payload, priority, scheduled_at, due_at, max_attempts, timeout, tags);
  IF due_at < clock_timestamp() + interval '1 second' THEN
    PERFORM pgmill.wake(ARRAY[queue], ARRAY[name]);
  END IF;
  RETURN id;
END
$$;
COMMENT ON FUNCTION pgmill.submit IS
  'Submits a task in the caller''s transaction and returns its id; scheduled_at in the past means now';

-- A group from the API; arrays in parallel, tags as array literals. The ids come from the API, so that a group
-- whose answer was lost can be sent again: rows that are there already are left alone.
CREATE OR REPLACE FUNCTION pgmill.submit_group(
  ids uuid[], queues text[], names text[], payloads text[], priorities pgmill.priority[],
  scheduled timestamptz[], tries int[], timeouts float8[], tags text[]
) RETURNS void
LANGUAGE sql VOLATILE AS $$
  INSERT INTO pgmill.tasks (id, queue, name, payload, priority, scheduled_at, due_at, max_attempts, timeout, tags)
  SELECT id, queue, name, payload::jsonb, priority, scheduled_at,
         greatest(scheduled_at, clock_timestamp()), max_attempts, make_interval(secs => timeout), tags::text[]
  FROM unnest(ids, queues, names, payloads, priorities, scheduled, tries, timeouts, tags)
    AS u (id, queue, name, payload, priority, scheduled_at, max_attempts, timeout, tags)
  ON CONFLICT (id) DO NOTHING
$$;
