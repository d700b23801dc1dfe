-- SPDX-License-Identifier: MIT
-- The claim. Serialised per queue by an advisory lock: no two sessions compete for rows, so the order is exact,
-- limits hold across hosts, and a batch costs one short scan from where the last one stopped.

DO $$
BEGIN
  IF to_regtype('pgmill.claimed') IS NULL THEN
    CREATE TYPE pgmill.claimed AS (id uuid, claim_no bigint, priority pgmill.priority, due_at timestamptz);
  END IF;
END
$$;

-- queue      the line to take from
-- worker     who asks; without a living heartbeat row it gets an error (PM001)
-- names      the tasks it has handlers for; in parallel: their handlers' max_attempts (tries), and how many of each
--            it can take (room)
-- slots      how many at most
-- after_due, after_id   per priority, lowest first: the position to go on from (-infinity: from the start)
-- Commits asynchronously, so that the queue's lock is never held through a flush. A claim is therefore proven
-- only by a later durable commit of the same session (pgmill.finish): nothing may start before that.
CREATE OR REPLACE FUNCTION pgmill.claim(
  queue text, worker uuid, names text[], tries int[], room int[], slots int, after_due timestamptz[], after_id uuid[]
) RETURNS SETOF pgmill.claimed
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_variable
DECLARE
  levels pgmill.priority[] := enum_range(NULL::pgmill.priority);
  clock timestamptz;
  closed boolean;
  max_running int;
  careful boolean;
  alone tid;
  wait boolean;
  places tid[];
  took text[];
  batch pgmill.claimed[];
  got pgmill.claimed[] := '{}';
