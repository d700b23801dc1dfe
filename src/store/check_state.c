/* SPDX-License-Identifier: MIT */
/*
 * What lies in the database and who lives off it. The statements decide; each looks at a bounded number of rows.
 */
#include "store/check.h"

/* Workers that take tasks, as rows w; and a list that stays readable. */
#define SERVING "(SELECT * FROM pgmill.worker_states w WHERE w.status = 'ACTIVE') w"
#define FIRST_FEW(what) \
    "array_to_string((array_agg(" what "))[:5], ', ') || CASE WHEN count(*) > 5 THEN ' …' ELSE '' END"

const Check state_checks[] = {
    {
        .name = "transactions",
        .look = check_by_sql,
        .database = true,
        .remedy = "find it in pg_stat_activity (xact_start) or pg_prepared_xacts, and end it: it keeps dead "
                  "rows, and "
                  "claims get slower",
        .statement = { "doctor_transactions",
            "SELECT CASE WHEN age > 600 THEN 'warning' WHEN age IS NULL THEN 'unseen' ELSE 'ok' END, "
            "CASE WHEN age IS NULL THEN 'another role has one open, and the schema''s owner may not see "
            "since when: "
            "GRANT pg_read_all_stats TO it' ELSE format('the oldest is %s s old%s', "
            "age, "
            "CASE WHEN pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') THEN '' "
            "ELSE '; those of other roles are seen by roles with pg_read_all_stats' END) END "
            "FROM (SELECT round(pgmill.oldest_transaction_seconds()) AS age) a",
            0 },
    },
    {
        .name = "rights",
        .look = check_by_sql,
        .database = true,
        .remedy =
            "let a superuser of PostgreSQL make the roles by CREATE ROLE, or by \"pgmill setup\" where it "
            "runs, and then run \"pgmill migrate\" as a member of the owner",
        .statement = { "doctor_rights",
            "SELECT CASE WHEN bool_and(able) THEN 'ok' ELSE 'warning' END, 'the schema belongs to ' || "
            "min(owner) || "
            "coalesce('; not there, or without rights: ' || string_agg(role, ', ') FILTER (WHERE NOT able), "
            "'') || "
            "coalesce('; ' || string_agg(role || ': ' || members, '; ') FILTER (WHERE members <> ''), '') "
            "FROM (SELECT 'pgmill_' || g.name AS role, pg_get_userbyid(n.nspowner) AS owner, "
            "coalesce(has_schema_privilege(r.oid, n.oid, 'USAGE'), false) AS able, "
            "(SELECT string_agg(pg_get_userbyid(m.member), ', ' ORDER BY m.member) FROM pg_auth_members m "
            "WHERE m.roleid = r.oid AND m.member <> n.nspowner) AS members "
            "FROM (SELECT DISTINCT unnest(string_to_array(d.groups, ' ')) FROM pgmill.rights() d ORDER BY 1) "
            "g (name) "
            "JOIN pg_namespace n ON n.nspname = 'pgmill' LEFT JOIN pg_roles r ON r.rolname = 'pgmill_' || "
            "g.name) a",
            0 },
    },
    {
        .name = "workers",
        .look = check_by_sql,
        .database = true,
        .remedy = "start some on any host: systemctl enable --now pgmill-worker@1",
        .statement = { "doctor_workers",
            "SELECT CASE WHEN count(*) = 0 THEN 'warning' ELSE 'ok' END, "
            "format('%s that take tasks, on hosts: %s', count(*), count(DISTINCT w.host)) FROM " SERVING,
            0 },
    },
    {
        .name = "lost workers",
        .look = check_by_sql,
        .database = true,
        .remedy = "look at their hosts: systemctl status pgmill-worker@NAME; others take their tasks after "
                  "the grace "
                  "period",
        .statement = { "doctor_lost",
            "SELECT CASE WHEN count(*) > 0 THEN 'warning' ELSE 'ok' END, "
            "CASE WHEN count(*) > 0 THEN " FIRST_FEW(
                "w.instance || ' on ' || w.host") " ELSE 'none' END "
                                                  "FROM pgmill.suspects() s JOIN pgmill.workers w ON w.id = "
                                                  "s.worker",
            0 },
    },
    {
        .name = "resting handlers",
        .look = check_by_sql,
        .database = true,
        .remedy =
            "mend on that host what the reason names; the worker tries again within a minute, or at once "
            "after systemctl reload pgmill-worker@NAME",
        .statement = { "doctor_resting",
            "SELECT CASE WHEN count(*) > 0 THEN 'warning' ELSE 'ok' END, "
            "CASE WHEN count(*) > 0 THEN " FIRST_FEW("format('%s on %s (%s): %s', r.key, w.host, w.instance, "
                                                     "r.value)") " ELSE 'none' END "
                                                                 "FROM " SERVING
                                                                 " JOIN pgmill.workers o ON o.id = w.id "
                                                                 "CROSS JOIN LATERAL "
                                                                 "jsonb_each_text(o.resting) r",
            0 },
    },
    {
        .name = "queues",
        .look = check_by_sql,
        .database = true,
        .remedy = "let a worker serve them: Queues= in the section [Worker] of pgmill.conf, or "
                  "PGMILL_QUEUES= of one",
        .statement = { "doctor_queues",
            "SELECT CASE WHEN count(*) > 0 THEN 'problem' ELSE 'ok' END, "
            "CASE WHEN count(*) > 0 THEN 'tasks wait, and no worker serves: ' || " FIRST_FEW(
                "q.name") " "
                          "ELSE 'each with waiting tasks is served' END "
                          "FROM pgmill.queue_states(pgmill.unserved_queues()) q WHERE q.available > 0",
            0 },
    },
    {
        .name = "task names",
        .look = check_by_sql,
        .database = true,
        .remedy = "write their handler files on a host that serves the queue, and reload its workers",
        .statement = { "doctor_names",
            "WITH waiting AS (SELECT DISTINCT q.name AS queue, t.name "
            "FROM (SELECT DISTINCT unnest(w.queues) AS name FROM " SERVING
            ") q CROSS JOIN unnest(enum_range(NULL::pgmill.priority)) p CROSS JOIN "
            "LATERAL ("
            "SELECT t.name FROM pgmill.tasks t WHERE t.ready AND t.queue = q.name AND t.priority = p "
            "ORDER BY t.due_at, t.id LIMIT 1000) t LIMIT 1000) "
            "SELECT CASE WHEN count(*) > 0 THEN 'problem' ELSE 'ok' END, "
            "CASE WHEN count(*) > 0 THEN 'no worker of its queue knows how to run: ' || " FIRST_FEW(
                "format('%s (%s)', n.name, n.queue)") " ELSE 'each that waits can be run' END "
                                                      "FROM waiting n WHERE EXISTS (SELECT FROM " SERVING
                                                      " WHERE n.queue = ANY (w.queues)) "
                                                      "AND NOT EXISTS (SELECT FROM " SERVING
                                                      " WHERE n.queue = ANY (w.queues) AND n.name = ANY "
                                                      "(w.names))",
            0 },
    },
    {},
};
