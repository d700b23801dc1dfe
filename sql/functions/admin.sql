-- SPDX-License-Identifier: MIT
-- Queues, workers and the whole, as REST and Prometheus show them. Nothing here counts the table: ends come from the
-- tallies, running tasks from the heartbeats, and what waits is the rest.

-- Queues that have ready tasks, but for some; the first 1,000: one look into the index for each.
CREATE OR REPLACE FUNCTION pgmill.ready_queues(but text[]) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET jit = off AS $$
BEGIN
  RETURN QUERY
  WITH RECURSIVE n (name) AS (
    (SELECT t.queue::text FROM pgmill.tasks t WHERE t.ready ORDER BY t.queue LIMIT 1)
    UNION ALL
    SELECT (SELECT t.queue::text FROM pgmill.tasks t WHERE t.ready AND t.queue > n.name ORDER BY t.queue LIMIT 1)
    FROM n WHERE n.name IS NOT NULL
  )
  SELECT n.name FROM n WHERE n.name IS NOT NULL AND n.name <> ALL (but) LIMIT 1000;
END
$$;

-- The names of a queue's ready tasks, the first 1,000: one look into the index for each.
CREATE OR REPLACE FUNCTION pgmill.ready_names(queue text) RETURNS SETOF text
LANGUAGE sql STABLE AS $$
  WITH RECURSIVE n (name) AS (
    (SELECT t.name::text FROM pgmill.tasks t WHERE t.ready AND t.queue = ready_names.queue ORDER BY t.name LIMIT 1)
    UNION ALL
    SELECT (SELECT t.name::text FROM pgmill.tasks t
            WHERE t.ready AND t.queue = ready_names.queue AND t.name > n.name ORDER BY t.name LIMIT 1)
    FROM n WHERE n.name IS NOT NULL
  )
  SELECT n.name FROM n WHERE n.name IS NOT NULL LIMIT 1000
$$;

-- Since when the oldest task has been due, of one queue.
CREATE OR REPLACE FUNCTION pgmill.oldest_due(queue text) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
  SELECT min(l.due_at)
  FROM pgmill.ready_names(oldest_due.queue) AS w (word) CROSS JOIN unnest(enum_range(NULL::pgmill.priority)) p
  CROSS JOIN LATERAL (
    SELECT t.due_at FROM pgmill.tasks t
    WHERE t.ready AND t.queue = oldest_due.queue AND t.name = w.word AND t.priority = p ORDER BY t.due_at, t.id LIMIT 1) l
  WHERE l.due_at <= clock_timestamp()
$$;

-- The same of all queues but some. Looks at 100,000 ready tasks; where there are more, at the oldest of 1,000 queues.
CREATE OR REPLACE FUNCTION pgmill.oldest_due_but(queues text[]) RETURNS timestamptz
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET jit = off AS $$
DECLARE
  seen bigint;
  oldest timestamptz;
BEGIN
  SELECT count(*), min(t.due_at) FILTER (WHERE t.due_at <= clock_timestamp() AND t.queue <> ALL (queues))
  INTO seen, oldest FROM (SELECT t.queue, t.due_at FROM pgmill.tasks t WHERE t.ready LIMIT 100000) t;
  IF seen = 100000 THEN
    SELECT min(pgmill.oldest_due(q.name)) INTO oldest
    FROM (SELECT r.name FROM pgmill.ready_queues('{}') AS r (name) WHERE r.name <> ALL (queues) LIMIT 1000) q;
  END IF;
  RETURN oldest;
END
$$;

-- How many of a queue's `waiting` tasks (neither running nor paused) are due, and since when; and how many of the others
-- wait for their backoff. Looks at 100,000 entries of the index on either side: the smaller side is exact, the other is
-- what remains, and of more than 100,000 that are not due, those beyond count as scheduled.
CREATE OR REPLACE FUNCTION pgmill.due(
  queue text, waiting bigint, OUT available bigint, OUT scheduled bigint, OUT retryable bigint, OUT oldest_seconds float8
)
LANGUAGE plpgsql STABLE AS $$
DECLARE
  cap constant int := 100000;
  clock constant timestamptz := clock_timestamp();
  names constant text[] := ARRAY(SELECT pgmill.ready_names(queue));
  n bigint;
