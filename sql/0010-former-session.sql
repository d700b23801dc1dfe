-- SPDX-License-Identifier: MIT
-- A worker whose role is not the owner of the schema ends its former session, and sees when a session began, by itself.

DROP FUNCTION IF EXISTS pgmill.attach(uuid);
DROP FUNCTION IF EXISTS pgmill.register(uuid, text, text, int, text, interval, text[], text[], text);
