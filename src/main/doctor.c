/* SPDX-License-Identifier: MIT */
#include "main/doctor.h"

#include <ctype.h>
#include <pwd.h>
#include <stdio.h>
#include <sysexits.h>

#include "api/checks.h"
#include "base/json.h"
#include "base/log.h"
#include "main/setup.h"
#include "worker/checks.h"

enum { OPTION_JSON, _OPTION_MAX };

static const Option options[] = {
    [OPTION_JSON] = { "json", NULL, "as JSON" },
    {},
};

typedef struct Doctor {
    Config config;
    CheckContext context;
    char *configuration; /* what is wrong with the file; NULL: nothing */
    bool hidden;         /* … which whoever asks may not read */
    char *no_database;   /* why it is out of reach */
    bool json;
    size_t problems, n;
} Doctor;

static void doctor_done(Doctor *d) {
    d->context.db = db_free(d->context.db);
    config_done(&d->config);
    free(d->configuration);
    free(d->no_database);
}

/* ---- output ---- */

static void print_text(const Check *check, CheckResult result, const Buf *found) {
    bool mend = result == CHECK_WARNING || result == CHECK_PROBLEM;

    printf("%-8s %s: %s%s%s\n", check_result_to_string(result), check->name, found->data ? found->data : "",
        mend ? " → " : "", mend ? check->remedy : "");
}

static void print_json(const Check *check, CheckResult result, const Buf *found, bool first) {
    _cleanup_(buf_done) Buf b = {};

    buf_printf(&b, "%s\n  {\"name\": \"%s\", \"result\": \"%s\", \"found\": ", first ? "" : ",", check->name,
        check_result_to_string(result));
    json_write_string(&b, found->data, found->len);
    buf_puts(&b, ", \"remedy\": ");
    json_write_string(&b, check->remedy, strlen(check->remedy));
    buf_putc(&b, '}');
    printf("%s", buf_error(&b) < 0 ? "" : b.data);
}

static void tell(Doctor *d, const Check *check, CheckResult result, Buf *found) {
    for (size_t i = 0; i < found->len; i++)
        if (iscntrl((unsigned char) found->data[i]))
            found->data[i] = ' ';
    if (d->json)
        print_json(check, result, found, d->n == 0);
    else
        print_text(check, result, found);
    (void) fflush(stdout);
    d->n++;
    d->problems += result == CHECK_PROBLEM;
}

/* ---- what comes before all other checks ---- */

static void tell_configuration(Doctor *d) {
    static const Check check = { .name = "configuration",
        .remedy = "see pgmill.conf(5); the services do not start with it" };
    CheckResult result = !d->configuration ? CHECK_OK : d->hidden ? CHECK_UNSEEN : CHECK_PROBLEM;
    _cleanup_(buf_done) Buf found = {};

    buf_puts(&found, d->configuration ? d->configuration : "can be used");
    tell(d, &check, result, &found);
}

static void tell_database(Doctor *d) {
    static const Check check = { .name = "database",
        .remedy = "start PostgreSQL, or mend Url= in the section [Database]; \"pgmill setup\" makes role and "
                  "database" };
    _cleanup_(buf_done) Buf found = {};

    CheckResult result = !d->no_database ? CHECK_OK : d->hidden ? CHECK_UNSEEN : CHECK_PROBLEM;
    buf_puts(&found, d->no_database ? d->no_database : "within reach");
    if (result == CHECK_UNSEEN)
        buf_puts(&found, "; ask as root, who connects as the services do");
    tell(d, &check, result, &found);
}

static void look(Doctor *d, const Check checks[]) {
    for (const Check *check = checks; check->name; check++) {
        _cleanup_(buf_done) Buf found = {};
        CheckResult result = CHECK_UNSEEN;

        if (check->configured && d->hidden)
            buf_puts(&found, "this user may not read " CONFIG_FILE_DEFAULT);
        else if (check->database && !d->context.db)
            buf_puts(&found, "the database is out of reach");
        else
            result = check->look(check, &d->context, &found);
        tell(d, check, result, &found);
    }
}

