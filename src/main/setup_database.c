/* SPDX-License-Identifier: MIT */
/*
 * The database's half of pgmill setup. Names of roles and databases are quoted by the server.
 */
#include <stdio.h>
#include <sysexits.h>

#include "base/log.h"
#include "main/setup.h"
#include "store/db.h"
#include "store/schema.h"

#define SERVER_VERSION_MIN 150000

/* ---- where it is ---- */

static int parameter(const Setup *s, const char *keyword, const char *fallback, char **ret) {
    _cleanup_(freep) char *error = NULL;
    int r = db_conninfo_get(s->url, keyword, ret, &error);

    if (r == -EINVAL)
        log_error("The database's URL cannot be read: %s", error ? error : "");
    if (r < 0)
        return r == -EINVAL ? EX_USAGE : EX_OSERR;
    if (!*ret && fallback && string_replace(ret, fallback) < 0)
        return EX_OSERR;
    return EX_OK;
}

static bool is_loopback(const char *host) {
    return !strchr(host, ',') &&
           (streq(host, "localhost") || strncmp(host, "127.", 4) == 0 || streq(host, "::1"));
}

int setup_database_parse(Setup *s) {
    _cleanup_(freep) char *service = NULL, *address = NULL;
    const struct {
        const char *keyword, *fallback;
        char **ret;
    } wanted[] = {
        { "service", NULL, &service },
        { "hostaddr", NULL, &address },
        { "host", NULL, &s->host },
        { "port", NULL, &s->port },
        { "user", "pgmill", &s->role },
        { "dbname", "pgmill", &s->database },
    };

    for (size_t i = 0; i < ELEMENTS(wanted); i++) {
        int status = parameter(s, wanted[i].keyword, wanted[i].fallback, wanted[i].ret);
        if (status != EX_OK)
            return status;
    }
    const char *to = address ? address : s->host;
    s->local = !service && !address && (!s->host || *s->host == '/' || !*s->host);
    s->beyond = !s->local && (service || !is_loopback(to));
    return EX_OK;
}

/* A superuser's connection through the socket that the URL names. */
static int admin_url(const Setup *s, const char *database, Buf *ret) {
    const char *const pairs[][2] = { { "host", s->host }, { "port", s->port }, { "user", DATABASE_USER },
        { "dbname", database } };

    for (size_t i = 0; i < ELEMENTS(pairs); i++) {
        if (!pairs[i][1])
            continue;
        buf_printf(ret, "%s='", pairs[i][0]);
        for (const char *p = pairs[i][1]; *p; p++) {
            if (strchr("'\\", *p))
                buf_putc(ret, '\\');
            buf_putc(ret, *p);
        }
        buf_puts(ret, "' ");
    }
    return buf_error(ret);
}

/* ---- asking ---- */

static int failed(const char *what, int r, char *error, const char *remedy) {
    log_error(
        "Cannot %s: %s%s%s", what, error ? error : strerror(-r), remedy ? "; " : "", remedy ? remedy : "");
    free(error);
    return r == -ENOTCONN          ? EX_UNAVAILABLE
           : r == -EPROTONOSUPPORT ? EX_CONFIG
           : r == -EBUSY           ? EX_TEMPFAIL
                                   : EX_SOFTWARE;
}

static int open_url(const char *url, const char *remedy, Db **ret) {
    char *error = NULL;
    int r = db_open(ret, url, "pgmill setup", &error);

    return r < 0 ? failed("connect to the database", r, error, remedy) : EX_OK;
}

static int open_admin(const Setup *s, const char *database, Db **ret) {
    _cleanup_(buf_done) Buf url = {};

    if (admin_url(s, database, &url) < 0)
        return EX_OSERR;
    return open_url(url.data,
        "it takes a PostgreSQL that runs on this host (apt install postgresql; systemctl start postgresql) "
        "and "
        "lets its own user \"" DATABASE_USER "\" in (pg_hba.conf: local all postgres peer), or a database "
        "elsewhere, named by --url",
        ret);
}

