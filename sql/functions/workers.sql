-- SPDX-License-Identifier: MIT
-- The life of a worker process: register, attach again after a lost session, sleep, leave; and its rescue.

-- When this session began. Only its own role, and not the owner of the schema, can see that: a default, which the caller works out.
CREATE OR REPLACE FUNCTION pgmill.session_start() RETURNS timestamptz
LANGUAGE sql STABLE AS $$
  SELECT a.backend_start FROM pg_stat_activity a WHERE a.pid = pg_backend_pid()
$$;

-- Takes the session advisory lock that says "alive" and writes the heartbeat row.
CREATE OR REPLACE FUNCTION pgmill.register(
  worker uuid, instance text, host text, pid int, version text, grace interval, queues text[], names text[],
  identity text DEFAULT NULL, session_start timestamptz DEFAULT pgmill.session_start()
) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  key int;
BEGIN
  INSERT INTO pgmill.workers (id, instance, host, pid, version, grace, queues, names, identity)
  VALUES (worker, instance, host, pid, version, grace, queues, names, identity)
  RETURNING lock_key INTO key;
  INSERT INTO pgmill.heartbeats (worker) VALUES (worker);
  PERFORM pgmill.attach(worker, session_start);
END
$$;

-- Rescue at once, without the grace period: of workers with this worker's identity, whose lock is free. Only a worker
-- that has seen that nothing of them is left may call it (src/worker/takeover.c). waiting: how many are not done with,
-- because the server has not noticed the end of their session, or somebody holds a task.
CREATE OR REPLACE FUNCTION pgmill.take_over(worker uuid, OUT moved int, OUT waiting int)
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  former pgmill.workers;
BEGIN
  moved := 0;
  waiting := 0;
  FOR former IN
    SELECT f.* FROM pgmill.heartbeats h JOIN pgmill.workers f ON f.id = h.worker
    WHERE f.id <> take_over.worker
      AND f.identity = (SELECT w.identity FROM pgmill.workers w WHERE w.id = take_over.worker)
    ORDER BY f.id
  LOOP
    IF pg_try_advisory_xact_lock(pgmill.lock_class('worker'), former.lock_key) THEN
      UPDATE pgmill.heartbeats h SET dead = true WHERE h.worker = former.id AND NOT h.dead;
      moved := moved + pgmill.rescue(former.id);
    END IF;
    waiting := waiting + (SELECT count(*) FROM pgmill.heartbeats h WHERE h.worker = former.id);
  END LOOP;
END
$$;

-- Ends the worker's former session, which may not have noticed that its client is gone: with the rights of the caller, who
-- has the same role.
CREATE OR REPLACE FUNCTION pgmill.end_former(worker uuid) RETURNS boolean
LANGUAGE sql VOLATILE AS $$
  SELECT coalesce(every(pg_terminate_backend(a.pid)), true)
  FROM pgmill.workers w JOIN pg_stat_activity a ON a.pid = w.backend_pid AND a.backend_start = w.backend_start
  WHERE w.id = end_former.worker AND a.pid <> pg_backend_pid()
$$;

-- This session is now the worker's; pgmill.end_former comes before. Answers
-- whether the worker is still one: false means it was given up, and must end its tasks and register anew.
CREATE OR REPLACE FUNCTION pgmill.attach(worker uuid, session_start timestamptz DEFAULT pgmill.session_start())
RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  w pgmill.workers;
BEGIN
  SELECT * INTO w FROM pgmill.workers WHERE id = attach.worker;
  IF w.id IS NULL OR w.ended_at IS NOT NULL THEN
    RETURN false;
  END IF;
  PERFORM set_config('lock_timeout', '5s', true);
  PERFORM pg_advisory_lock(pgmill.lock_class('worker'), w.lock_key);
  -- After the lock: a rescuer decides while it holds it, and one that has waited begins anew.
  UPDATE pgmill.heartbeats h SET beat = h.beat + 1 WHERE h.worker = attach.worker AND NOT h.dead;
  IF NOT FOUND THEN
    PERFORM pg_advisory_unlock(pgmill.lock_class('worker'), w.lock_key);
    RETURN false;
  END IF;
  UPDATE pgmill.workers SET backend_pid = pg_backend_pid(), backend_start = session_start WHERE id = attach.worker;
  -- A worker looks up ids. A plan made while there are few tasks is kept when there are many.
  PERFORM set_config(setting, 'off', false)
  FROM unnest('{enable_seqscan,enable_hashjoin,enable_mergejoin,jit}'::text[]) setting;
  PERFORM set_config('plan_cache_mode', 'force_generic_plan', false);  -- planning takes longer than running
  RETURN true;
END
$$;

