-- SPDX-License-Identifier: MIT
-- The task as everybody sees it. The one place that derives a status from state, flags and clock.

CREATE OR REPLACE FUNCTION pgmill.status(
  state pgmill.state, paused_at timestamptz, frozen_at timestamptz, due_at timestamptz, started_at timestamptz
) RETURNS text
LANGUAGE sql VOLATILE AS $$
  SELECT CASE
    WHEN state = 'completed'      THEN 'COMPLETED'
    WHEN state = 'cancelled'      THEN 'CANCELLED'
    WHEN state = 'failed'         THEN 'FAILED'
    WHEN frozen_at IS NOT NULL    THEN 'PAUSED'
    WHEN state = 'running'        THEN 'RUNNING'  -- also while its worker has yet to do as asked
    WHEN paused_at IS NOT NULL    THEN 'PAUSED'
    WHEN due_at <= clock_timestamp() THEN 'AVAILABLE'
    WHEN started_at IS NOT NULL   THEN 'RETRYABLE'
    ELSE 'SCHEDULED'
  END
$$;

CREATE OR REPLACE VIEW pgmill.task AS
SELECT
  id, queue::text AS queue, name::text AS name, pgmill.status(state, paused_at, frozen_at, due_at, started_at) AS status,
  priority, payload, tags::text[] AS tags, unique_key::text AS unique_key, scheduled_at::timestamptz AS scheduled_at,
  created_at, started_at, finished_at, paused_at, attempt, max_attempts::int AS max_attempts,
  extract(epoch FROM timeout)::float8 AS timeout, worker, cpu_usec, memory_peak,
  progress::real AS progress, status_text::text AS status_text,
  result, errors -> -1 ->> 'error' AS error, errors, result_note
FROM pgmill.tasks;
COMMENT ON VIEW pgmill.task IS 'Tasks with their status, as the REST API shows them';

-- A task as it is at this very moment, changes of the running statement included.
CREATE OR REPLACE FUNCTION pgmill.read(task uuid, after text DEFAULT NULL) RETURNS SETOF pgmill.task
LANGUAGE sql VOLATILE AS $$
  SELECT * FROM pgmill.task t WHERE t.id = read.task
$$;

-- Many tasks at once, for the API; changes of the running statement included.
CREATE OR REPLACE FUNCTION pgmill.read_group(tasks uuid[], after text DEFAULT NULL) RETURNS SETOF pgmill.task
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET jit = off  -- a plan made while there are few tasks is kept when there are many
SET plan_cache_mode = force_generic_plan  -- planning takes longer than reading
AS $$
BEGIN
  RETURN QUERY SELECT * FROM pgmill.task t WHERE t.id = ANY (tasks);
END
$$;

