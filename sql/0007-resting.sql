-- SPDX-License-Identifier: MIT
-- Handlers whose programs cannot begin on a worker's host: name and reason.
ALTER TABLE pgmill.workers ADD COLUMN resting jsonb NOT NULL DEFAULT '{}';
DROP FUNCTION IF EXISTS pgmill.serve(uuid, text[]);