-- A sign of life that needs no task, for when those cannot be reached: a table that somebody has locked. True: this
-- worker's programs may go on; what it has claimed since is not proven. Where the server has not even room for the lock
-- of a transaction that writes, its answer alone is the sign: it still has this session, which holds the worker's lock
-- and has changed the beat. That is no sign where a standby may have taken over.
CREATE OR REPLACE FUNCTION pgmill.beat(worker uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  UPDATE pgmill.heartbeats h SET beat = h.beat + 1, at = clock_timestamp() WHERE h.worker = beat.worker AND NOT h.dead;
  RETURN FOUND;
EXCEPTION WHEN insufficient_resources THEN
  RETURN current_setting('synchronous_standby_names') = ''
     AND EXISTS (SELECT FROM pgmill.heartbeats h WHERE h.worker = beat.worker AND NOT h.dead);
END
$$;

-- A clean end: nothing of it runs any more. Answers false, and changes nothing, while a task is still its own.
CREATE OR REPLACE FUNCTION pgmill.leave(worker uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF EXISTS (SELECT FROM pgmill.claimed_tasks(leave.worker, '{}')) THEN
    RETURN false;
  END IF;
  DELETE FROM pgmill.sleepers s WHERE s.worker = leave.worker;
  DELETE FROM pgmill.heartbeats h WHERE h.worker = leave.worker;
  UPDATE pgmill.workers SET ended_at = clock_timestamp() WHERE id = leave.worker;
  PERFORM pg_advisory_unlock(pgmill.lock_class('worker'), w.lock_key)
  FROM pgmill.workers w WHERE w.id = leave.worker;
  RETURN true;
END
$$;

-- The worker has read its handler files again: these are the names it takes now. It says anew when it sleeps. resting: those
-- of them whose programs cannot begin there, with the reasons in parallel; it tries them again by itself.
CREATE OR REPLACE FUNCTION pgmill.serve(worker uuid, names text[], resting text[], reasons text[]) RETURNS void
LANGUAGE sql VOLATILE AS $$
  UPDATE pgmill.workers w SET names = serve.names, resting = jsonb_object(serve.resting, reasons) WHERE w.id = serve.worker
$$;

-- It ends: from now on it only finishes what it has, and what it gives back is for others to be told of.
CREATE OR REPLACE FUNCTION pgmill.drain(worker uuid) RETURNS void
LANGUAGE sql VOLATILE AS $$
  UPDATE pgmill.workers w SET draining_at = clock_timestamp() WHERE w.id = drain.worker AND w.draining_at IS NULL;
  DELETE FROM pgmill.sleepers s WHERE s.worker = drain.worker
$$;

-- A quiet worker, or one that drains, finishes what it has and takes nothing new.
CREATE OR REPLACE FUNCTION pgmill.is_quiet(worker uuid) RETURNS boolean
LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT FROM pgmill.workers w WHERE w.id = is_quiet.worker
                  AND (w.quiet_at IS NOT NULL OR w.draining_at IS NOT NULL))
$$;

-- Says that the worker sleeps; the caller claims once more before it does. Answers seconds until the next task
-- of its queues and names is due, NULL when none is known.
CREATE OR REPLACE FUNCTION pgmill.sleep(worker uuid, queues text[], names text[]) RETURNS float8
LANGUAGE sql VOLATILE AS $$
  INSERT INTO pgmill.sleepers (worker, queue, names) SELECT sleep.worker, q, sleep.names FROM unnest(queues) q
  WHERE NOT pgmill.is_quiet(sleep.worker)
  ON CONFLICT (queue, worker) DO UPDATE SET names = excluded.names;
  SELECT extract(epoch FROM min(l.due_at) - clock_timestamp())::float8
  FROM unnest(queues) q CROSS JOIN unnest(sleep.names) n CROSS JOIN unnest(enum_range(NULL::pgmill.priority)) p
  CROSS JOIN LATERAL (
    SELECT t.due_at FROM pgmill.tasks t
    WHERE t.ready AND t.queue = q AND t.name = n AND t.priority = p AND t.due_at > now()
    ORDER BY t.due_at, t.id LIMIT 1) l
$$;

CREATE OR REPLACE FUNCTION pgmill.awake(worker uuid) RETURNS void
LANGUAGE sql VOLATILE AS $$
  DELETE FROM pgmill.sleepers s WHERE s.worker = awake.worker
$$;

-- Rescue, first half: workers whose session lock is free. A rescuer that has seen the same beat for the whole
-- grace period, on its own clock and within one session, calls pgmill.give_up. dead: somebody did already.
CREATE OR REPLACE FUNCTION pgmill.suspects()
RETURNS TABLE (worker uuid, instance text, beat bigint, grace float8, dead boolean)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT h.worker, w.instance, h.beat, extract(epoch FROM w.grace)::float8, h.dead
  FROM pgmill.heartbeats h JOIN pgmill.workers w ON w.id = h.worker
  WHERE h.dead OR NOT EXISTS (
    SELECT FROM pg_locks l
    WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = pgmill.lock_class('worker')::oid
      AND l.objid = w.lock_key::oid
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()));
END
$$;

