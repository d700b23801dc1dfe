-- SPDX-License-Identifier: MIT
-- Telling those who watch. NOTIFY takes a lock for the whole database at commit, so nobody watches: no NOTIFY.

-- Tells of the present state of these tasks. A transition calls it once, with all that it changed, in its own transaction
-- and while that holds their rows: so what is told of a task is told in the order of the commits, and never late.
CREATE OR REPLACE FUNCTION pgmill.tell(ids uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF EXISTS (SELECT FROM pgmill.watchers w WHERE w.until > clock_timestamp()) THEN
    PERFORM pgmill.notify_events(ids);
  END IF;
END
$$;

CREATE OR REPLACE FUNCTION pgmill.notify_events(ids uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET jit = off  -- a plan made while there are few tasks is kept when there are many
AS $$
DECLARE
  size constant int := 7900;  -- a payload is at most 7,999 bytes
  part text := '';
  event text;
BEGIN
  FOR event IN
    SELECT json_strip_nulls(json_build_object('id', t.id, 'queue', t.queue, 'name', t.name, 'status', t.status,
                                              'progress', t.progress, 'status_text', t.status_text,
                                              'at', pgmill.rfc3339(clock_timestamp())))::text
    FROM pgmill.task t WHERE t.id = ANY (ids) ORDER BY t.id
  LOOP
    IF part <> '' AND octet_length(part) + octet_length(event) + 2 > size THEN
      PERFORM pg_notify('pgmill_events', '[' || part || ']');
      part := '';
    END IF;
    part := part || CASE WHEN part = '' THEN '' ELSE ',' END || event;
  END LOOP;
  IF part <> '' THEN
    PERFORM pg_notify('pgmill_events', '[' || part || ']');
  END IF;
END
$$;

-- This session is told from its commit on, for as long as the lease is renewed.
CREATE OR REPLACE FUNCTION pgmill.watch(watcher uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  LISTEN pgmill_events;
  INSERT INTO pgmill.watchers AS w (watcher, until) VALUES (watch.watcher, clock_timestamp() + interval '15 seconds')
  ON CONFLICT ON CONSTRAINT watchers_pkey DO UPDATE SET until = excluded.until;
  RETURN true;
END
$$;

-- False: the lease had run out, and changes may have been missed.
CREATE OR REPLACE FUNCTION pgmill.watch_on(watcher uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  alive boolean := EXISTS (SELECT FROM pgmill.watchers w
                           WHERE w.watcher = watch_on.watcher AND w.until > clock_timestamp());
BEGIN
  PERFORM pgmill.watch(watcher);
  RETURN alive;
END
$$;

CREATE OR REPLACE FUNCTION pgmill.watch_end(watcher uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  UNLISTEN pgmill_events;
  DELETE FROM pgmill.watchers w WHERE w.watcher = watch_end.watcher;
  RETURN FOUND;
END
$$;