BEGIN
  SELECT count(*), count(*) FILTER (WHERE c.again) INTO n, retryable FROM (
    SELECT l.again FROM unnest(names) AS w (word) CROSS JOIN unnest(enum_range(NULL::pgmill.priority)) p CROSS JOIN LATERAL (
      SELECT t.started_at IS NOT NULL AS again FROM pgmill.tasks t
      WHERE t.ready AND t.queue = due.queue AND t.name = w.word AND t.priority = p AND t.due_at > clock LIMIT cap) l
    LIMIT cap) c;
  IF n < cap THEN
    available := greatest(waiting - n, 0);
  ELSE
    SELECT count(*) INTO n FROM (
      SELECT FROM unnest(names) AS w (word) CROSS JOIN unnest(enum_range(NULL::pgmill.priority)) p CROSS JOIN LATERAL (
        SELECT FROM pgmill.tasks t
        WHERE t.ready AND t.queue = due.queue AND t.name = w.word AND t.priority = p AND t.due_at <= clock LIMIT cap) l
      LIMIT cap) c;
    available := least(n, waiting);
  END IF;
  retryable := least(retryable, waiting - available);
  scheduled := waiting - available - retryable;
  oldest_seconds := extract(epoch FROM clock - pgmill.oldest_due(queue));
END
$$;

-- Workers, and whether they take tasks: only those that are ACTIVE serve their queues.
CREATE OR REPLACE VIEW pgmill.worker_states AS
SELECT w.id, w.instance, w.host, w.queues, w.names,
       CASE WHEN s.worker IS NOT NULL THEN 'LOST' WHEN w.draining_at IS NOT NULL THEN 'DRAINING'
            WHEN w.quiet_at IS NOT NULL THEN 'QUIET' ELSE 'ACTIVE' END AS status
FROM pgmill.heartbeats h JOIN pgmill.workers w ON w.id = h.worker LEFT JOIN pgmill.suspects() s ON s.worker = w.id;

-- Queues that were configured, used, or are served by a living worker.
CREATE OR REPLACE VIEW pgmill.queue_names AS
SELECT q.name::text AS name FROM pgmill.queues q
UNION SELECT t.queue FROM pgmill.tallies t WHERE t.queue <> ''
UNION SELECT unnest(w.queues) FROM pgmill.workers w JOIN pgmill.heartbeats h ON h.worker = w.id AND NOT h.dead;

-- Queues where tasks wait and that no worker serves, 1,000 at most. Asked every second: of queues that are served
-- no more than one task is looked at.
CREATE OR REPLACE FUNCTION pgmill.unserved_queues() RETURNS text[]
LANGUAGE sql STABLE AS $$
  SELECT coalesce(array_agg(q ORDER BY q), '{}') FROM pgmill.ready_queues(ARRAY(
    SELECT DISTINCT unnest(w.queues) FROM pgmill.worker_states w WHERE w.status = 'ACTIVE')) q
$$;

-- How many tasks of each queue run, and do not stand still.
CREATE OR REPLACE FUNCTION pgmill.runs() RETURNS TABLE (queue text, n bigint)
LANGUAGE sql STABLE AS $$
  SELECT t.queue::text, count(*)
  FROM pgmill.heartbeats h CROSS JOIN LATERAL unnest(h.held) AS u (id)
  CROSS JOIN LATERAL (
    SELECT t.queue FROM pgmill.tasks t
    WHERE t.id = u.id AND t.worker = h.worker AND t.state = 'running' AND t.frozen_at IS NULL LIMIT 1) t
  GROUP BY 1
$$;