static int ask(
    Db *db, const DbStatement *statement, const char *const params[], const char *what, DbRows **ret) {
    char *error = NULL;
    int r = db_query(db, statement, params, ret, NULL, &error);

    return r < 0 ? failed(what, r, error, NULL) : EX_OK;
}

/* Runs the statement that the server itself has put together. */
static int run_made(
    Db *db, const DbStatement *maker, const char *const params[], const char *what, const char *remedy) {
    _cleanup_(db_rows_freep) DbRows *rows = NULL;
    char *error = NULL;

    int status = ask(db, maker, params, what, &rows);
    if (status != EX_OK)
        return status;
    int r = db_script(db, db_value(rows, 0, 0), &error);
    return r < 0 ? failed(what, r, error, remedy) : EX_OK;
}

static int version_check(Db *db) {
    static const DbStatement statement = { "setup_version",
        "SELECT current_setting('server_version_num'), current_setting('server_version')", 0 };
    _cleanup_(db_rows_freep) DbRows *rows = NULL;

    int status = ask(db, &statement, NULL, "read the server's version", &rows);
    if (status == EX_OK && db_int(rows, 0, 0) < SERVER_VERSION_MIN) {
        log_error("PostgreSQL %s is too old: pgmill needs 15 or newer", db_value(rows, 0, 1));
        return EX_CONFIG;
    }
    return status;
}

/* ---- role and database ---- */

static int make_role(Db *db, const Setup *s) {
    static const DbStatement look = { "setup_role", "SELECT FROM pg_roles WHERE rolname = $1", 1 };
    static const DbStatement maker = { "setup_make_role", "SELECT format('CREATE ROLE %I LOGIN', $1::text)",
        1 };
    const char *params[] = { s->role };
    _cleanup_(db_rows_freep) DbRows *rows = NULL;
    _cleanup_(freep) char *subject = NULL;

    int status = ask(db, &look, params, "look for the role", &rows);
    if (status != EX_OK || string_printf(&subject, "role %s", s->role) < 0)
        return status != EX_OK ? status : EX_OSERR;
    if (db_rows(rows) > 0)
        setup_say(subject, "was there");
    else if (s->dry_run)
        setup_say(subject, "would be created");
    else {
        status = run_made(db, &maker, params, "create the role",
            "it takes a superuser, or a role that may create roles and databases");
        if (status == EX_OK)
            setup_say(subject, "created");
    }
    return status;
}

/* One that is there must be usable: text in UTF-8, and the role may create a schema in it. */
static int database_check(const Setup *s, const DbRows *rows) {
    if (!streq(db_value(rows, 0, 0), "UTF8")) {
        log_error(
            "The database %s has the encoding %s, and payloads are UTF-8: rename it, and run this again",
            s->database, db_value(rows, 0, 0));
        return EX_CONFIG;
    }
    if (!db_bool(rows, 0, 1)) {
        log_error("The database %s belongs to %s, and the role %s may not create a schema in it: "
                  "GRANT CREATE ON DATABASE \"%s\" TO \"%s\"",
            s->database, db_value(rows, 0, 2), s->role, s->database, s->role);
        return EX_CONFIG;
    }
    return EX_OK;
}

/* A superuser calls no function of the schema, which is another's. */
static int make_groups(Db *db, const Setup *s) {
    static const DbStatement look = { "setup_groups", "SELECT to_regrole('pgmill_worker') IS NOT NULL", 0 };
    _cleanup_(db_rows_freep) DbRows *rows = NULL;
    char *error = NULL;

    int status = ask(db, &look, NULL, "look for the groups", &rows);
    if (status != EX_OK)
        return status;
    bool there = db_bool(rows, 0, 0);
    int r = there || s->dry_run ? 0 : schema_make_roles(db, &error);
    if (r < 0)
        return failed("create the groups", r, error, NULL);
    setup_say("groups pgmill_submit …", there ? "were there" : s->dry_run ? "would be created" : "created");
    return EX_OK;
}

