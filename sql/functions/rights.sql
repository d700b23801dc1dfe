-- SPDX-License-Identifier: MIT
-- Who may do what. This is the one place for it, and the last file of all: what others made, it hands out or locks away.
--
-- To add a function or a view, add its name to a row of pgmill.rights(); overloads share it. What has no row is for the
-- schema's owner alone, and fails tests/db/test_rights.py. Files that make functions say nothing of rights:
-- Groups are the roles pgmill_NAME, which sql/roles.sql makes. The kinds:
--   call   the groups may call it, and it acts with the owner's rights (SECURITY DEFINER, fixed search_path): it must
--          check what it is given. In plpgsql, where it is called often: one in sql cannot be inlined, and is planned at
--          each call. It may call any other function, with or without a row
--   own    the groups may call it, and it acts with the caller's rights: what only computes, or must act as its caller
--   part   called by other functions alone
--   look   a view (or table) that the groups may select from. Functions in a view are called by who reads it
-- Nobody but the owner may write to a table.

CREATE OR REPLACE FUNCTION pgmill.rights() RETURNS TABLE (kind text, groups text, names text)
LANGUAGE sql IMMUTABLE AS $$
  VALUES
    ('call', 'submit api',              'submit warnings'),
    ('call', 'api',                     'submit_group submit_keyed submit_tick wake watch watch_on watch_end prune'),
    ('call', 'read operate api',        'read read_group list log unserved_queues queue_states show_queues show_workers show_stats metrics'),
    ('call', 'operate api',             'pause resume cancel retry steer put_queue change_queue pause_queue delete_queue quiet'),
    ('call', 'worker',                  'register take_over attach beat leave serve drain sleep awake is_idle claim claimed_tasks '
                                        'open_payload close_payload finish orders obey report'),
    ('call', 'api worker',              'give_up rescue tidy rehearse'),
    ('call', 'read operate api worker', 'suspects'),
    ('call', 'sql worker',              'own_payload complete'),
    ('own',  'sql worker',              'perform'),
    ('own',  'worker',                  'listen session_start end_former'),
    ('own',  'read operate api',        'oldest_transaction_seconds total'),
    ('own',  'submit read operate sql api worker',
                                        'uuid_v7 uuid_time uuid_floor rfc3339 status rights'),
    ('part', '',                        'lock_class bounds histogram plus buckets ready_names due wake_queue running apart '
                                        'ready_queues make_queues oldest_due oldest_due_but runs whole_state fold abandoned_queues '
                                        'state_after errors_add end_runs wake_limited wake_returned be_patient confirm steerable '
                                        'call_worker tell notify_events is_quiet set_rights'),
    ('look', 'read operate api',        'task tally queue_names'),
    ('look', 'read operate api worker', 'worker_states'),
    ('look', 'api worker',              'workers heartbeats tasks queues schedules'),
    ('look', 'submit read operate sql api worker',
                                        'schema')
$$;

-- Makes it so, as the owner; answers how many statements that took. "pgmill migrate" always calls it: roles may have come
-- since, and a dump brings rights to another cluster without its roles. Rights that somebody gave to other roles stay.
CREATE OR REPLACE FUNCTION pgmill.set_rights() RETURNS int
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  statement text;
  n int := 0;
BEGIN
  FOR statement IN
    WITH members AS (
      SELECT r.oid, format('%I', r.rolname) AS role, g.name
      FROM (SELECT DISTINCT unnest(string_to_array(d.groups, ' ')) FROM pgmill.rights() d) g (name)
      JOIN pg_roles r ON r.rolname = 'pgmill_' || g.name
    ), decided AS (
      SELECT n.name, d.kind, string_to_array(d.groups, ' ') AS groups
      FROM pgmill.rights() d CROSS JOIN LATERAL unnest(string_to_array(d.names, ' ')) AS n (name)
    ), objects AS (
      SELECT 'ROUTINE ' || p.oid::regprocedure AS object, p.proowner AS owner, 'EXECUTE' AS privilege, d.kind, d.groups,
             p.prosecdef AS definer, p.prokind = 'f' AS alterable, coalesce(p.proacl, acldefault('f', p.proowner)) AS acl
      FROM pg_proc p LEFT JOIN decided d ON d.name = p.proname AND d.kind <> 'look'
      WHERE p.pronamespace = 'pgmill'::regnamespace
      UNION ALL
      SELECT 'TABLE ' || c.oid::regclass, c.relowner, 'SELECT', d.kind, d.groups, false, false,
             coalesce(c.relacl, acldefault('r', c.relowner))
      FROM pg_class c LEFT JOIN decided d ON d.name = c.relname AND d.kind = 'look'
      WHERE c.relnamespace = 'pgmill'::regnamespace AND c.relkind IN ('r', 'v', 'm', 'p')
      UNION ALL
      SELECT 'SCHEMA pgmill', s.nspowner, 'USAGE', 'look', (SELECT array_agg(m.name) FROM members m), false, false,
             coalesce(s.nspacl, acldefault('n', s.nspowner))
      FROM pg_namespace s WHERE s.nspname = 'pgmill'
    )
    SELECT format('REVOKE %s ON %s FROM %s', a.privilege_type, o.object, coalesce(m.role, 'PUBLIC'))
    FROM objects o CROSS JOIN LATERAL aclexplode(o.acl) a LEFT JOIN members m ON m.oid = a.grantee
    WHERE a.grantee = 0
       OR m.name IS NOT NULL AND (a.privilege_type <> o.privilege OR m.name <> ALL (coalesce(o.groups, '{}')))
    UNION ALL
    SELECT format('GRANT %s ON %s TO %s', o.privilege, o.object, m.role)
    FROM objects o JOIN members m ON m.name = ANY (o.groups)
    WHERE NOT EXISTS (SELECT FROM aclexplode(o.acl) a WHERE a.grantee = m.oid AND a.privilege_type = o.privilege)
    UNION ALL
    SELECT format('ALTER %s SECURITY DEFINER SET search_path = pg_catalog, pg_temp', o.object)
    FROM objects o WHERE o.kind = 'call' AND o.alterable AND NOT o.definer
  LOOP
    EXECUTE statement;
    n := n + 1;
  END LOOP;
  RETURN n;
END
$$;
