-- SPDX-License-Identifier: MIT
-- What wakes workers no longer tells those who watch: the transaction that stores a task does.

DROP FUNCTION IF EXISTS pgmill.wake(text[], text[], uuid[]);