BEGIN
  -- In the body: a SET clause on the function is undone before the commit.
  PERFORM set_config('synchronous_commit', 'off', true);
  PERFORM pg_advisory_xact_lock(pgmill.lock_class('queue'), hashtext(queue));
  clock := clock_timestamp();  -- read under the lock

  SELECT q.paused, q.max_running INTO closed, max_running FROM pgmill.queues q WHERE q.name = queue;
  IF closed OR pgmill.is_quiet(worker) THEN
    RETURN;
  END IF;
  IF max_running IS NOT NULL THEN
    slots := least(slots, max_running - pgmill.running(queue));
  END IF;
  SELECT a.place, a.wait INTO alone, wait FROM pgmill.apart(worker, queue, names, clock) a;
  IF wait THEN
    RETURN;
  END IF;

  -- The first of each name and priority, merged: what stands in front and cannot run here is not even looked at. Where
  -- a client's open transaction holds one of them, a second look locks as it goes: neither claimed nor waited for. They are
  -- written twice because a locking clause cannot be conditional, and locking every candidate would write to all of them.
  FOREACH careful IN ARRAY '{false,true}'::boolean[] LOOP
    EXIT WHEN slots <= 0;
    IF alone IS NOT NULL THEN
      places := ARRAY[alone];
      alone := NULL;  -- should somebody hold it, the others are looked at
    ELSIF careful THEN
      places := ARRAY(
        SELECT n.place
        FROM (SELECT l.*, row_number() OVER (PARTITION BY l.name ORDER BY l.priority DESC, l.due_at, l.id) AS nth
              FROM unnest(levels, after_due, after_id) AS p (priority, due_at, id)
              CROSS JOIN unnest(names, room) AS n (name, room) CROSS JOIN LATERAL (
                SELECT t.ctid AS place, n.name, n.room, p.priority, t.due_at, t.id FROM pgmill.tasks t
                WHERE t.ready AND t.queue = claim.queue AND t.name = n.name AND t.priority = p.priority
                  AND (t.due_at, t.id) > (p.due_at, p.id) AND t.due_at <= clock AND NOT t.apart
                ORDER BY t.due_at, t.id LIMIT least(n.room, slots)
                FOR NO KEY UPDATE SKIP LOCKED) l) n
        WHERE n.nth <= n.room
        ORDER BY n.priority DESC, n.due_at, n.id LIMIT slots);
    ELSE
      places := ARRAY(
        SELECT n.place
        FROM (SELECT l.*, row_number() OVER (PARTITION BY l.name ORDER BY l.priority DESC, l.due_at, l.id) AS nth
              FROM unnest(levels, after_due, after_id) AS p (priority, due_at, id)
              CROSS JOIN unnest(names, room) AS n (name, room) CROSS JOIN LATERAL (
                SELECT t.ctid AS place, n.name, n.room, p.priority, t.due_at, t.id FROM pgmill.tasks t
                WHERE t.ready AND t.queue = claim.queue AND t.name = n.name AND t.priority = p.priority
                  AND (t.due_at, t.id) > (p.due_at, p.id) AND t.due_at <= clock AND NOT t.apart
                ORDER BY t.due_at, t.id LIMIT least(n.room, slots)) l) n
        WHERE n.nth <= n.room
        ORDER BY n.priority DESC, n.due_at, n.id LIMIT slots);
    END IF;
    EXIT WHEN cardinality(places) = 0;
    WITH pick AS MATERIALIZED (
      SELECT t.ctid AS place FROM pgmill.tasks t WHERE t.ctid = ANY (places) AND t.ready
      FOR NO KEY UPDATE SKIP LOCKED
    ), taken AS (
      UPDATE pgmill.tasks t
      SET state = 'running', ready = false, worker = claim.worker, claim_no = t.claim_no + 1,
          attempt = t.attempt + 1, started_at = clock, progress = NULL, status_text = NULL,
          max_attempts = coalesce(t.max_attempts, tries[array_position(names, t.name::text)])
      FROM pick WHERE t.ctid = pick.place
      RETURNING t.id, t.claim_no, t.priority, t.due_at, t.name
    )
    SELECT coalesce(array_agg((id, claim_no, priority, due_at)::pgmill.claimed ORDER BY priority DESC, due_at, id), '{}'),
           array_agg(name::text)
    INTO batch, took FROM taken;
    got := got || batch;
    EXIT WHEN cardinality(batch) = cardinality(places);
    slots := slots - cardinality(batch);
    room := ARRAY(SELECT u.room - (SELECT count(*) FROM unnest(took) x WHERE x = u.name)
                  FROM unnest(names, room) WITH ORDINALITY AS u (name, room, n) ORDER BY u.n);
  END LOOP;

  IF cardinality(got) > 0 THEN
    UPDATE pgmill.heartbeats h
    SET held = h.held || ARRAY(SELECT u.id FROM unnest(got) u)
    WHERE h.worker = claim.worker AND NOT h.dead;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'worker % is not registered, or was given up as dead', worker USING ERRCODE = 'PM001';
    END IF;
  END IF;
  RETURN QUERY SELECT * FROM unnest(got);
END
$$;

-- Tasks that run alone in their worker, since the last one may have died of them and this attempt is their last. What a claim
-- does about them:
--   place   takes this one, and nothing else
--   wait    takes nothing: such a task runs here; or one is due for a minute, and this worker runs dry for it. Not for one
--           in a queue that is paused or limited, which may have to wait for other workers
CREATE OR REPLACE FUNCTION pgmill.apart(worker uuid, queue text, names text[], clock timestamptz, OUT place tid, OUT wait boolean)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  held uuid[] := (SELECT h.held FROM pgmill.heartbeats h WHERE h.worker = apart.worker);
  first record;