-- The state of these queues, or of `size` of all, those in use first: configured, served, or with tasks that have not
-- ended. after: the place of the last one seen (NULL: from the first), as the column place says it.
CREATE OR REPLACE FUNCTION pgmill.queue_states(these text[] DEFAULT NULL, after text DEFAULT NULL, size int DEFAULT 1000)
RETURNS TABLE (name text, paused boolean, max_running int, submitted bigint, completed bigint, failed bigint,
               cancelled bigint, running bigint, paused_tasks bigint, available bigint, scheduled bigint,
               retryable bigint, oldest_seconds float8, workers bigint, place text)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH counted AS MATERIALIZED (
    SELECT t.queue AS name, t.submitted, t.completed, t.failed - t.reopened_failed AS failed,
           t.cancelled - t.reopened_cancelled AS cancelled, t.paused
    FROM pgmill.tally t WHERE t.queue <> '' AND (these IS NULL OR t.queue = ANY (these))
  ), served AS MATERIALIZED (
    SELECT q AS name, count(*) AS n FROM pgmill.worker_states w CROSS JOIN unnest(w.queues) q
    WHERE w.status = 'ACTIVE' GROUP BY 1
  ), names (name, used) AS (
    SELECT q.name::text, true FROM pgmill.queues q
    UNION ALL SELECT s.name, true FROM served s
    UNION ALL SELECT c.name, c.submitted > c.completed + c.failed + c.cancelled FROM counted c
  ), page AS MATERIALIZED (
    SELECT * FROM (SELECT n.name, CASE WHEN bool_or(n.used) THEN 'a' ELSE 'b' END || n.name AS place
                   FROM names n WHERE these IS NULL OR n.name = ANY (these) GROUP BY n.name) n
    WHERE after IS NULL OR n.place COLLATE "C" > after ORDER BY n.place COLLATE "C" LIMIT size
  ), states AS (
    SELECT n.name, coalesce(q.paused, false) AS paused, q.max_running, coalesce(t.submitted, 0) AS submitted,
           coalesce(t.completed, 0) AS completed, greatest(t.failed, 0) AS failed, greatest(t.cancelled, 0) AS cancelled,
           coalesce(r.n, 0) AS running, greatest(t.paused, 0) AS paused_tasks, coalesce(s.n, 0) AS workers, n.place,
           greatest(t.submitted - t.completed - t.failed - t.cancelled - coalesce(r.n, 0) - greatest(t.paused, 0), 0) AS waiting
    FROM page n LEFT JOIN pgmill.queues q ON q.name = n.name LEFT JOIN counted t ON t.name = n.name
    LEFT JOIN pgmill.runs() r ON r.queue = n.name LEFT JOIN served s ON s.name = n.name
  )
  SELECT s.name, s.paused, s.max_running, s.submitted, s.completed, s.failed, s.cancelled, s.running, s.paused_tasks,
         coalesce(d.available, 0), coalesce(d.scheduled, 0), coalesce(d.retryable, 0), d.oldest_seconds, s.workers, s.place
  FROM states s LEFT JOIN LATERAL pgmill.due(s.name, s.waiting) d ON s.waiting > 0
  ORDER BY s.place COLLATE "C";
END
$$;

-- The same of all queues together, except for some. Of tasks that wait for their time or their backoff it looks at 100,000.
CREATE OR REPLACE FUNCTION pgmill.whole_state(
  but text[], OUT queues bigint, OUT submitted bigint, OUT completed bigint, OUT failed bigint, OUT cancelled bigint,
  OUT running bigint, OUT paused_tasks bigint, OUT available bigint, OUT scheduled bigint, OUT retryable bigint,
  OUT oldest_seconds float8
)
LANGUAGE plpgsql STABLE SET enable_seqscan = off SET jit = off AS $$
DECLARE
  clock constant timestamptz := clock_timestamp();
BEGIN
  SELECT count(*) FILTER (WHERE t.queue <> ''), coalesce(sum(t.submitted), 0), coalesce(sum(t.completed), 0),
         coalesce(sum(t.failed - t.reopened_failed), 0), coalesce(sum(t.cancelled - t.reopened_cancelled), 0),
         greatest(sum(t.paused), 0)
  INTO queues, submitted, completed, failed, cancelled, paused_tasks
  FROM pgmill.tally t WHERE t.queue <> ALL (but);
  SELECT coalesce(sum(r.n), 0) INTO running FROM pgmill.runs() r WHERE r.queue <> ALL (but);
  SELECT count(*) FILTER (WHERE t.started_at IS NULL), count(t.started_at) INTO scheduled, retryable
  FROM (SELECT t.queue, t.due_at, t.started_at FROM pgmill.tasks t WHERE t.aside = 'LATER' LIMIT 100000) t
  WHERE t.due_at > clock AND t.queue <> ALL (but);
  available := greatest(submitted - completed - failed - cancelled - running - paused_tasks - scheduled - retryable, 0);
  oldest_seconds := extract(epoch FROM clock - pgmill.oldest_due_but(but));
END
$$;