/* ---- start ---- */

static int load(Doctor *d, int argc, char *argv[]) {
    const char *values[_OPTION_MAX];
    char **args;

    int r = config_load_with(&d->config, "", options, values, argc, argv, &args);
    d->json = r != -EINVAL && values[OPTION_JSON];
    if (r < 0 || !args[0])
        return r;
    log_error("\"pgmill doctor\" takes options only");
    return -EINVAL;
}

/* A file that cannot be read or used is something to tell of; everything else is then looked at without it. */
static int configuration_load(Doctor *d, int argc, char *argv[]) {
    int r = load(d, argc, argv);
    d->hidden = r >= 0 && d->config.hidden;
    if (d->hidden)
        return string_replace(
            &d->configuration, "this user may not read " CONFIG_FILE_DEFAULT "; going on without it");
    if (r != -EBADMSG)
        return r;
    config_done(&d->config);
    if (string_replace(&d->configuration, "it cannot be used, as it says above; going on without it") < 0)
        return -ENOMEM;
    _cleanup_(freep) char **without = calloc((size_t) argc + 3, sizeof(char *));
    if (!without)
        return -ENOMEM;
    int n = 0;
    without[n++] = argv[0];
    /* Without a credential, too. What argv says of the database comes after it, and counts. */
    if (!getenv("PGMILL_DATABASE"))
        without[n++] = (char *) "--database=dbname=pgmill";
    memcpy(without + n, argv + 1, ((size_t) argc - 1) * sizeof(char *));
    n += argc - 1;
    without[n++] = (char *) "--config=/dev/null";
    return load(d, n, without);
}

/* Root may read everything, and is nobody to PostgreSQL: from here on it is who the services are. */
static int look_as_services(Doctor *d) {
    const struct passwd *pw = geteuid() == 0 ? getpwnam(SERVICE_USER) : NULL;

    if (!pw)
        return 0;
    int r = setup_become(pw);
    if (r < 0)
        return log_error_errno(r, "Cannot become the user " SERVICE_USER ": %m");
    d->context.as_services = true;
    if (d->configuration || access(CONFIG_FILE_DEFAULT, F_OK) < 0 || access(CONFIG_FILE_DEFAULT, R_OK) == 0)
        return 0;
    return string_replace(&d->configuration,
        "the services may not read " CONFIG_FILE_DEFAULT ": chgrp pgmill and chmod 0640 it");
}

static int connect(Doctor *d) {
    int r = db_open(&d->context.db, d->config.database, "pgmill doctor", &d->no_database);

    return r < 0 && !d->no_database ? string_replace(&d->no_database, strerror(-r)) : 0;
}

static int run(int argc, char *argv[]) {
    static const Check *const tables[] = { server_checks, state_checks, file_checks, api_checks,
        worker_checks, unit_checks };
    _cleanup_(doctor_done) Doctor d = {};

    int r = configuration_load(&d, argc, argv);
    if (r < 0)
        return config_exit_status(r);
    r = look_as_services(&d);
    if (r >= 0)
        r = connect(&d);
    if (r < 0)
        return EX_OSERR;
    d.context.config = &d.config;
    if (d.json)
        printf("{\"checks\": [");
    tell_configuration(&d);
    tell_database(&d);
    for (size_t i = 0; i < ELEMENTS(tables); i++)
        look(&d, tables[i]);
    if (d.json)
        printf("\n], \"problems\": %zu}\n", d.problems);
    return d.problems > 0 ? 1 : EX_OK;
}

const Verb doctor_verb = {
    .name = "doctor",
    .run = run,
    .arguments = "[OPTION…]",
    .summary = "Check what could be wrong with database and host, and say how to mend it",
    .help = "One line a check: ok, warning, problem, or unseen where this user cannot tell. Any user may "
            "ask; root\n"
            "sees most, and looks as the services do. The exit status is 1 when there is a problem.\n",
    .section = "",
    .options = options,
};
