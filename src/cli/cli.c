/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"

#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/log.h"
#include "base/log_id.h"
#include "store/task.h"

int cli_open(const Config *config, Db **ret, char **ret_error) {
    int r = db_open(ret, config->database, "pgmill", ret_error);
    if (r == -ENOTCONN && geteuid() == 0) { /* nobody to PostgreSQL, as a rule */
        free(TAKE_PTR(*ret_error));
        r = db_open_as_service(ret, config->database, "pgmill", ret_error);
    }
    return r;
}

int cli_connect(const Config *config, Db **ret) {
    char *error = NULL;

    if (config->hidden && !config->database_named) {
        log_error("This user may not read " CONFIG_FILE_DEFAULT "; name the database by --database");
        return EX_NOPERM;
    }
    int r = cli_open(config, ret, &error);
    return r < 0 ? cli_failed("connect to the database", r, error) : EX_OK;
}

int cli_failed(const char *verb, int r, char *error) {
    static const struct {
        int error, status;
    } table[] = {
        { -EINVAL, EX_USAGE },
        { -ENOTCONN, EX_UNAVAILABLE },
        { -ENOENT, EX_NOINPUT },
        { -EIO, EX_SOFTWARE },
        { -EBADMSG, EX_DATAERR },
        { -EPROTONOSUPPORT, EX_CONFIG },
        { -EBUSY, EX_TEMPFAIL },
    };

    log_event(LOG_ERR, r == -EPROTONOSUPPORT ? LOG_ID_SCHEMA_TOO_NEW : NULL, NULL, "Cannot %s: %s", verb,
        error ? error : strerror(-r));
    free(error);
    for (size_t i = 0; i < ELEMENTS(table); i++)
        if (table[i].error == r)
            return table[i].status;
    return EX_OSERR;
}

int cli_print_task(const DbRows *rows, size_t row, unsigned first) {
    _cleanup_(buf_done) Buf b = {};

    task_row_json(rows, row, first, &b);
    if (buf_error(&b) < 0)
        return EX_OSERR;
    (void) puts(b.data);
    return EX_OK;
}
