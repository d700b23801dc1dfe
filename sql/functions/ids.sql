-- SPDX-License-Identifier: MIT
-- UUIDv7 (RFC 9562, section 5.7) for clients that submit from SQL; PostgreSQL 18 has one of its own.

CREATE OR REPLACE FUNCTION pgmill.uuid_v7() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
  -- 48 bits of milliseconds, the version, and what follows it in a random UUID
  SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
          || '7' || substr(gen_random_uuid()::text, 16))::uuid
$$;

CREATE OR REPLACE FUNCTION pgmill.uuid_time(id uuid) RETURNS timestamptz
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT to_timestamp(('x' || lpad(translate(left(id::text, 13), '-', ''), 16, '0'))::bit(64)::bigint / 1000.0)
$$;
COMMENT ON FUNCTION pgmill.uuid_time IS 'When a UUIDv7 (of a task or a worker) was made, to the millisecond';

-- The least UUIDv7 of a millisecond (years 1970 to 9999).
CREATE OR REPLACE FUNCTION pgmill.uuid_floor(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT rpad(lpad(to_hex(least(greatest(extract(epoch FROM at) * 1000, 0), 253402300799999)::bigint), 12, '0'),
              32, '0')::uuid
$$;

-- Advisory locks: (class, key). One class for each kind of lock, so that keys never meet.
CREATE OR REPLACE FUNCTION pgmill.lock_class(kind text) RETURNS int
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
  SELECT 1886219620 + CASE kind WHEN 'migrate' THEN 0 WHEN 'queue' THEN 1 WHEN 'worker' THEN 2 WHEN 'tidy' THEN 3 END
$$;

CREATE OR REPLACE FUNCTION pgmill.rfc3339(at timestamptz) RETURNS text
LANGUAGE sql STABLE STRICT PARALLEL SAFE AS $$
  SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;
