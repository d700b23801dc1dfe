-- SPDX-License-Identifier: MIT
-- Tasks of Mode=sql: the handler's statement and the completion of its task are one transaction, so that the effects
-- happen exactly once. A run that was given up may still be at work beside its successor, but it cannot commit.
-- Errors: PM002 the task is no longer this worker's.

-- The payload of the task, if it is this run that has it; else NULL. Looked at without a lock, so that others can cancel the
-- task while it runs.
CREATE OR REPLACE FUNCTION pgmill.own_payload(worker uuid, task uuid, claim_no bigint) RETURNS jsonb
LANGUAGE sql STABLE AS $$
  SELECT t.payload FROM pgmill.tasks t
  WHERE t.id = own_payload.task AND t.claim_no = own_payload.claim_no AND t.worker = own_payload.worker
    AND t.state = 'running'
$$;

-- Completes the task in the caller's transaction, or fails it. answer: the one row of the statement as an object.
-- With the rights of its owner: the statement's role needs none on pgmill's tables.
CREATE OR REPLACE FUNCTION pgmill.complete(worker uuid, task uuid, claim_no bigint, answer jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s'
SET enable_seqscan = off SET jit = off  -- look-ups: a plan made while there are few tasks is kept when there are many
AS $$
DECLARE
  result text;
BEGIN
  SELECT v.value::text INTO STRICT result FROM jsonb_each(answer) v;
  IF octet_length(result) > 1024 * 1024 THEN
    RAISE EXCEPTION 'result refused: it is over % bytes', 1024 * 1024 USING ERRCODE = 'program_limit_exceeded';
  END IF;
  PERFORM FROM pgmill.tasks t WHERE t.id = complete.task FOR NO KEY UPDATE;  -- waits; end_runs() would pass it by
  IF (SELECT e.verdict FROM pgmill.end_runs(worker, ARRAY[task], ARRAY[claim_no], '{completed}', ARRAY[result],
                                            '{NULL}', '{NULL}') e) <> 'done' THEN
    RAISE EXCEPTION 'the task is no longer this worker''s' USING ERRCODE = 'PM002';
  END IF;
  PERFORM pgmill.tell(ARRAY[task]);
EXCEPTION WHEN too_many_rows OR no_data_found THEN
  RAISE EXCEPTION 'the statement must answer with one column' USING ERRCODE = 'cardinality_violation';
END
$$;

-- statement: $1 is the payload, $2 the task's id; it answers with one row of one column. role: NULL for the session's. All
-- is qualified: the statement finds names by the search path of its session, which others may have set.
CREATE OR REPLACE FUNCTION pgmill.perform(
  worker uuid, task uuid, claim_no bigint, statement text, role text
) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  payload jsonb := pgmill.own_payload(worker, task, claim_no);
  answer record;
BEGIN
  IF payload IS NULL THEN
    RAISE EXCEPTION 'the task is no longer this worker''s' USING ERRCODE = 'PM002';
  END IF;
  IF role IS NOT NULL THEN
    PERFORM pg_catalog.set_config('role', role, true);
  END IF;
  EXECUTE statement INTO STRICT answer USING payload, task;
  PERFORM pg_catalog.set_config('role', 'none', true);
  PERFORM pgmill.complete(worker, task, claim_no, pg_catalog.to_jsonb(answer));
END
$$;