BEGIN
  wait := cardinality(held) = 1
          AND EXISTS (SELECT FROM pgmill.tasks t WHERE t.id = held[1] AND t.worker = apart.worker AND t.state = 'running' AND t.apart);
  IF wait THEN
    RETURN;
  END IF;
  SELECT t.ctid AS place, t.queue, t.due_at INTO first
  FROM pgmill.tasks t
  WHERE t.apart AND t.ready AND t.due_at <= clock AND t.name = ANY (names)
    AND t.queue = ANY ((SELECT w.queues FROM pgmill.workers w WHERE w.id = apart.worker)::text[])
    AND (t.queue = apart.queue
         OR NOT EXISTS (SELECT FROM pgmill.queues q WHERE q.name = t.queue AND (q.paused OR q.max_running IS NOT NULL)))
  ORDER BY t.queue <> apart.queue, t.due_at LIMIT 1
  FOR NO KEY UPDATE SKIP LOCKED;
  IF first.queue = apart.queue AND held = '{}' THEN
    place := first.place;
  ELSE
    wait := coalesce(first.due_at < clock - interval '1 minute', false);
  END IF;
END
$$;

-- How many of a queue's tasks run now, on all hosts. Exact under the queue's lock. The LIMIT makes the join one look-up
-- for each id held: the planner takes the few living workers for many, and would read the history for them.
CREATE OR REPLACE FUNCTION pgmill.running(queue text) RETURNS int
LANGUAGE sql STABLE AS $$
  SELECT count(DISTINCT t.id)::int
  FROM pgmill.heartbeats h CROSS JOIN LATERAL unnest(h.held) AS u (id)
  CROSS JOIN LATERAL (
    SELECT t.id FROM pgmill.tasks t
    WHERE t.id = u.id AND t.worker = h.worker AND t.state = 'running' AND t.queue = running.queue
    LIMIT 1) t
$$;

-- What the worker holds and does not know yet: the rest of a claim's answer, without the queue's lock. A payload of over
-- 64 KiB is NULL: its worker fetches it when the task begins. Of one that is large as it is stored not even that is looked at.
CREATE OR REPLACE FUNCTION pgmill.claimed_tasks(worker uuid, known uuid[])
RETURNS TABLE (id uuid, claim_no bigint, queue text, name text, attempt int, max_attempts int, deferrals int,
               timeout float8, payload text, started boolean)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT t.id, t.claim_no, t.queue::text, t.name::text, t.attempt, t.max_attempts::int, t.deferrals,
         extract(epoch FROM t.timeout)::float8,
         CASE WHEN octet_length(p.text) <= 65536 THEN p.text END, u.n <= h.started
  FROM pgmill.heartbeats h CROSS JOIN LATERAL unnest(h.held) WITH ORDINALITY AS u (id, n)
  JOIN pgmill.tasks t ON t.id = u.id AND t.worker = h.worker AND t.state = 'running'
  CROSS JOIN LATERAL (SELECT CASE WHEN pg_column_size(t.payload) <= 65536 THEN t.payload::text END AS text OFFSET 0) p
  WHERE h.worker = claimed_tasks.worker AND t.id <> ALL (known)
  ORDER BY u.n;
END
$$;

-- Makes the session's cursor pgmill_payload, with the rows (bytes of the payload in hexadecimal, at most 1 MiB of them; bytes
-- of all of it): made once, and fetched as there is room. False: the task is no longer this worker's.
CREATE OR REPLACE FUNCTION pgmill.open_payload(worker uuid, task uuid, claim_no bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM pgmill.close_payload();
  IF pgmill.own_payload(worker, task, claim_no) IS NULL THEN
    RETURN false;
  END IF;
  EXECUTE format($q$
    DECLARE pgmill_payload NO SCROLL CURSOR WITH HOLD FOR
    SELECT encode(substring(p.bytes FROM first FOR 1048576), 'hex'), octet_length(p.bytes)
    FROM (SELECT convert_to(pgmill.own_payload(%L, %L, %L)::text, 'UTF8') AS bytes OFFSET 0) p
    CROSS JOIN generate_series(1, octet_length(p.bytes), 1048576) first$q$, worker, task, claim_no);
  RETURN true;
END
$$;

CREATE OR REPLACE FUNCTION pgmill.close_payload() RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF EXISTS (SELECT FROM pg_cursors c WHERE c.name = 'pgmill_payload') THEN
    EXECUTE 'CLOSE pgmill_payload';
  END IF;
END
$$;
