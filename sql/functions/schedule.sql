-- SPDX-License-Identifier: MIT
-- Recurring tasks: systemd's timers tell when, on any number of hosts, and this sees to it that each tick counts once.

-- One task for one tick of a schedule; the other parameters as those of pgmill.submit_group. Ticks count upwards: one that
-- is not later than the last one was submitted by another host, or has been overtaken. known: the last one, as whoever
-- asks has seen it (NULL: none), since only the host can tell whether its calendar has a tick in between. verdict:
--   stored   the task exists
--   passed   this tick, or a later one, came before
--   moved    the last tick is another one than is known, and earlier than this: look again
--   taken    an unfinished task has the unique_key: this tick is skipped, and for other hosts it has passed
CREATE OR REPLACE FUNCTION pgmill.submit_tick(
  schedule text, tick timestamptz, known timestamptz, ids uuid[], queues text[], names text[], payloads text[],
  priorities pgmill.priority[], scheduled timestamptz[], tries int[], timeouts float8[], tags text[],
  unique_keys text[], OUT verdict text
)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
  INSERT INTO pgmill.schedules AS s (name, last_tick) VALUES (schedule, tick)
  ON CONFLICT (name) DO UPDATE SET last_tick = excluded.last_tick
    WHERE s.last_tick < excluded.last_tick AND s.last_tick = known;
  IF NOT FOUND THEN
    verdict := CASE WHEN tick <= (SELECT s.last_tick FROM pgmill.schedules s WHERE s.name = schedule) THEN 'passed' ELSE 'moved' END;
    PERFORM pgmill.confirm();
    RETURN;
  END IF;
  BEGIN
    PERFORM pgmill.submit_group(ids, queues, names, payloads, priorities, scheduled, tries, timeouts, tags, unique_keys);
    verdict := 'stored';
  EXCEPTION WHEN unique_violation THEN
    verdict := 'taken';
  END;
END
$$;