-- ---- queues ----

-- One, or a page of `size`; next: `after` of the next page, NULL when this is the last.
CREATE OR REPLACE FUNCTION pgmill.show_queues(
  only_name text, after text DEFAULT NULL, size int DEFAULT 1000, OUT verdict text, OUT shown text
)
LANGUAGE plpgsql STABLE AS $$
DECLARE
  list json[];
  places text[];
BEGIN
  SELECT array_agg(q.place ORDER BY q.place COLLATE "C"), array_agg(json_build_object(
    'name', q.name, 'paused', q.paused, 'max_running', q.max_running, 'available', q.available,
    'scheduled', q.scheduled, 'retryable', q.retryable, 'running', q.running, 'paused_tasks', q.paused_tasks, 'completed', q.completed,
    'failed', q.failed, 'cancelled', q.cancelled, 'oldest_available_seconds', q.oldest_seconds, 'workers', q.workers)
    ORDER BY q.place COLLATE "C")
  INTO places, list FROM pgmill.queue_states(CASE WHEN only_name IS NOT NULL THEN ARRAY[only_name] END, after, size + 1) q;
  verdict := 'done';
  shown := CASE WHEN only_name IS NOT NULL THEN list[1] ELSE json_build_object(
    'queues', coalesce(list[1:size], '{}'), 'next', CASE WHEN cardinality(places) > size THEN places[size] END) END;
  IF shown IS NULL THEN
    verdict := 'unknown';
  END IF;
END
$$;

-- A queue that opens again has work for those who sleep.
CREATE OR REPLACE FUNCTION pgmill.wake_queue(name text) RETURNS void
LANGUAGE sql VOLATILE AS $$
  SELECT pg_notify('pgmill_' || s.worker, '') FROM pgmill.sleepers s WHERE s.queue = wake_queue.name
$$;

-- verdict: `created` when the queue had no configuration before.
CREATE OR REPLACE FUNCTION pgmill.put_queue(name text, paused boolean, max_running int, OUT verdict text, OUT shown text)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_variable
DECLARE
  outcome text;
BEGIN
  INSERT INTO pgmill.queues AS q (name, paused, max_running) VALUES (name, paused, max_running)
  ON CONFLICT ON CONSTRAINT queues_pkey DO UPDATE SET paused = excluded.paused, max_running = excluded.max_running
  RETURNING CASE WHEN q.xmax = 0 THEN 'created' ELSE 'done' END INTO outcome;
  PERFORM pgmill.wake_queue(name);
  SELECT s.shown INTO shown FROM pgmill.show_queues(name) s;
  verdict := outcome;
END
$$;

-- Only what settings names: {"paused": …, "max_running": …}, where null is the default, as for put_queue.
CREATE OR REPLACE FUNCTION pgmill.change_queue(name text, settings jsonb, OUT verdict text, OUT shown text)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_variable
BEGIN
  IF NOT EXISTS (SELECT FROM pgmill.queue_names n WHERE n.name = change_queue.name) THEN
    verdict := 'unknown';
    RETURN;
  END IF;
  INSERT INTO pgmill.queues AS q (name, paused, max_running)
  VALUES (name, coalesce((settings ->> 'paused')::boolean, false), (settings ->> 'max_running')::numeric::int)
  ON CONFLICT ON CONSTRAINT queues_pkey DO UPDATE SET
    paused = CASE WHEN settings ? 'paused' THEN excluded.paused ELSE q.paused END,
    max_running = CASE WHEN settings ? 'max_running' THEN excluded.max_running ELSE q.max_running END;
  PERFORM pgmill.wake_queue(name);
  SELECT s.verdict, s.shown INTO verdict, shown FROM pgmill.show_queues(name) s;
END
$$;

CREATE OR REPLACE FUNCTION pgmill.pause_queue(name text, paused boolean, OUT verdict text, OUT shown text)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_variable
BEGIN
  IF NOT EXISTS (SELECT FROM pgmill.queue_names n WHERE n.name = pause_queue.name) THEN
    verdict := 'unknown';
    RETURN;
  END IF;
  INSERT INTO pgmill.queues (name, paused) VALUES (name, paused)
  ON CONFLICT ON CONSTRAINT queues_pkey DO UPDATE SET paused = excluded.paused;
  IF NOT paused THEN
    PERFORM pgmill.wake_queue(name);
  END IF;
  SELECT s.verdict, s.shown INTO verdict, shown FROM pgmill.show_queues(name) s;
