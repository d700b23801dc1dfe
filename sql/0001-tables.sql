-- SPDX-License-Identifier: MIT
-- The tables. What a column means stands beside it; the functions that may change it are in functions/.
-- Nothing here names a state in an index: the completing UPDATE of a task without a unique_key changes no indexed
-- column, so it is a heap-only update and leaves no dead index entry behind.

CREATE TYPE pgmill.priority AS ENUM ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL');
CREATE TYPE pgmill.state AS ENUM ('ready', 'running', 'completed', 'cancelled', 'failed');

-- Domains and not constraints of the table: their errors name the field and what it takes ("value for domain
-- pgmill.max_attempts violates check constraint "1 to 1000""), and no update of other columns pays for them.
CREATE DOMAIN pgmill.label AS text COLLATE "C"
  CONSTRAINT "1 to 100 of A-Z a-z 0-9 _ . - and neither . nor - first"
  CHECK (octet_length(VALUE) BETWEEN 1 AND 100 AND VALUE !~ '^[.-]|[^A-Za-z0-9_.-]');
CREATE DOMAIN pgmill.name AS pgmill.label;
CREATE DOMAIN pgmill.queue AS pgmill.label;
CREATE DOMAIN pgmill.scheduled_at AS timestamptz
  CONSTRAINT "years 1970 to 9999" CHECK (VALUE >= '1970-01-01 00:00:00+00' AND VALUE < '10000-01-01 00:00:00+00');
CREATE DOMAIN pgmill.max_attempts AS int CONSTRAINT "1 to 1000" CHECK (VALUE BETWEEN 1 AND 1000);
CREATE DOMAIN pgmill.timeout AS interval
  CONSTRAINT "more than 0, at most 366 days" CHECK (VALUE > interval '0' AND VALUE <= interval '366 days');
CREATE DOMAIN pgmill.tags AS text[]
  CONSTRAINT "one dimension, at most 20, 4096 bytes together, none NULL"
  CHECK (coalesce(array_ndims(VALUE), 1) = 1 AND cardinality(VALUE) <= 20 AND array_position(VALUE, NULL) IS NULL
         AND pg_column_size(VALUE) <= 4096);
CREATE DOMAIN pgmill.unique_key AS text COLLATE "C"
  CONSTRAINT "1 to 200 bytes, no control characters"
  CHECK (octet_length(VALUE) BETWEEN 1 AND 200 AND VALUE !~ '[\x01-\x1f\x7f]');
CREATE DOMAIN pgmill.progress AS real CONSTRAINT "0 to 100" CHECK (VALUE BETWEEN 0 AND 100);
CREATE DOMAIN pgmill.status_text AS text CONSTRAINT "1 to 200 bytes" CHECK (octet_length(VALUE) BETWEEN 1 AND 200);

CREATE TABLE pgmill.tasks (
  id           uuid PRIMARY KEY,                -- UUIDv7: carries the creation time
  claim_no     bigint NOT NULL DEFAULT 0,       -- rises at every claim; one third of the fence
  worker       uuid,                            -- who claimed it last
  due_at       timestamptz NOT NULL,            -- not before; its place in the line
  scheduled_at pgmill.scheduled_at,             -- as the client gave it
  created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  started_at   timestamptz,                     -- of the last attempt
  finished_at  timestamptz,
  paused_at    timestamptz,                     -- flag: to be paused since; survives rescue and drain
  frozen_at    timestamptz,                     -- it runs, and its worker has let it stand still since
  frozen_seconds real NOT NULL DEFAULT 0,       -- it stood still before that, in this attempt
  cancel_at    timestamptz,                     -- flag: cancel asked for at
  timeout      pgmill.timeout,                  -- NULL: the handler's
  priority     pgmill.priority NOT NULL,
  state        pgmill.state NOT NULL DEFAULT 'ready',
  cpu_usec     bigint,                          -- taken by the last attempt that ended, and its largest
  memory_peak  bigint,                          -- memory in bytes; NULL: not known
  attempt      int NOT NULL DEFAULT 0,          -- blamed runs, the running one included
  deferrals    int NOT NULL DEFAULT 0,          -- runs in a row that put it off without blame
  max_attempts pgmill.max_attempts,             -- NULL: the handler's, filled in at the claim
  ready        boolean NOT NULL DEFAULT true,   -- state = 'ready' and not paused: may be claimed
  unique_held  boolean NOT NULL DEFAULT false,  -- unfinished, and has a unique_key
  queue        pgmill.queue NOT NULL,
  name         pgmill.name NOT NULL,
  tags         pgmill.tags NOT NULL DEFAULT '{}',
  unique_key   pgmill.unique_key,               -- at most one unfinished task of a queue has it
  payload      jsonb NOT NULL,
  result       jsonb,
  errors       jsonb NOT NULL DEFAULT '[]',     -- one object per blamed attempt: pgmill.errors_add()
  progress     pgmill.progress,                 -- what the last attempt said of itself; NULL: nothing
  status_text  pgmill.status_text,
  log          text                             -- the end of standard error, of a later attempt that is not in errors
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);

CREATE INDEX tasks_ready ON pgmill.tasks (queue, name, priority, due_at, id) WHERE ready;
CREATE UNIQUE INDEX tasks_unique_key ON pgmill.tasks (queue, unique_key) WHERE unique_held;

-- Submissions that may be repeated: who asks (a token) and under which key, what was asked, and what came of it.
CREATE TABLE pgmill.idempotency (
  scope      text COLLATE "C",
  key        text COLLATE "C",
  request    bytea NOT NULL,                    -- SHA-256 of the body
  tasks      uuid[] NOT NULL,                   -- in the order of the request
  expires_at timestamptz NOT NULL,
  PRIMARY KEY (scope, key)
);
CREATE INDEX idempotency_expires_at ON pgmill.idempotency (expires_at);

-- Recurring submissions: the last tick of each that counted, on whichever host. A row for ever, since a host may have been
-- off for as long.
CREATE TABLE pgmill.schedules (
  name      pgmill.label PRIMARY KEY,
  last_tick timestamptz NOT NULL
);

-- What happened, added up by queue, minute and session, so that no two sessions ever wait for each other's row:
-- writer is the backend's process id, and only that backend updates the row. Rows without a writer are single steps
-- (many of them in one client's transaction would otherwise be versions of one row); writer 0 is the past, folded.
CREATE TABLE pgmill.tallies (
  minute             timestamptz NOT NULL DEFAULT date_trunc('minute', clock_timestamp()),
  writer             int,
  queue              text COLLATE "C" NOT NULL,  -- '': of a task that is not there
  submitted          bigint NOT NULL DEFAULT 0,
  completed          bigint NOT NULL DEFAULT 0,  -- the ends
  failed             bigint NOT NULL DEFAULT 0,
  cancelled          bigint NOT NULL DEFAULT 0,
  reopened_failed    bigint NOT NULL DEFAULT 0,  -- ended so, and waits again
  reopened_cancelled bigint NOT NULL DEFAULT 0,
  retried            bigint NOT NULL DEFAULT 0,  -- failed runs that another attempt follows
  rescued            bigint NOT NULL DEFAULT 0,  -- tasks taken from dead workers
  refused            bigint NOT NULL DEFAULT 0,  -- writes that the fence refused
  paused             bigint NOT NULL DEFAULT 0,  -- tasks that became PAUSED, less those that left it
  wait_seconds       float8 NOT NULL DEFAULT 0,  -- of runs that ended: due until started
  run_seconds        float8 NOT NULL DEFAULT 0,  -- started until ended
  waits              bigint[],                   -- the same as histograms: pgmill.bounds()
  runs               bigint[],
  UNIQUE (writer, minute, queue)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);

-- Queues that somebody configured; a queue without a row is open and unlimited.
CREATE TABLE pgmill.queues (
  name        pgmill.queue PRIMARY KEY,
  paused      boolean NOT NULL DEFAULT false,
  max_running int CHECK (max_running >= 0)      -- across all hosts; NULL: no limit
);

-- Worker processes, one row per life. lock_key is held as a session advisory lock for as long as it lives.
CREATE SEQUENCE pgmill.lock_keys AS int CYCLE;
CREATE TABLE pgmill.workers (
  id            uuid PRIMARY KEY,               -- UUIDv7
  instance      text NOT NULL,                  -- worker@INSTANCE
  host          text NOT NULL,
  pid           int NOT NULL,
  version       text NOT NULL,
  queues        text[] NOT NULL,
  names         text[] NOT NULL,
  grace         interval NOT NULL,              -- silent for so long: its tasks go to others
  identity      text COLLATE "C",               -- of the unit on its host; who shares it can see that nothing of it is left
  lock_key      int NOT NULL DEFAULT nextval('pgmill.lock_keys'),
  backend_pid   int,                            -- its present session
  backend_start timestamptz,
  started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  quiet_at      timestamptz,                    -- takes no new tasks since
  ended_at      timestamptz
);

-- One narrow row per living worker, written every turn of its loop.
-- held lists every task it may be running (a superset: ended ones leave it with the next finish); the first
-- `started` of them are those whose programs may have begun, the ones a crash is blamed on.
CREATE TABLE pgmill.heartbeats (
  worker  uuid PRIMARY KEY REFERENCES pgmill.workers,
  beat    bigint NOT NULL DEFAULT 0,
  at      timestamptz NOT NULL DEFAULT clock_timestamp(),
  started int NOT NULL DEFAULT 0,
  dead    boolean NOT NULL DEFAULT false,       -- the tombstone: never goes back to false
  held    uuid[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 25, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);
ALTER TABLE pgmill.heartbeats ALTER held SET STORAGE EXTERNAL;  -- random bytes: do not try to compress

-- Who sleeps and wants to be told of a new task. Losing it in a crash costs one poll.
CREATE UNLOGGED TABLE pgmill.sleepers (
  worker uuid NOT NULL,
  queue  text COLLATE "C" NOT NULL,
  names  text[] NOT NULL,
  PRIMARY KEY (queue, worker)
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);

-- API instances that somebody reads events from. Losing it in a crash costs them a new beginning.
CREATE UNLOGGED TABLE pgmill.watchers (
  watcher uuid PRIMARY KEY,
  until   timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);
