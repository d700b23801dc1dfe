-- SPDX-License-Identifier: MIT
-- Queues by the page, and those that nobody uses go.

ALTER TABLE pgmill.tallies ADD used_at timestamptz;  -- of the past: the last minute of it

DROP FUNCTION IF EXISTS pgmill.queue_states(text);
DROP FUNCTION IF EXISTS pgmill.show_queues(text);
DROP FUNCTION IF EXISTS pgmill.metrics(text);
