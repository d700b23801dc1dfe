-- SPDX-License-Identifier: MIT
-- Tasks beside the usual way have an index of their own, by which lists find the few of them among millions.

-- What neither is due at once, nor runs, nor completed. It does not change when a task completes, which stays heap-only.
ALTER TABLE pgmill.tasks ADD aside text COLLATE "C" GENERATED ALWAYS AS (
  CASE
    WHEN state = 'failed'    THEN 'FAILED'
    WHEN state = 'cancelled' THEN 'CANCELLED'
    WHEN state <> 'completed' AND frozen_at IS NOT NULL OR state = 'ready' AND paused_at IS NOT NULL THEN 'PAUSED'
    WHEN state = 'ready' AND (started_at IS NOT NULL OR scheduled_at > created_at) THEN 'LATER'
  END) STORED;
CREATE INDEX tasks_aside ON pgmill.tasks (aside, id) WHERE aside IS NOT NULL;

DROP FUNCTION IF EXISTS pgmill.list(text[], text, text, pgmill.priority, text, timestamptz, timestamptz, uuid, int);
