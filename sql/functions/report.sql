-- SPDX-License-Identifier: MIT
-- What running tasks say of themselves.

-- Of one worker's tasks, fenced like their ends; arrays in parallel, NULL: nothing said. Commits asynchronously, since
-- nothing depends on it. Answers those whose rows another session holds: to be sent again. No indexed column changes.
CREATE OR REPLACE FUNCTION pgmill.report(
  worker uuid, ids uuid[], claim_nos bigint[], progresses real[], texts text[]
) RETURNS TABLE (id uuid, claim_no bigint)
LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  changed uuid[];
BEGIN
  PERFORM set_config('synchronous_commit', 'off', true);
  WITH locked AS MATERIALIZED (
    SELECT t.id, g.progress, g.status_text
    FROM unnest(ids, claim_nos, progresses, texts) AS g (id, claim_no, progress, status_text) JOIN pgmill.tasks t
      ON t.id = g.id AND t.claim_no = g.claim_no AND t.worker = report.worker AND t.state = 'running'
    ORDER BY t.id
    FOR NO KEY UPDATE OF t SKIP LOCKED
  ), written AS (
    UPDATE pgmill.tasks t SET progress = l.progress, status_text = l.status_text
    FROM locked l WHERE t.id = l.id
    RETURNING t.id
  )
  SELECT coalesce(array_agg(w.id), '{}') INTO changed FROM written w;
  PERFORM pgmill.tell(changed);
  IF cardinality(changed) < cardinality(ids) THEN
    RETURN QUERY
      SELECT t.id, t.claim_no FROM unnest(ids, claim_nos) AS g (id, claim_no) JOIN pgmill.tasks t
        ON t.id = g.id AND t.claim_no = g.claim_no AND t.worker = report.worker AND t.state = 'running'
      WHERE t.id <> ALL (changed);
  END IF;
END
$$;
