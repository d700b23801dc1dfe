-- SPDX-License-Identifier: MIT
-- A task whose work was done is completed, whatever its program wrote; what could not be kept of that is told here.
ALTER TABLE pgmill.tasks ADD COLUMN result_note text;
