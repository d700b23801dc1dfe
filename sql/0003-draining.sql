-- SPDX-License-Identifier: MIT
-- Workers that end say so, and queues tell tasks that wait for their backoff from those that are scheduled.

ALTER TABLE pgmill.workers ADD draining_at timestamptz;  -- it ends, and takes no new tasks since

DROP FUNCTION IF EXISTS pgmill.due(text, bigint);
DROP FUNCTION IF EXISTS pgmill.queue_states(text);