-- Rescue, second half. Writes the tombstone if the lock is free and the beat still the same, both looked at
-- again while holding the lock. False: it lives.
CREATE OR REPLACE FUNCTION pgmill.give_up(worker uuid, beat bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF NOT (SELECT pg_try_advisory_xact_lock(pgmill.lock_class('worker'), w.lock_key)
          FROM pgmill.workers w WHERE w.id = give_up.worker) THEN
    RETURN false;
  END IF;
  UPDATE pgmill.heartbeats h SET dead = true WHERE h.worker = give_up.worker AND h.beat = give_up.beat AND NOT h.dead;
  RETURN FOUND;
END
$$;

-- Gives a dead worker's tasks back: those that may have begun are blamed, the others are not. One of them may be what the
-- worker died of, so whichever has one attempt left spends that alone (pgmill.apart). Answers how many it moved; a row that somebody holds stays for the next call. The worker's row ends with its last task.
CREATE OR REPLACE FUNCTION pgmill.rescue(worker uuid) RETURNS int
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  moved uuid[];
  left_over int := 0;
  why text;
BEGIN
  PERFORM FROM pgmill.heartbeats h WHERE h.worker = rescue.worker AND h.dead FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN 0;  -- alive, done, or another rescuer is at it
  END IF;
  SELECT jsonb_build_object('error', format('worker %s was lost while the task ran', w.instance))::text
  INTO why FROM pgmill.workers w WHERE w.id = rescue.worker;

  SELECT coalesce(array_agg(e.id) FILTER (WHERE e.verdict = 'done'), '{}'), count(*) FILTER (WHERE e.verdict = 'locked')
  INTO moved, left_over
  FROM (SELECT array_agg(c.id) AS ids, array_agg(c.claim_no) AS claim_nos,
               array_agg(CASE WHEN c.started THEN 'lost' ELSE 'returned' END) AS outcomes,
               array_agg(CASE WHEN c.started THEN why END) AS errors,
               array_agg(CASE WHEN c.started THEN 0::float8 END) AS delays, array_agg(NULL::text) AS results
        FROM pgmill.claimed_tasks(rescue.worker, '{}') c) g
  CROSS JOIN LATERAL pgmill.end_runs(rescue.worker, g.ids, g.claim_nos, g.outcomes,
                                     g.results, g.errors, g.delays) e;
  INSERT INTO pgmill.tallies (queue, rescued)
  SELECT (SELECT t.queue FROM pgmill.tasks t WHERE t.id = u), count(*) FROM unnest(moved) u GROUP BY 1;
  PERFORM pgmill.tell(moved);
  DELETE FROM pgmill.sleepers s WHERE s.worker = rescue.worker;  -- a call to it would be lost
  PERFORM pgmill.wake_returned(moved);
  IF left_over = 0 THEN
    DELETE FROM pgmill.heartbeats h WHERE h.worker = rescue.worker;
    UPDATE pgmill.workers SET ended_at = clock_timestamp() WHERE id = rescue.worker;
  END IF;
  RETURN cardinality(moved);
END
$$;

-- May a worker of these queues end, since nobody needs it? Not while they hold a task that waits, however long it will, or
-- that runs anywhere; nor while a worker is dead whose tasks have yet to go back. A paused task that is resumed calls
-- a worker anew, as a new one does.
CREATE OR REPLACE FUNCTION pgmill.is_idle(queues text[]) RETURNS boolean
LANGUAGE sql STABLE AS $$
  SELECT NOT EXISTS (SELECT FROM unnest(queues) AS q (name)
                     CROSS JOIN LATERAL (SELECT FROM pgmill.tasks t WHERE t.ready AND t.queue = q.name LIMIT 1) t)
     AND NOT EXISTS (SELECT FROM pgmill.heartbeats h CROSS JOIN LATERAL unnest(h.held) AS u (id)
                     CROSS JOIN LATERAL (SELECT FROM pgmill.tasks t
                                         WHERE t.id = u.id AND t.state = 'running' AND t.queue = ANY (queues) LIMIT 1) t)
     AND NOT EXISTS (SELECT FROM pgmill.suspects())
$$;

-- This session is told of the worker's new tasks. A function, because LISTEN takes no parameter.
CREATE OR REPLACE FUNCTION pgmill.listen(worker uuid) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  EXECUTE format('LISTEN %I', 'pgmill_' || worker);
END
$$;
