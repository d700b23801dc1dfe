-- SPDX-License-Identifier: MIT
-- The groups that functions/rights.sql hands rights to: roles without login, of the whole cluster. Made by "pgmill
-- migrate" if it may, and else by "pgmill setup" as a superuser, who must call no function of the schema for it.
DO $$
DECLARE
  role text;
BEGIN
  FOREACH role IN ARRAY '{pgmill_submit,pgmill_read,pgmill_operate,pgmill_sql,pgmill_api,pgmill_worker}'::text[] LOOP
    IF to_regrole(role) IS NULL THEN
      EXECUTE format('CREATE ROLE %I', role);
    END IF;
  END LOOP;
EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN
  NULL;  -- in doubt, the migration of another database of this cluster makes them now
END
$$;