END
$$;

-- Forgets a queue in which nothing waits or runs: its settings, and its figures, which stay in those of the whole. Tasks of
-- it that have ended stay; one that is tried again brings it back. verdict: `done`, `unknown`, or `used`, because a worker
-- serves it or tasks have not ended: then shown is what there is.
CREATE OR REPLACE FUNCTION pgmill.delete_queue(name text, OUT verdict text, OUT shown text)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  q record;
BEGIN
  SELECT s.* INTO q FROM pgmill.queue_states(ARRAY[delete_queue.name]) s;
  IF q IS NULL THEN
    verdict := 'unknown';
    RETURN;
  END IF;
  IF q.workers > 0 OR q.available + q.scheduled + q.retryable + q.running + q.paused_tasks > 0 THEN
    verdict := 'used';
    SELECT s.shown INTO shown FROM pgmill.show_queues(delete_queue.name) s;
    RETURN;
  END IF;
  DELETE FROM pgmill.queues q WHERE q.name = delete_queue.name;
  PERFORM pgmill.fold(ARRAY[delete_queue.name]);
  verdict := 'done';
  shown := '{}';
END
$$;

-- ---- workers ----

CREATE OR REPLACE FUNCTION pgmill.show_workers(only_id uuid, OUT verdict text, OUT shown text)
LANGUAGE plpgsql STABLE AS $$
DECLARE
  list json[];
BEGIN
  SELECT array_agg(json_build_object(
    'id', w.id, 'instance', w.instance, 'host', w.host, 'pid', w.pid, 'version', w.version, 'queues', w.queues,
    'names', w.names, 'resting', w.resting,
    'status', s.status,
    'started_at', pgmill.rfc3339(w.started_at), 'last_seen_at', pgmill.rfc3339(w.at),
    'running', r.n, 'tasks', r.tasks) ORDER BY w.id DESC)
  INTO list
  FROM (SELECT w.*, h.at, h.held FROM pgmill.heartbeats h JOIN pgmill.workers w ON w.id = h.worker
        WHERE only_id IS NULL OR w.id = only_id ORDER BY w.id DESC LIMIT 1000) w
  JOIN pgmill.worker_states s ON s.id = w.id
  CROSS JOIN LATERAL (
    SELECT count(*) AS n, coalesce(json_agg(json_build_object(
             'id', t.id, 'name', t.name, 'started_at', pgmill.rfc3339(t.started_at)) ORDER BY t.number)
             FILTER (WHERE t.number <= 100), '[]') AS tasks
    FROM (SELECT t.*, row_number() OVER (ORDER BY u.number) AS number
          FROM unnest(w.held) WITH ORDINALITY AS u (id, number) CROSS JOIN LATERAL (
            SELECT t.id, t.name, t.started_at FROM pgmill.tasks t
            WHERE t.id = u.id AND t.worker = w.id AND t.state = 'running' LIMIT 1) t) t) r;
  verdict := 'done';
  shown := CASE WHEN only_id IS NULL THEN json_build_object('workers', coalesce(list, '{}')) ELSE list[1] END;
  IF shown IS NULL THEN
    verdict := 'unknown';
  END IF;
END
$$;

-- It takes nothing new from its next claim on.
CREATE OR REPLACE FUNCTION pgmill.quiet(worker uuid, OUT verdict text, OUT shown text)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  UPDATE pgmill.workers w SET quiet_at = clock_timestamp() WHERE w.id = worker AND w.quiet_at IS NULL;
  DELETE FROM pgmill.sleepers s WHERE s.worker = quiet.worker;
  SELECT s.verdict, s.shown INTO verdict, shown FROM pgmill.show_workers(worker) s;
END
$$;

-- ---- the whole ----

