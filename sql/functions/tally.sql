-- SPDX-License-Identifier: MIT
-- Counting without counting the table: every transition adds to pgmill.tallies in its own statement or transaction.

-- Upper bounds of the histograms' buckets in seconds; what is above the last one has a bucket of its own.
CREATE OR REPLACE FUNCTION pgmill.bounds() RETURNS float8[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT '{0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10,30,60,300,900,3600}'::float8[]
$$;

CREATE OR REPLACE FUNCTION pgmill.histogram(seconds float8[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  RETURN (SELECT array_agg(coalesce(c.n, 0) ORDER BY b)
          FROM generate_series(0, cardinality(pgmill.bounds())) b
          LEFT JOIN (SELECT (SELECT count(*) FROM unnest(pgmill.bounds()) x WHERE x < s)::int AS bucket, count(*) AS n
                     FROM unnest(seconds) s WHERE s IS NOT NULL GROUP BY 1) c ON c.bucket = b);
END
$$;

CREATE OR REPLACE FUNCTION pgmill.plus(a bigint[], b bigint[]) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  IF a IS NULL OR b IS NULL THEN
    RETURN coalesce(a, b);
  END IF;
  RETURN ARRAY(SELECT x + y FROM unnest(a, b) WITH ORDINALITY AS u (x, y, n) ORDER BY n);
END
$$;
CREATE OR REPLACE AGGREGATE pgmill.total(bigint[]) (sfunc = pgmill.plus, stype = bigint[]);

-- What was counted so far, one row a queue.
CREATE OR REPLACE VIEW pgmill.tally AS
SELECT queue, sum(submitted)::bigint AS submitted, sum(completed)::bigint AS completed, sum(failed)::bigint AS failed,
       sum(cancelled)::bigint AS cancelled, sum(retried)::bigint AS retried, sum(rescued)::bigint AS rescued,
       sum(refused)::bigint AS refused, sum(reopened_failed)::bigint AS reopened_failed,
       sum(reopened_cancelled)::bigint AS reopened_cancelled, sum(paused)::bigint AS paused,
       sum(wait_seconds) AS wait_seconds, sum(run_seconds) AS run_seconds,
       pgmill.total(waits) AS waits, pgmill.total(runs) AS runs
FROM pgmill.tallies GROUP BY queue;

-- Adds up the rows of some queues, or of all that nobody writes to any more, one row a queue; a queue that is to be
-- forgotten goes into the row of no queue.
CREATE OR REPLACE FUNCTION pgmill.fold(forgotten text[]) RETURNS void
LANGUAGE sql VOLATILE AS $$
  WITH gone AS (
    DELETE FROM pgmill.tallies t
    WHERE t.queue = ANY (forgotten) OR t.writer IS NULL OR t.writer > 0 AND t.minute < clock_timestamp() - interval '1 hour'
    RETURNING t.*
  )
  INSERT INTO pgmill.tallies AS t
    (minute, writer, queue, submitted, completed, failed, cancelled, retried, rescued, refused, reopened_failed,
     reopened_cancelled, paused, wait_seconds, run_seconds, waits, runs, used_at, maker)
  SELECT '-infinity', 0, CASE WHEN g.queue <> ALL (forgotten) THEN g.queue ELSE '' END AS queue,
         sum(submitted), sum(completed), sum(failed), sum(cancelled), sum(retried), sum(rescued),
         sum(refused), sum(reopened_failed), sum(reopened_cancelled), sum(paused), sum(wait_seconds), sum(run_seconds),
         pgmill.total(waits), pgmill.total(runs), max(coalesce(used_at, minute)),
         max(maker) FILTER (WHERE g.queue <> ALL (forgotten))
  FROM gone g GROUP BY 3 ORDER BY 3
  ON CONFLICT (writer, minute, queue) DO UPDATE SET
    submitted = t.submitted + excluded.submitted, completed = t.completed + excluded.completed,
    failed = t.failed + excluded.failed, cancelled = t.cancelled + excluded.cancelled,
    retried = t.retried + excluded.retried, rescued = t.rescued + excluded.rescued,
    refused = t.refused + excluded.refused, reopened_failed = t.reopened_failed + excluded.reopened_failed,
    reopened_cancelled = t.reopened_cancelled + excluded.reopened_cancelled, paused = t.paused + excluded.paused,
    wait_seconds = t.wait_seconds + excluded.wait_seconds, run_seconds = t.run_seconds + excluded.run_seconds,
    waits = pgmill.plus(t.waits, excluded.waits), runs = pgmill.plus(t.runs, excluded.runs),
    used_at = greatest(t.used_at, excluded.used_at), maker = coalesce(t.maker, excluded.maker)
$$;

-- Queues that nothing was heard of for a day, that have no settings, no worker and no task that has not ended.
CREATE OR REPLACE FUNCTION pgmill.abandoned_queues() RETURNS text[]
LANGUAGE sql STABLE AS $$
  SELECT coalesce(array_agg(a.queue), '{}') FROM (
    SELECT t.queue FROM pgmill.tallies t WHERE t.queue <> ''
    GROUP BY t.queue
    HAVING sum(t.submitted - t.completed - t.failed - t.cancelled + t.reopened_failed + t.reopened_cancelled) <= 0
       AND max(coalesce(t.used_at, t.minute)) < clock_timestamp() - interval '1 day'
    LIMIT 10000) a
  WHERE NOT EXISTS (SELECT FROM pgmill.queues q WHERE q.name = a.queue)
    AND NOT EXISTS (SELECT FROM pgmill.workers w JOIN pgmill.heartbeats h ON h.worker = w.id WHERE a.queue = ANY (w.queues))
$$;

-- House-keeping that anybody may ask for at any time; one session at a time does it. Folds rows that nobody writes to
-- any more into one a queue, and forgets what has expired.
CREATE OR REPLACE FUNCTION pgmill.tidy() RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF NOT pg_try_advisory_xact_lock(pgmill.lock_class('tidy'), 0) THEN
    RETURN false;
  END IF;
  PERFORM pgmill.fold(pgmill.abandoned_queues());
  DELETE FROM pgmill.acts WHERE id IN (  -- none is sent again after a minute
    SELECT id FROM pgmill.acts WHERE at < clock_timestamp() - interval '1 hour' ORDER BY at LIMIT 10000 FOR UPDATE SKIP LOCKED);
  DELETE FROM pgmill.idempotency WHERE (scope, key) IN (
    SELECT scope, key FROM pgmill.idempotency WHERE expires_at <= clock_timestamp()
    ORDER BY expires_at LIMIT 10000 FOR UPDATE SKIP LOCKED);
  DELETE FROM pgmill.watchers WHERE until <= clock_timestamp();
  RETURN true;
END
$$;