static int make_database(Db *db, const Setup *s) {
    static const DbStatement look = { "setup_database",
        "SELECT pg_encoding_to_char(d.encoding), r.oid IS NULL OR has_database_privilege(r.oid, d.oid, "
        "'CREATE'), "
        "pg_get_userbyid(d.datdba) "
        "FROM pg_database d LEFT JOIN pg_roles r ON r.rolname = $2 WHERE d.datname = $1",
        2 };
    /* A PostgreSQL that was installed without a locale has templates that know no UTF-8. */
    static const DbStatement maker = { "setup_make_database",
        "SELECT format('CREATE DATABASE %I OWNER %I', $1::text, $2::text) || "
        "CASE WHEN EXISTS (SELECT FROM pg_database WHERE datname = 'template1' "
        "AND pg_encoding_to_char(encoding) = 'UTF8') "
        "THEN '' ELSE ' TEMPLATE template0 ENCODING ''UTF8'' LOCALE ''C.UTF-8''' END",
        2 };
    const char *params[] = { s->database, s->role };
    _cleanup_(db_rows_freep) DbRows *rows = NULL;
    _cleanup_(freep) char *subject = NULL;

    int status = ask(db, &look, params, "look for the database", &rows);
    if (status != EX_OK || string_printf(&subject, "database %s", s->database) < 0)
        return status != EX_OK ? status : EX_OSERR;
    if (db_rows(rows) > 0) {
        status = database_check(s, rows);
        if (status == EX_OK)
            setup_say(subject, "was there");
    } else if (s->dry_run)
        setup_say(subject, "would be created");
    else {
        status = run_made(db, &maker, params, "create the database", NULL);
        if (status == EX_OK)
            setup_say(subject, "created");
    }
    return status;
}

int setup_cluster(const Setup *s) {
    /* Doctor and metrics tell of the oldest transaction, whose role ever it is. */
    static const DbStatement let_see = { "setup_let_see",
        "SELECT format('GRANT pg_read_all_stats TO %I', $1::text)", 1 };
    _cleanup_(db_freep) Db *db = NULL;

    int status = open_admin(s, "postgres", &db);
    if (status == EX_OK)
        status = version_check(db);
    if (status == EX_OK)
        status = make_role(db, s);
    if (status == EX_OK)
        status = make_groups(db, s);
    if (status == EX_OK && !s->dry_run)
        status = run_made(db, &let_see, (const char *[]){ s->role }, "let the role see transactions", NULL);
    return status == EX_OK ? make_database(db, s) : status;
}

/* ---- schema ---- */

static void on_step(const char *step) {
    setup_say("schema", "applied %s", step);
}

static void on_waiting(const char *who) {
    setup_say("schema", "waiting for a lock that is held by %s", who);
}

static int make_schema(Db *db, const Setup *s) {
    unsigned version;
    char *error = NULL;

    int r = schema_read(db, &version, &error);
    if (r < 0)
        return failed("read the schema's version", r, error, NULL);
    if (s->dry_run) {
        if (version == schema_version())
            setup_say("schema", "%u is there; its functions would be brought up to date", version);
        else
            setup_say("schema", "%u would become %u", version, schema_version());
        return EX_OK;
    }
    r = schema_migrate(db, &(const SchemaEvents){ .applied = on_step, .waiting = on_waiting }, &error);
    if (r < 0) {
        _cleanup_(freep) char *remedy = NULL;
        if (r != -EBUSY)
            (void) string_printf(&remedy,
                "the role must own the schema pgmill, or be let create it: "
                "GRANT CREATE ON DATABASE \"%s\" TO \"%s\"",
                s->database, s->role);
        return failed("make the schema", r, error, remedy);
    }
    setup_say("schema", "%u is ready", schema_version());
    return EX_OK;
}

