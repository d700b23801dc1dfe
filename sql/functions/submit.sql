-- SPDX-License-Identifier: MIT
-- Submission: one task from SQL, a group from the API, and the call that wakes sleeping workers.

-- Tells as many sleeping workers as there are tasks, picked at random; arrays in parallel, one element a task. It only
-- reads who sleeps. NOTIFY takes a lock for the whole database at commit, so nobody asleep: no NOTIFY.
CREATE OR REPLACE FUNCTION pgmill.wake(queues text[], names text[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
  IF EXISTS (SELECT FROM pgmill.sleepers) THEN
    PERFORM pg_notify('pgmill_' || s.worker, '')
    FROM (SELECT queue, name, count(*) AS n FROM unnest(queues, names) AS u (queue, name) GROUP BY 1, 2) w
    CROSS JOIN LATERAL (
      SELECT worker FROM pgmill.sleepers s
      WHERE s.queue = w.queue AND w.name = ANY (s.names)
      ORDER BY random() LIMIT w.n) s;
  END IF;
END
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
  unique_key text DEFAULT NULL,
  id uuid DEFAULT pgmill.uuid_v7()
) RETURNS uuid
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_variable
DECLARE
  due_at timestamptz := greatest(scheduled_at, clock_timestamp());
BEGIN
  -- Workers and the API read it as text, which is gigabytes for some thousand numbers like 1e131000.
  IF octet_length(payload::text) > 64 * 1024 * 1024 THEN
    RAISE check_violation USING MESSAGE = 'payload is over 64 MiB as text';
  END IF;
  -- Tasks are listed, found by their time and forgotten in the order of their ids.
  IF id::text !~ '^.{14}7.{4}[89ab]' OR id >= pgmill.uuid_floor(clock_timestamp() + interval '1 day') THEN
    RAISE check_violation USING MESSAGE = format('id %s is no UUID of version 7, or was made in the future', id),
      HINT = 'Leave id out, or make it by pgmill.uuid_v7().';
  END IF;
  INSERT INTO pgmill.tasks (id, queue, name, payload, priority, scheduled_at, due_at, max_attempts, timeout, tags,
                            unique_key, unique_held)
  VALUES (id, queue, name, payload, priority, scheduled_at, due_at, max_attempts, timeout, tags,
          unique_key, unique_key IS NOT NULL);
  INSERT INTO pgmill.tallies (queue, submitted) VALUES (queue, 1);
  IF due_at < clock_timestamp() + interval '1 second' THEN
    PERFORM pgmill.wake(ARRAY[queue], ARRAY[name]);
  END IF;
  PERFORM pgmill.tell(ARRAY[id]);
  RETURN id;
END
$$;
COMMENT ON FUNCTION pgmill.submit IS
  'Submits a task in the caller''s transaction and returns its id; scheduled_at in the past means now; '
  'unique_violation while another unfinished task of the queue has the unique_key';

-- What those who submit such tasks should know: which of them no living worker takes now; arrays in parallel.
CREATE OR REPLACE FUNCTION pgmill.warnings(queues text[], names text[]) RETURNS TABLE (queue text, name text, warning text)
LANGUAGE plpgsql STABLE  -- which keeps its plan
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT u.queue, u.name, CASE
    WHEN s.can IS NULL THEN format('No worker serves the queue "%s" now; the task waits for one', u.queue)
    ELSE format('No worker of the queue "%s" has a handler for "%s" now; the task waits for one', u.queue, u.name) END
  FROM (SELECT DISTINCT u.queue, u.name FROM unnest(queues, names) AS u (queue, name)) u
  CROSS JOIN LATERAL (
    SELECT bool_or(u.name = ANY (w.names)) AS can
    FROM pgmill.workers w JOIN pgmill.heartbeats h ON h.worker = w.id AND NOT h.dead
    WHERE u.queue = ANY (w.queues) AND w.quiet_at IS NULL AND w.draining_at IS NULL) s
  WHERE s.can IS NOT TRUE;
END
$$;

-- What an earlier transaction has written may be on this server alone, where that one was cut off before it had waited
-- for a standby: a crash, an ended session. Who acknowledges it by a transaction of its own calls this, since a commit
-- that writes waits for all that was written before it.
CREATE OR REPLACE FUNCTION pgmill.confirm() RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM pg_logical_emit_message(true, 'pgmill', '');
END
$$;

-- Those of the queues that do not exist come into being by their makers; arrays in parallel, and NULL is nobody's.
-- check_violation where a maker would have more of them than mosts allows. Transactions at the same time do not see what
-- the others make.
CREATE OR REPLACE FUNCTION pgmill.make_queues(queues text[], makers text[], mosts int[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
  fresh record;
BEGIN
  FOR fresh IN
    SELECT u.maker, min(u.most) AS most, array_agg(DISTINCT u.queue) AS queues
    FROM (SELECT DISTINCT * FROM unnest(queues, makers, mosts)) AS u (queue, maker, most)
    WHERE u.maker IS NOT NULL
      AND NOT EXISTS (SELECT FROM pgmill.tallies t WHERE t.queue = u.queue AND t.writer IS NOT NULL)
      AND NOT EXISTS (SELECT FROM pgmill.queues q WHERE q.name = u.queue)
      AND NOT EXISTS (SELECT FROM pgmill.workers w JOIN pgmill.heartbeats h ON h.worker = w.id AND NOT h.dead
                      WHERE u.queue = ANY (w.queues))
    GROUP BY u.maker
  LOOP
    IF cardinality(fresh.queues) + (SELECT count(DISTINCT t.queue) FROM pgmill.tallies t WHERE t.maker = fresh.maker)
       > fresh.most THEN
      RAISE check_violation USING CONSTRAINT = 'queue', MESSAGE = format(
        'the queue "%s" does not exist, and %s may bring at most %s into being; use one that exists, delete some that are '
        'not used, or raise QueueNames= in the section [API] of pgmill.conf', fresh.queues[1],
        coalesce('the token "' || nullif(fresh.maker, '') || '"', 'clients without a token'), fresh.most);
    END IF;
    INSERT INTO pgmill.tallies (writer, queue, maker) SELECT pg_backend_pid(), q, fresh.maker FROM unnest(fresh.queues) q
    ON CONFLICT (writer, minute, queue) DO NOTHING;
  END LOOP;
END
$$;

-- A group from the API; arrays in parallel, tags as array literals. makers and mosts: of pgmill.make_queues, NULL for none. The ids come from the API, so that a group
-- whose answer was lost can be sent again: rows that are there already are left alone, and waited for.
CREATE OR REPLACE FUNCTION pgmill.submit_group(
  ids uuid[], queues text[], names text[], payloads text[], priorities pgmill.priority[],
  scheduled timestamptz[], tries int[], timeouts float8[], tags text[], unique_keys text[],
  makers text[] DEFAULT NULL, mosts int[] DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan  -- else each group is planned anew, for its number of rows
AS $$
#variable_conflict use_column
DECLARE
  fresh uuid[];
BEGIN
  IF makers IS NOT NULL THEN
    PERFORM pgmill.make_queues(queues, makers, mosts);
  END IF;
  WITH stored AS (
    INSERT INTO pgmill.tasks (id, queue, name, payload, priority, scheduled_at, due_at, max_attempts, timeout, tags,
                              unique_key, unique_held)
    SELECT id, queue, name, payload::jsonb, priority, scheduled_at,
           greatest(scheduled_at, clock_timestamp()), max_attempts, make_interval(secs => timeout), tags::text[],
           unique_key, unique_key IS NOT NULL
    FROM unnest(ids, queues, names, payloads, priorities, scheduled, tries, timeouts, tags, unique_keys)
      AS u (id, queue, name, payload, priority, scheduled_at, max_attempts, timeout, tags, unique_key)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, queue
  ), counted AS (
    INSERT INTO pgmill.tallies AS t (writer, queue, submitted)
    SELECT pg_backend_pid(), queue, count(*) FROM stored GROUP BY queue ORDER BY queue
    ON CONFLICT (writer, minute, queue) DO UPDATE SET submitted = t.submitted + excluded.submitted
  )
  SELECT coalesce(array_agg(s.id), '{}') INTO fresh FROM stored s;
  PERFORM pgmill.tell(fresh);
  IF cardinality(fresh) < cardinality(ids) THEN
    PERFORM pgmill.confirm();
  END IF;
END
$$;

-- Raises what a submission with a payload of so many bytes would meet now.
CREATE OR REPLACE FUNCTION pgmill.rehearse(bytes int) RETURNS void
LANGUAGE plpgsql VOLATILE SET lock_timeout = '500ms' AS $$
DECLARE
  noise constant text := (SELECT coalesce(string_agg(md5(random()::text), ''), '') FROM generate_series(1, bytes / 32));
BEGIN
  BEGIN
    PERFORM pgmill.submit_group(ARRAY[pgmill.uuid_v7()], '{default}', '{rehearsal}', ARRAY[to_json(noise)::text],
                                '{MEDIUM}', '{NULL}', '{NULL}', '{NULL}', '{"{}"}', '{NULL}');
    RAISE SQLSTATE 'PM002';
  EXCEPTION WHEN SQLSTATE 'PM002' THEN
    NULL;  -- taken back
  END;
  PERFORM pgmill.confirm();
END
$$;

-- One task that has a unique_key, or any number under an idempotency key (NULL: none): all or nothing. request: the
-- SHA-256 of what the client sent. Whoever comes second waits half a second (pgmill.be_patient) for the first one's transaction,
-- then lock_not_available (55P03). Sent again with the same ids it changes nothing. verdict:
--   stored   they exist; ids as given
--   same     the same request came before under this key; ids are those of its tasks
--   other    another request came before under this key
--   taken    unfinished tasks have the unique_keys of those at places (from 0): holder, of the first,
--            NULL if it is one of these
-- skip: instead of that all others are stored, and in stored the holders stand for those at places.
CREATE OR REPLACE FUNCTION pgmill.submit_keyed(
  scope text, key text, request bytea, ids uuid[], queues text[], names text[], payloads text[],
  priorities pgmill.priority[], scheduled timestamptz[], tries int[], timeouts float8[], tags text[],
  unique_keys text[], skip boolean DEFAULT false, makers text[] DEFAULT NULL, mosts int[] DEFAULT NULL, OUT verdict text, OUT stored uuid[], OUT holder uuid, OUT places int[]
)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  holders uuid[];
  g record;
BEGIN
  PERFORM pgmill.be_patient();
  stored := ids;
  IF submit_keyed.key IS NOT NULL THEN
    INSERT INTO pgmill.idempotency AS i (scope, key, request, tasks, expires_at)
    VALUES (submit_keyed.scope, submit_keyed.key, submit_keyed.request, ids, clock_timestamp() + interval '24 hours')
    ON CONFLICT (scope, key) DO UPDATE
      SET request = excluded.request, tasks = excluded.tasks, skipped = '{}', expires_at = excluded.expires_at
      WHERE i.expires_at <= clock_timestamp();
    IF NOT FOUND THEN
      SELECT CASE WHEN i.request <> submit_keyed.request THEN 'other' WHEN i.tasks <> ids THEN 'same' END, i.tasks, i.skipped
      INTO verdict, stored, places
      FROM pgmill.idempotency i WHERE i.scope = submit_keyed.scope AND i.key = submit_keyed.key;
      IF verdict IS NOT NULL THEN
        PERFORM pgmill.confirm();
        RETURN;
      END IF;
    END IF;
  END IF;

  FOR round IN 1..10 LOOP  -- again where another was quicker between the look and the writing
    SELECT coalesce(array_agg((k.n - 1)::int ORDER BY k.n), '{}'), array_agg(k.holder ORDER BY k.n) INTO places, holders
    FROM (SELECT u.n, u.id, coalesce(t.id, first_value(u.id) OVER (PARTITION BY u.queue, u.unique_key ORDER BY u.n)) AS holder
          FROM unnest(ids, queues, unique_keys) WITH ORDINALITY AS u (id, queue, unique_key, n) LEFT JOIN LATERAL (
            SELECT t.id FROM pgmill.tasks t
            WHERE t.queue = u.queue AND t.unique_key = u.unique_key AND t.unique_held LIMIT 1) t ON true
          WHERE u.unique_key IS NOT NULL) k
    WHERE k.holder <> k.id;
    EXIT WHEN places <> '{}' AND NOT skip;
    BEGIN
      SELECT coalesce(array_agg(u.id), '{}') AS ids, array_agg(u.queue) AS queues, array_agg(u.name) AS names,
             array_agg(u.payload) AS payloads, array_agg(u.priority) AS priorities, array_agg(u.scheduled) AS scheduled,
             array_agg(u.tries) AS tries, array_agg(u.timeout) AS timeouts, array_agg(u.tags) AS tags,
             array_agg(u.unique_key) AS unique_keys, array_agg(u.maker) AS makers, array_agg(u.most) AS mosts
      INTO g
      FROM unnest(ids, queues, names, payloads, priorities, scheduled, tries, timeouts, tags, unique_keys, makers, mosts)
        WITH ORDINALITY AS u (id, queue, name, payload, priority, scheduled, tries, timeout, tags, unique_key, maker, most, n)
      WHERE u.n - 1 <> ALL (places);
      PERFORM pgmill.submit_group(g.ids, g.queues, g.names, g.payloads, g.priorities, g.scheduled, g.tries, g.timeouts,
                                  g.tags, g.unique_keys, g.makers, g.mosts);
      verdict := 'stored';
      EXIT;
    EXCEPTION WHEN unique_violation THEN
      NULL;
    END;
  END LOOP;
  IF verdict IS NULL THEN
    verdict := 'taken';
    stored := '{}';
    holder := (SELECT u.h FROM unnest(holders) WITH ORDINALITY AS u (h, n) WHERE u.h <> ALL (ids) ORDER BY u.n LIMIT 1);
    DELETE FROM pgmill.idempotency i WHERE i.scope = submit_keyed.scope AND i.key = submit_keyed.key;
  ELSIF places <> '{}' THEN
    FOR n IN 1..cardinality(places) LOOP
      stored[places[n] + 1] := holders[n];
    END LOOP;
    UPDATE pgmill.idempotency i SET tasks = stored, skipped = places
    WHERE i.scope = submit_keyed.scope AND i.key = submit_keyed.key;
    PERFORM pgmill.confirm();
  END IF;
END
$$;
