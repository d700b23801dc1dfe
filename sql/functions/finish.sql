-- SPDX-License-Identifier: MIT
-- How a run ends. Every write is fenced by (id, claim_no, worker): after a crash of the database a claim_no can
-- repeat, and a worker that was given up must not touch what others run now.

-- The state a run leaves its task in. outcome:
--   completed   it did its work
--   failed      it failed and must not be tried again
--   retry       it failed; again, while attempts are left
--   lost        its worker died under it; as retry, but the last attempt of all is apart from others (pgmill.apart)
--   cancelled   its worker ended it because somebody asked for that; blamed
--   deferred    not its fault (EX_TEMPFAIL): again later, not counted
--   settled     its own transaction wrote its end (pgmill.complete): nothing is left to write
--   returned    it never began, or was interrupted by its worker: back in line, not counted
CREATE OR REPLACE FUNCTION pgmill.state_after(outcome text, attempt int, max_attempts int, cancel_at timestamptz)
RETURNS pgmill.state
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT CASE
    WHEN outcome = 'completed' THEN 'completed'
    WHEN outcome = 'failed' THEN 'failed'
    WHEN outcome = 'cancelled' OR cancel_at IS NOT NULL THEN 'cancelled'
    WHEN outcome IN ('retry', 'lost') AND attempt >= max_attempts THEN 'failed'
    ELSE 'ready'
  END::pgmill.state
$$;