-- Age of the oldest open or prepared transaction of this database: it keeps dead rows from being cleared away. NULL: there is
-- one that whoever owns this may not see the age of.
CREATE OR REPLACE FUNCTION pgmill.oldest_transaction_seconds() RETURNS float8
LANGUAGE sql VOLATILE AS $$
  -- Of another role's session little but backend_xmin is seen without pg_read_all_stats, not since when it holds rows back.
  SELECT CASE WHEN coalesce(bool_or(a.backend_type IS NULL AND a.backend_xmin IS NOT NULL), false) THEN NULL
    ELSE coalesce(greatest(extract(epoch FROM clock_timestamp() - least(
      min(a.xact_start) FILTER (WHERE a.backend_type = 'client backend'),
      (SELECT min(p.prepared) FROM pg_prepared_xacts p WHERE p.database = current_database()))), 0), 0) END::float8
  FROM pg_stat_activity a WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
$$;

CREATE OR REPLACE FUNCTION pgmill.show_stats(version text, OUT verdict text, OUT shown text)
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  verdict := 'done';
  SELECT json_build_object(
    'version', show_stats.version, 'schema', (SELECT max(s.version) FROM pgmill.schema s),
    'workers', (SELECT count(*) FROM pgmill.worker_states w WHERE w.status = 'ACTIVE'), 'queues', q.queues,
    'tasks', json_build_object(
      'SCHEDULED', q.scheduled, 'AVAILABLE', q.available, 'RUNNING', q.running, 'PAUSED', q.paused_tasks,
      'RETRYABLE', q.retryable, 'COMPLETED', q.completed, 'CANCELLED', q.cancelled, 'FAILED', q.failed),
    'submitted', q.submitted, 'oldest_available_seconds', q.oldest_seconds,
    'oldest_transaction_seconds', pgmill.oldest_transaction_seconds())
  INTO shown FROM pgmill.whole_state('{}') q;
END
$$;

-- The buckets of a histogram as Prometheus has them: each with all below it.
CREATE OR REPLACE FUNCTION pgmill.buckets(counts bigint[]) RETURNS TABLE (le text, value bigint)
LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce((pgmill.bounds())[n]::text, '+Inf'), coalesce(sum(counts[n]) OVER (ORDER BY n), 0)::bigint
  FROM generate_series(1, cardinality(pgmill.bounds()) + 1) n
$$;

-- Rows of a metric together. Names of queues are pgmill.label: nothing in them needs escaping. `most` queues have figures of
-- their own: those that are configured or served, then those with the most submissions, since a queue should rarely
-- change sides. All others are "(other)" together, which is no name of a queue.
CREATE OR REPLACE FUNCTION pgmill.metrics(version text, most int DEFAULT 100)
RETURNS TABLE (metric text, labels text, value text)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  own constant text[] := ARRAY(
    SELECT n.name FROM (
      SELECT q.name::text AS name, 0 AS rank, 0 AS submitted FROM pgmill.queues q
      UNION ALL SELECT unnest(w.queues), 0, 0 FROM pgmill.worker_states w WHERE w.status = 'ACTIVE'
      UNION ALL SELECT t.queue, 1, t.submitted FROM pgmill.tally t WHERE t.queue <> '') n
    GROUP BY n.name ORDER BY min(n.rank), max(n.submitted) DESC, n.name LIMIT most);
