-- SPDX-License-Identifier: MIT
-- pgmill.finish is told which tasks wait for a slot, so that they are not blamed for the end of their worker.

DROP FUNCTION IF EXISTS pgmill.finish(uuid, uuid[], bigint[], text[], text[], text[], float8[], bigint[], bigint[]);
