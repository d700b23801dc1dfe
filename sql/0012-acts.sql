-- SPDX-License-Identifier: MIT
-- What was done to tasks at a request that may be sent again: see pgmill.steer.

CREATE TABLE pgmill.acts (
  id      uuid PRIMARY KEY,                     -- the request's own
  at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  verdict text                                  -- what it was answered
) WITH (fillfactor = 50);
CREATE INDEX acts_at ON pgmill.acts (at);