BEGIN
  RETURN QUERY
  WITH states AS MATERIALIZED (
    SELECT * FROM pgmill.queue_states(own) s ORDER BY s.name
  ), gauges AS MATERIALIZED (
    SELECT s.name, s.scheduled, s.available, s.retryable, s.running, s.paused_tasks, s.completed, s.cancelled, s.failed,
           s.oldest_seconds FROM states s
    UNION ALL
    SELECT '(other)', w.scheduled, w.available, w.retryable, w.running, w.paused_tasks, w.completed, w.cancelled, w.failed,
           w.oldest_seconds FROM pgmill.whole_state(own) w WHERE w.submitted > 0
  ), counted AS MATERIALIZED (
    SELECT CASE WHEN t.queue = ANY (own) THEN t.queue ELSE '(other)' END AS queue,
           sum(t.submitted) AS submitted, sum(t.completed) AS completed, sum(t.failed) AS failed, sum(t.cancelled) AS cancelled,
           sum(t.retried) AS retried, sum(t.rescued) AS rescued, sum(t.refused) AS refused, sum(t.wait_seconds) AS wait_seconds,
           sum(t.run_seconds) AS run_seconds, pgmill.total(t.waits) AS waits, pgmill.total(t.runs) AS runs
    FROM pgmill.tally t GROUP BY 1
  ), listed AS MATERIALIZED (
    SELECT * FROM counted c WHERE c.queue <> '(other)' OR c.submitted > 0 ORDER BY c.queue
  ), histograms AS MATERIALIZED (
    SELECT h.n, h.metric, t.queue, h.counts, h.seconds
    FROM listed t CROSS JOIN LATERAL (VALUES
      (6, 'pgmill_wait_seconds', t.waits, t.wait_seconds),
      (9, 'pgmill_run_seconds', t.runs, t.run_seconds)) h (n, metric, counts, seconds)
  ), rows (n, metric, labels, value) AS (
    SELECT 1, 'pgmill_build_info', format('version="%s",schema="%s"', metrics.version, max(s.version)), '1'
    FROM pgmill.schema s
    UNION ALL
    SELECT 2, 'pgmill_tasks', format('queue="%s",status="%s"', s.name, v.status), v.value::text
    FROM gauges s CROSS JOIN LATERAL (VALUES
      ('SCHEDULED', s.scheduled), ('AVAILABLE', s.available), ('RETRYABLE', s.retryable), ('RUNNING', s.running),
      ('PAUSED', s.paused_tasks),
      ('COMPLETED', s.completed), ('CANCELLED', s.cancelled), ('FAILED', s.failed)) v (status, value)
    UNION ALL
    SELECT 3, 'pgmill_tasks_submitted_total', format('queue="%s"', t.queue), t.submitted::text FROM listed t
    UNION ALL
    SELECT 4, 'pgmill_tasks_finished_total', format('queue="%s",outcome="%s"', t.queue, v.outcome), v.value::text
    FROM listed t CROSS JOIN LATERAL (VALUES
      ('completed', t.completed), ('failed', t.failed), ('cancelled', t.cancelled)) v (outcome, value)
    UNION ALL
    SELECT 5, 'pgmill_tasks_retried_total', format('queue="%s"', t.queue), t.retried::text FROM listed t
    UNION ALL
    SELECT h.n, h.metric || '_bucket', format('queue="%s",le="%s"', h.queue, b.le), b.value::text
    FROM histograms h CROSS JOIN LATERAL pgmill.buckets(h.counts) b
    UNION ALL
    SELECT h.n + 1, h.metric || '_sum', format('queue="%s"', h.queue), h.seconds::text FROM histograms h
    UNION ALL
    SELECT h.n + 2, h.metric || '_count', format('queue="%s"', h.queue), coalesce(c.n, 0)::text
    FROM histograms h CROSS JOIN LATERAL (SELECT sum(x) AS n FROM unnest(h.counts) x) c
    UNION ALL
    SELECT 12, 'pgmill_oldest_available_seconds', format('queue="%s"', s.name), coalesce(s.oldest_seconds, 0)::text
    FROM gauges s
    UNION ALL
    SELECT 13, 'pgmill_queue_paused', format('queue="%s"', s.name), s.paused::int::text FROM states s
    UNION ALL
    SELECT 14, 'pgmill_workers', format('status="%s"', v.status), count(w.id)::text
    FROM unnest('{ACTIVE,QUIET,DRAINING,LOST}'::text[]) AS v (status) LEFT JOIN pgmill.worker_states w USING (status)
    GROUP BY v.status
    UNION ALL
    SELECT 15, 'pgmill_resting_handlers', format('name="%s"', r.name), r.n::text
    FROM (SELECT k.name, count(*) AS n FROM pgmill.worker_states s JOIN pgmill.workers w ON w.id = s.id AND s.status <> 'LOST'
          CROSS JOIN LATERAL jsonb_object_keys(w.resting) k (name) GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 100) r
    UNION ALL
    SELECT 15, 'pgmill_rescues_total', 'reason="lost"', coalesce(sum(t.rescued), 0)::text FROM counted t
    UNION ALL
    SELECT 16, 'pgmill_fenced_writes_total', '', coalesce(sum(t.refused), 0)::text FROM counted t
    UNION ALL
    SELECT 17, 'pgmill_db_oldest_transaction_age_seconds', '', pgmill.oldest_transaction_seconds()::text
  )
  SELECT r.metric, r.labels, r.value FROM (SELECT *, row_number() OVER () AS place FROM rows) r
  WHERE r.value IS NOT NULL ORDER BY r.n, r.place;
END
$$;