-- One page of tasks, newest id first, from the task `before` on (NULL: from the newest). Each filter may be NULL. It looks
-- on until the page is full or the budget of time is spent, so a page may be short, even empty, and still have a next one.
-- Statuses that are rare are looked for where they are known: what runs by the workers, what is aside by its index, what
-- is due by that of the ready ones, unless they are many. The times bound the ids that are looked at, a day wider, since
-- those who make ids have clocks of their own.
-- next: `before` of the next page, NULL when this is the last. Always a row; its id is NULL when no task matches.
CREATE OR REPLACE FUNCTION pgmill.list(
  statuses text[], queue text, name text, priority pgmill.priority, tag text,
  created_after timestamptz, created_before timestamptz, before uuid, size int, budget interval DEFAULT '300 ms'
) RETURNS TABLE (next uuid, id uuid)
LANGUAGE plpgsql STABLE  -- one snapshot for all that it looks at
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off  -- along an index
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  few constant int := 20000;
  enough constant timestamptz := clock_timestamp() + budget;
  top constant uuid := coalesce(pgmill.uuid_floor(created_before + interval '1 day'),
                                'ffffffff-ffff-ffff-ffff-ffffffffffff');
  bottom constant uuid := coalesce(pgmill.uuid_floor(created_after - interval '1 day'),
                                   '00000000-0000-0000-0000-000000000000');
  kinds constant text[] := ARRAY(SELECT unnest('{FAILED,CANCELLED,PAUSED}'::text[]) INTERSECT SELECT unnest(statuses))
                           || CASE WHEN statuses && '{SCHEDULED,RETRYABLE}' THEN ARRAY['LATER'] ELSE '{}' END;
  due constant boolean := coalesce('AVAILABLE' = ANY (statuses), false);
  everywhere boolean := coalesce('COMPLETED' = ANY (statuses), true);
  chunk int := size + 1;
  last uuid := coalesce(before, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
  page uuid[] := '{}';
  found uuid[];
  seen int;
BEGIN
  IF due AND NOT everywhere THEN
    SELECT count(*) > few INTO everywhere FROM (SELECT FROM pgmill.tasks t WHERE t.ready LIMIT few + 1) r;
  END IF;
  LOOP
    WITH looked AS MATERIALIZED (
      SELECT s.* FROM (
        (SELECT t.id, t.queue, t.name, t.priority, t.tags, t.created_at,
                t.state, t.paused_at, t.frozen_at, t.due_at, t.started_at  -- and not whole rows, which takes twice as long
         FROM pgmill.tasks t
         WHERE everywhere AND t.id BETWEEN bottom AND top AND t.id <= last AND t.id IS DISTINCT FROM before
         ORDER BY t.id DESC LIMIT chunk)
        UNION ALL
        SELECT t.id, t.queue, t.name, t.priority, t.tags, t.created_at,
               t.state, t.paused_at, t.frozen_at, t.due_at, t.started_at
        FROM (SELECT l.id FROM unnest(kinds) AS k (kind) CROSS JOIN LATERAL (
                SELECT t.id FROM pgmill.tasks t
                WHERE t.aside = k.kind AND t.id BETWEEN bottom AND top AND t.id <= last
                ORDER BY t.id DESC LIMIT chunk) l
              UNION  -- some are in several
              SELECT t.id FROM pgmill.tasks t WHERE due AND t.ready
              UNION
              SELECT u.id FROM pgmill.heartbeats h CROSS JOIN LATERAL unnest(h.held) AS u (id)
              WHERE 'RUNNING' = ANY (statuses)) c
        CROSS JOIN LATERAL (SELECT * FROM pgmill.tasks t WHERE t.id = c.id LIMIT 1) t
        WHERE NOT everywhere AND t.id BETWEEN bottom AND top AND t.id <= last) s
      WHERE s.id IS DISTINCT FROM before
      ORDER BY s.id DESC LIMIT chunk
    )
    SELECT count(*), (SELECT l.id FROM looked l ORDER BY l.id LIMIT 1),
           coalesce(array_agg(s.id ORDER BY s.id DESC) FILTER (WHERE
             (statuses IS NULL OR pgmill.status(s.state, s.paused_at, s.frozen_at, s.due_at, s.started_at) = ANY (statuses))
             AND (list.queue IS NULL OR s.queue = list.queue) AND (list.name IS NULL OR s.name = list.name)
             AND (list.priority IS NULL OR s.priority = list.priority) AND (tag IS NULL OR tag = ANY (s.tags))
             AND (created_after IS NULL OR s.created_at > created_after)
             AND (created_before IS NULL OR s.created_at < created_before)), '{}')
    INTO seen, before, found FROM looked s;
    page := page || found;
    EXIT WHEN seen < chunk OR cardinality(page) > size OR clock_timestamp() > enough;
    last := before;
    chunk := least(chunk * 4, few);
  END LOOP;
  IF cardinality(page) > size THEN
    before := page[size];
  ELSIF seen < chunk THEN
    before := NULL;
  END IF;
  RETURN QUERY SELECT before, u.id FROM (VALUES (1)) one LEFT JOIN unnest(page[1:size]) AS u (id) ON true;
END
$$;

-- The end of standard error of the last attempt that wrote any; `text` is NULL where there is none.
CREATE OR REPLACE FUNCTION pgmill.log(task uuid, OUT known boolean, OUT text text)
LANGUAGE sql STABLE AS $$
  SELECT count(t.id) > 0, max(coalesce(t.log, e.stderr))
  FROM pgmill.tasks t LEFT JOIN LATERAL (
    SELECT u.error ->> 'stderr' AS stderr FROM jsonb_array_elements(t.errors) WITH ORDINALITY AS u (error, n)
    WHERE u.error ? 'stderr' ORDER BY u.n DESC LIMIT 1) e ON true
  WHERE t.id = log.task
$$;
