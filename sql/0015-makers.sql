-- SPDX-License-Identifier: MIT
-- Who brought a queue into being, where a client of the API did.

ALTER TABLE pgmill.tallies ADD maker text;  -- the client whose submission was the queue's first; '': it has no token
CREATE INDEX tallies_queue ON pgmill.tallies (queue) WHERE writer IS NOT NULL;
CREATE INDEX tallies_maker ON pgmill.tallies (maker, queue) WHERE maker IS NOT NULL;
DROP FUNCTION IF EXISTS pgmill.submit_group(
  uuid[], text[], text[], text[], pgmill.priority[], timestamptz[], int[], float8[], text[], text[]);
DROP FUNCTION IF EXISTS pgmill.submit_keyed(
  text, text, bytea, uuid[], text[], text[], text[], pgmill.priority[], timestamptz[], int[], float8[], text[], text[],
  boolean);
