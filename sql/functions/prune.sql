-- SPDX-License-Identifier: MIT
-- Retention: tasks that ended long ago are forgotten, and with them the rows of workers that are no more.

-- Looks at `size` tasks, oldest id first, from the one behind `after` on (NULL: from the oldest), and forgets those that
-- ended longer ago than their kind is kept; NULL: kept for ever. Nothing that ended within the hour is ever forgotten,
-- since a submission whose answer was lost may be on its way again. One call is one short transaction, and what somebody
-- holds is left for the next round. next: `after` of the next call, NULL when this round is over. An id carries the
-- time it was made, before which its task cannot have ended, so the young part of the table is not looked at.
CREATE OR REPLACE FUNCTION pgmill.prune(
  completed interval, cancelled interval, failed interval, after uuid, size int, OUT next uuid, OUT gone bigint
)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off  -- along the primary key
AS $$
#variable_conflict use_variable
DECLARE
  clock constant timestamptz := clock_timestamp();
  kept constant interval[] := ARRAY[completed, cancelled, failed];
  bound constant timestamptz := clock - greatest((SELECT min(k) FROM unnest(kept) k), interval '1 hour');
  newest constant uuid := (lpad(to_hex((extract(epoch FROM bound) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid;
  first constant uuid := coalesce(after, '00000000-0000-0000-0000-000000000000');
  last uuid;
  seen bigint;
BEGIN
  gone := 0;
  IF num_nonnulls(VARIADIC kept) = 0 THEN
    RETURN;
  END IF;
  SELECT count(*), (array_agg(s.id ORDER BY s.id DESC))[1] INTO seen, last
  FROM (SELECT t.id FROM pgmill.tasks t WHERE t.id > first AND t.id < newest ORDER BY t.id LIMIT size) s;
  DELETE FROM pgmill.tasks WHERE tasks.id = ANY (ARRAY(
    SELECT t.id FROM pgmill.tasks t
    WHERE t.id > first AND t.id <= last AND t.finished_at < clock - interval '1 hour'
      AND t.finished_at < clock - CASE t.state WHEN 'completed' THEN completed WHEN 'cancelled' THEN cancelled
                                               WHEN 'failed' THEN failed END
    ORDER BY t.id FOR UPDATE SKIP LOCKED));
  GET DIAGNOSTICS gone = ROW_COUNT;
  IF seen = size THEN
    next := last;
  ELSE
    DELETE FROM pgmill.workers w WHERE w.ended_at < bound;
  END IF;
END
$$;
