-- SPDX-License-Identifier: MIT
-- Bulks that leave out what is there already.

ALTER TABLE pgmill.idempotency ADD skipped int[] NOT NULL DEFAULT '{}';  -- places of tasks that were there, from 0
DROP FUNCTION IF EXISTS pgmill.submit_keyed(
  text, text, bytea, uuid[], text[], text[], text[], pgmill.priority[], timestamptz[], int[], float8[], text[], text[]);