-- One more entry for errors[], which stays bounded: the oldest make way beyond 100 entries or 256 KiB of text.
CREATE OR REPLACE FUNCTION pgmill.errors_add(errors jsonb, entry jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  errors := errors || entry;
  WHILE jsonb_array_length(errors) > 100 OR octet_length(errors::text) > 262144 AND jsonb_array_length(errors) > 1 LOOP
    errors := errors - 0;
  END LOOP;
  RETURN errors;
END
$$;

-- Ends runs of one worker; arrays in parallel. error: an object about the attempt, or NULL. One that failed or was
-- cancelled joins errors[] with it, its number, worker and both times; of any other its `stderr` is kept as the log, and
-- its `note` as result_note.
-- delay: seconds until it is due again, NULL to keep its place. A row that
-- another session holds is left for the next call. verdict:
--   done      written
--   refused   the fence does not match: it is no longer this worker's
--   locked    somebody's open transaction holds it: send it again
CREATE OR REPLACE FUNCTION pgmill.end_runs(
  worker uuid, ids uuid[], claim_nos bigint[], outcomes text[], results text[], errors text[], delays float8[],
  cpu_usecs bigint[] DEFAULT '{}', memory_peaks bigint[] DEFAULT '{}'
) RETURNS TABLE (id uuid, verdict text)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off  -- one look-up for each id, never the history
AS $$
#variable_conflict use_column
DECLARE
  done uuid[];
BEGIN
  WITH given AS MATERIALIZED (
    SELECT * FROM unnest(ids, claim_nos, outcomes, results, errors, delays, cpu_usecs, memory_peaks)
      AS u (id, claim_no, outcome, result, error, delay, cpu_usec, memory_peak)
  ), locked AS MATERIALIZED (
    SELECT t.id, t.attempt, pgmill.state_after(g.outcome, t.attempt, t.max_attempts, t.cancel_at) AS state,
           g.outcome, g.outcome IN ('deferred', 'returned') AS unblamed, g.result,
           g.error::jsonb AS error, g.outcome IN ('failed', 'retry', 'lost', 'cancelled') AS erred,
           t.frozen_at IS NOT NULL AS was_frozen,
           CASE WHEN g.outcome = 'returned' THEN t.cpu_usec ELSE g.cpu_usec END AS cpu_usec,
           CASE WHEN g.outcome = 'returned' THEN t.memory_peak ELSE g.memory_peak END AS memory_peak,
           clock_timestamp() + make_interval(secs => g.delay) AS again_at,
           CASE WHEN g.outcome <> 'returned' THEN extract(epoch FROM t.started_at - t.due_at)::float8 END AS wait,
           CASE WHEN g.outcome <> 'returned' THEN  -- less what it stood still
             extract(epoch FROM coalesce(t.frozen_at, clock_timestamp()) - t.started_at)::float8 - t.frozen_seconds END AS run
    FROM given g JOIN pgmill.tasks t
      ON t.id = g.id AND t.claim_no = g.claim_no AND t.worker = end_runs.worker AND t.state = 'running'
    ORDER BY t.id
    FOR NO KEY UPDATE OF t SKIP LOCKED
  ), written AS (
    UPDATE pgmill.tasks t SET
      state       = l.state,
      ready       = l.state = 'ready' AND t.paused_at IS NULL,
      unique_held = l.state = 'ready' AND t.unique_held,
      due_at      = CASE WHEN l.state = 'ready' THEN coalesce(l.again_at, t.due_at) ELSE t.due_at END,
      attempt     = t.attempt - l.unblamed::int,
      apart       = CASE WHEN l.unblamed THEN t.apart ELSE l.outcome = 'lost' AND t.attempt + 1 >= t.max_attempts END,
      deferrals   = CASE l.outcome WHEN 'deferred' THEN t.deferrals + 1 WHEN 'returned' THEN t.deferrals ELSE 0 END,
      started_at  = CASE WHEN l.unblamed AND t.attempt = 1 AND l.again_at IS NULL THEN NULL ELSE t.started_at END,
      finished_at = CASE WHEN l.state <> 'ready' THEN clock_timestamp() END,
      frozen_at   = NULL,
      frozen_seconds = 0,
      cpu_usec    = l.cpu_usec,
      memory_peak = l.memory_peak,
      result      = l.result::jsonb,
      result_note = l.error ->> 'note',
      errors      = CASE WHEN l.error IS NULL OR NOT l.erred THEN t.errors ELSE pgmill.errors_add(t.errors, jsonb_build_object(
                      'attempt', t.attempt, 'worker', t.worker, 'started_at', pgmill.rfc3339(t.started_at),
                      'at', pgmill.rfc3339(clock_timestamp()), 'run_seconds', round(l.run::numeric, 3)) || l.error) END,
      log         = CASE WHEN l.error ? 'stderr' IS NOT TRUE THEN t.log WHEN NOT l.erred THEN l.error ->> 'stderr' END
    FROM locked l WHERE t.id = l.id
    RETURNING t.id, t.queue, l.state, l.outcome, l.wait, l.run,
              (l.state = 'ready' AND t.paused_at IS NOT NULL)::int - l.was_frozen::int AS paused
  ), counted AS (
    INSERT INTO pgmill.tallies AS t
      (writer, queue, completed, failed, cancelled, retried, paused, wait_seconds, run_seconds, waits, runs)
    SELECT pg_backend_pid(), queue, count(*) FILTER (WHERE state = 'completed'), count(*) FILTER (WHERE state = 'failed'),
           count(*) FILTER (WHERE state = 'cancelled'), count(*) FILTER (WHERE state = 'ready' AND outcome IN ('retry', 'lost')),
           sum(paused), coalesce(sum(wait), 0), coalesce(sum(run), 0),
           pgmill.histogram(array_agg(wait)), pgmill.histogram(array_agg(run))
    FROM written GROUP BY queue ORDER BY queue
    ON CONFLICT (writer, minute, queue) DO UPDATE SET
      completed = t.completed + excluded.completed, failed = t.failed + excluded.failed,
      cancelled = t.cancelled + excluded.cancelled, retried = t.retried + excluded.retried,
      paused = t.paused + excluded.paused, wait_seconds = t.wait_seconds + excluded.wait_seconds,
      run_seconds = t.run_seconds + excluded.run_seconds,
      waits = pgmill.plus(t.waits, excluded.waits), runs = pgmill.plus(t.runs, excluded.runs)
  )
  SELECT coalesce(array_agg(w.id), '{}') INTO done FROM written w;

  RETURN QUERY SELECT u, 'done' FROM unnest(done) u;
  IF cardinality(done) < cardinality(ids) THEN
    RETURN QUERY
      SELECT g.id, CASE WHEN t.id IS NULL THEN 'refused' ELSE 'locked' END
      FROM unnest(ids, claim_nos) AS g (id, claim_no) LEFT JOIN pgmill.tasks t
        ON t.id = g.id AND t.claim_no = g.claim_no AND t.worker = end_runs.worker AND t.state = 'running'
      WHERE g.id <> ALL (done);
  END IF;
END
$$;

-- A place in a limited queue is free again: tells as many of those who sleep, since nobody else will.
CREATE OR REPLACE FUNCTION pgmill.wake_limited(ended uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF EXISTS (SELECT FROM pgmill.queues q WHERE q.max_running IS NOT NULL) THEN
    PERFORM pg_notify('pgmill_' || s.worker, '')
    FROM (SELECT t.queue, count(*) AS n FROM pgmill.tasks t WHERE t.id = ANY (ended) GROUP BY 1) e
    JOIN pgmill.queues q ON q.name = e.queue AND q.max_running IS NOT NULL CROSS JOIN LATERAL (
      SELECT w.worker FROM pgmill.sleepers w WHERE w.queue = e.queue ORDER BY random() LIMIT e.n) s;
  END IF;
END
$$;

-- These were given back: whichever of them may run now, as many of those who sleep are told, as of new ones.
CREATE OR REPLACE FUNCTION pgmill.wake_returned(ids uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF EXISTS (SELECT FROM pgmill.sleepers) THEN
    PERFORM pgmill.wake(array_agg(t.queue::text), array_agg(t.name::text))
    FROM pgmill.tasks t
    WHERE t.id = ANY (ids) AND t.ready AND t.due_at < clock_timestamp() + interval '1 second'
    HAVING count(*) > 0;
  END IF;
END
$$;

-- One turn of a worker: end what ended and give a sign of life, in one durable transaction. Its commit proves
-- every claim that this session made before. Programs of all tasks held may have begun after it and count as started, but
-- for those that wait for a slot (ahead): they stand behind the others in `held`.
CREATE OR REPLACE FUNCTION pgmill.finish(
  worker uuid, ids uuid[], claim_nos bigint[], outcomes text[], results text[], errors text[], delays float8[],
  cpu_usecs bigint[] DEFAULT '{}', memory_peaks bigint[] DEFAULT '{}', ahead uuid[] DEFAULT '{}'
) RETURNS TABLE (id uuid, verdict text)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  gone uuid[] := '{}';
  again uuid[] := '{}';
  present uuid[] := '{}';
  fresh uuid[] := '{}';  -- begin to run with this turn
BEGIN
  IF cardinality(ids) > 0 THEN
    SELECT coalesce(array_agg(e.id) FILTER (WHERE e.verdict = 'done'), '{}'),
           coalesce(array_agg(e.id) FILTER (WHERE e.verdict = 'locked'), '{}')
    INTO gone, again
    FROM pgmill.end_runs(worker, ids, claim_nos, outcomes, results, errors, delays, cpu_usecs, memory_peaks) e;
  END IF;
  IF cardinality(gone) < cardinality(ids) THEN  -- what is locked, and later claims of what is refused, stay held
    SELECT coalesce(array_agg(t.id), '{}') INTO present
    FROM pgmill.tasks t WHERE t.id = ANY (ids) AND t.worker = finish.worker AND t.state = 'running';
    INSERT INTO pgmill.tallies (queue, refused)
    SELECT coalesce(t.queue, ''), count(*) FROM unnest(ids, outcomes) AS u (id, outcome) LEFT JOIN pgmill.tasks t ON t.id = u.id
    WHERE u.outcome <> 'settled' AND u.id <> ALL (gone) AND u.id <> ALL (again) GROUP BY 1;
  END IF;
  UPDATE pgmill.heartbeats h
  SET beat = h.beat + 1, at = clock_timestamp(), held = k.begun || k.waiting, started = cardinality(k.begun)
  FROM (SELECT CASE WHEN cardinality(ids) = 0 AND cardinality(ahead) = 0 THEN b.held
                    ELSE ARRAY(SELECT u FROM unnest(b.held) u
                               WHERE (u <> ALL (ids) OR u = ANY (present)) AND u <> ALL (ahead)) END AS begun,
               CASE WHEN cardinality(ahead) = 0 THEN '{}'::uuid[]
                    ELSE ARRAY(SELECT u FROM unnest(b.held) u WHERE u = ANY (ahead)) END AS waiting,
               CASE WHEN cardinality(ahead) = 0 THEN b.held[b.started + 1:]
                    ELSE ARRAY(SELECT u FROM unnest(b.held[b.started + 1:]) u WHERE u <> ALL (ahead)) END AS fresh
        FROM pgmill.heartbeats b WHERE b.worker = finish.worker) k
  WHERE h.worker = finish.worker AND NOT h.dead
  RETURNING k.fresh INTO fresh;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'worker % is not registered, or was given up as dead', worker USING ERRCODE = 'PM001';
  END IF;
  PERFORM pgmill.tell(gone || fresh);
  IF cardinality(gone) > 0 THEN
    PERFORM pgmill.wake_limited(gone);
    IF outcomes && '{retry,deferred,returned}' THEN
      PERFORM pgmill.wake_returned(gone);
    END IF;
  END IF;
  RETURN QUERY
    SELECT u, CASE WHEN u = ANY (gone) THEN 'done' WHEN u = ANY (again) THEN 'locked' ELSE 'refused' END
    FROM unnest(ids) u;
END
$$;

-- What somebody has asked of tasks that this worker runs: to end (cancel), to stand still (pause); and whether it is
-- written that it does (frozen). A task that is not in the answer has nothing of all that.
CREATE OR REPLACE FUNCTION pgmill.orders(worker uuid)
RETURNS TABLE (id uuid, claim_no bigint, cancel boolean, pause boolean, frozen boolean)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT t.id, t.claim_no, t.cancel_at IS NOT NULL, t.paused_at IS NOT NULL, t.frozen_at IS NOT NULL
  FROM pgmill.heartbeats h CROSS JOIN LATERAL unnest(h.held) AS u (id)
  CROSS JOIN LATERAL (
    SELECT t.* FROM pgmill.tasks t
    WHERE t.id = u.id AND t.worker = h.worker AND t.state = 'running'
      AND (t.cancel_at IS NOT NULL OR t.paused_at IS NOT NULL OR t.frozen_at IS NOT NULL)
    LIMIT 1) t
  WHERE h.worker = orders.worker;
END
$$;

-- What the worker has done of it; arrays in parallel. state: `frozen`, `thawed`, or `unable`: it cannot let this one
-- stand still, and the wish is taken back. A row that another session holds is left as it is: the worker asks for its
-- orders again.
CREATE OR REPLACE FUNCTION pgmill.obey(worker uuid, ids uuid[], claim_nos bigint[], states text[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
  changed uuid[];
BEGIN
  WITH locked AS MATERIALIZED (
    SELECT t.id, g.state, t.frozen_at IS NOT NULL AS was_frozen
    FROM unnest(ids, claim_nos, states) AS g (id, claim_no, state) JOIN pgmill.tasks t
      ON t.id = g.id AND t.claim_no = g.claim_no AND t.worker = obey.worker AND t.state = 'running'
    ORDER BY t.id
    FOR NO KEY UPDATE OF t SKIP LOCKED
  ), written AS (
    UPDATE pgmill.tasks t
    SET frozen_at = CASE WHEN l.state = 'frozen' THEN coalesce(t.frozen_at, clock_timestamp()) END,
        frozen_seconds = t.frozen_seconds
          + CASE WHEN l.state = 'frozen' OR NOT l.was_frozen THEN 0
                 ELSE extract(epoch FROM clock_timestamp() - t.frozen_at) END,
        paused_at = CASE WHEN l.state <> 'unable' THEN t.paused_at END
    FROM locked l WHERE t.id = l.id
    RETURNING t.id, t.queue, (t.frozen_at IS NOT NULL)::int - l.was_frozen::int AS paused
  ), counted AS (
    INSERT INTO pgmill.tallies (queue, paused) SELECT queue, paused FROM written WHERE paused <> 0
  )
  SELECT coalesce(array_agg(w.id), '{}') INTO changed FROM written w;
  PERFORM pgmill.tell(changed);
END
$$;
