-- SPDX-License-Identifier: MIT
-- A task of Mode=sql reads its payload where it is.

DROP FUNCTION IF EXISTS pgmill.is_own(uuid, uuid, bigint);
DROP FUNCTION IF EXISTS pgmill.perform(uuid, uuid, bigint, text, text, jsonb);
