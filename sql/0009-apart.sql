-- SPDX-License-Identifier: MIT
-- Whose worker died under it does not stand beside others in its last attempt.

ALTER TABLE pgmill.tasks ADD apart boolean NOT NULL DEFAULT false;  -- its next attempt runs alone in its worker
CREATE INDEX tasks_apart ON pgmill.tasks (queue, due_at) WHERE apart AND ready;

DROP FUNCTION IF EXISTS pgmill.payload_part(uuid, uuid, bigint, int, int);