/* A superuser's session can be made one again by whatever code it runs, such as a trigger of a table that is there. */
static int owner_check(Db *db, const Setup *s) {
    static const DbStatement statement = { "setup_owner",
        "SELECT pg_get_userbyid(nspowner), pg_has_role($1, nspowner, 'MEMBER') FROM pg_namespace "
        "WHERE nspname = 'pgmill'",
        1 };
    _cleanup_(db_rows_freep) DbRows *rows = NULL;

    int status = ask(db, &statement, (const char *[]){ s->role }, "look for the schema's owner", &rows);
    if (status == EX_OK && db_rows(rows) > 0 && !db_bool(rows, 0, 1)) {
        log_error("The schema pgmill of the database %s belongs to %s, of which the role %s is no member: "
                  "drop it, or "
                  "GRANT \"%s\" TO \"%s\"",
            s->database, db_value(rows, 0, 0), s->role, db_value(rows, 0, 0), s->role);
        return EX_CONFIG;
    }
    return status;
}

int setup_schema_local(const Setup *s) {
    static const DbStatement look = { "setup_database_there", "SELECT FROM pg_database WHERE datname = $1",
        1 };
    static const DbStatement become = { "setup_become", "SELECT set_config('role', $1, false)", 1 };
    _cleanup_(db_rows_freep) DbRows *rows = NULL;
    _cleanup_(db_freep) Db *first = NULL, *db = NULL;

    if (s->dry_run) {
        int status = open_admin(s, "postgres", &first);
        if (status == EX_OK)
            status = ask(first, &look, (const char *[]){ s->database }, "look for the database", &rows);
        if (status == EX_OK && db_rows(rows) == 0)
            setup_say("schema", "%u would be created", schema_version());
        if (status != EX_OK || db_rows(rows) == 0)
            return status;
    }
    int status = open_admin(s, s->database, &db);
    if (status == EX_OK)
        status = owner_check(db, s);
    if (status == EX_OK && !s->dry_run)
        status = ask(db, &become, (const char *[]){ s->role }, "act as the role", NULL);
    return status == EX_OK ? make_schema(db, s) : status;
}

/* Who could read along, or stand in for the server? */
static int encryption_tell(Db *db, const Setup *s) {
    static const DbStatement statement = { "setup_encryption",
        "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()", 0 };
    static const char advice[] = "better is sslmode=verify-full with sslrootcert= in the URL";
    _cleanup_(db_rows_freep) DbRows *rows = NULL;
    _cleanup_(freep) char *mode = NULL;

    int status = ask(db, &statement, NULL, "ask how the connection is protected", &rows);
    if (status == EX_OK)
        status = parameter(s, "sslmode", "prefer", &mode);
    if (status != EX_OK || (s->host && is_loopback(s->host)))
        return status;
    if (db_rows(rows) == 0 || !db_bool(rows, 0, 0))
        log_warning(
            "The connection to the database is not encrypted: others on the network can read it; %s", advice);
    else if (!streq(mode, "verify-full"))
        log_warning("The connection is encrypted, but anybody could stand in for the server; %s", advice);
    else
        setup_say("connection", "%s, and the server is who it says", db_value(rows, 0, 1));
    return EX_OK;
}

int setup_schema_remote(const Setup *s) {
    _cleanup_(db_freep) Db *db = NULL;

    int status = open_url(s->url,
        "the URL must name a database that is there, and a role that may log in to it from here; files that "
        "it "
        "names must be readable for the user " SERVICE_USER,
        &db);
    if (status == EX_OK)
        status = version_check(db);
    if (status == EX_OK)
        status = encryption_tell(db, s);
    return status == EX_OK ? make_schema(db, s) : status;
}

int setup_connection_check(const Setup *s) {
    _cleanup_(db_freep) Db *db = NULL;
    unsigned version = 0;
    char *error = NULL;

    int status = open_url(s->url,
        "the services connect as the user " SERVICE_USER
        " and must be let in (pg_hba.conf: local pgmill pgmill "
        "peer)",
        &db);
    if (status != EX_OK)
        return status;
    int r = schema_read(db, &version, &error);
    if (r < 0)
        return failed("read the schema's version", r, error, NULL);
    setup_say("connection", "works for the user " SERVICE_USER);
    return EX_OK;
}
