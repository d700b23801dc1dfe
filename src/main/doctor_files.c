/* SPDX-License-Identifier: MIT */
/*
 * The files that decide what the services do: whoever may change one of them acts as the services do, and whoever may
 * read a password gets into the database.
 */
#include <glob.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/variables.h"
#include "main/doctor.h"
#include "main/setup.h"

/* Below each folder of handler files. */
static const char *const handler_files[] = { "", "/*.conf", "/*.conf.d", "/*.conf.d/*.conf" };

static void complain(Buf *found, const char *path, const char *what) {
    buf_printf(found, "%s%s %s", found->len > 0 ? "; " : "", path, what);
}

static int add_files(glob_t *files, const char *pattern) {
    int r = glob(pattern, GLOB_NOSORT | (files->gl_pathv ? GLOB_APPEND : 0), NULL, files);
    return r == GLOB_NOSPACE ? -ENOMEM : 0;
}

static int find_files(const Config *config, glob_t *files) {
    int r = add_files(files, "/etc/pgmill");

    if (r >= 0)
        r = add_files(files, "/etc/pgmill/*.conf"); /* pgmill.conf, worker@NAME.conf */
    for (char **folder = config->tasks; *folder && r >= 0; folder++)
        for (size_t i = 0; i < ELEMENTS(handler_files) && r >= 0; i++) {
            _cleanup_(freep) char *pattern = NULL;
            r = string_printf(&pattern, "%s%s", *folder, handler_files[i]);
            if (r >= 0)
                r = add_files(files, pattern);
        }
    return r;
}

/* Root's are in order, and, where nobody set pgmill up, those of whoever runs it. */
static void look_at_file(const CheckContext *c, const char *path, const struct stat *st, Buf *found) {
    const struct passwd *owner;

    if (st->st_mode & (S_IWGRP | S_IWOTH))
        complain(
            found, path, st->st_mode & S_IWOTH ? "can be changed by anybody" : "can be changed by its group");
    else if (st->st_uid != 0 && (c->as_services || st->st_uid != geteuid())) {
        owner = getpwuid(st->st_uid);
        complain(found, path,
            owner && streq(owner->pw_name, SERVICE_USER) ? "belongs to " SERVICE_USER
                                                           ", and so tasks can change it"
                                                         : "can be changed by an owner who is not root");
    }
}

static CheckResult permissions_look(_unused_ const Check *self, const CheckContext *c, Buf *found) {
    glob_t files = {};
    size_t seen = 0;
    struct stat st;

    int r = find_files(c->config, &files);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        const char *path = files.gl_pathv[i];
        if (stat(path, &st) < 0)
            continue;
        seen++;
        look_at_file(c, path, &st, found);
    }
    globfree(&files);
    if (found->len > 0)
        return CHECK_PROBLEM;
    if (r < 0 || seen == 0) {
        buf_puts(found, r < 0 ? "out of memory" : "no file of pgmill is to be seen");
        return CHECK_UNSEEN;
    }
    buf_printf(found, "%zu path%s, which none but their owners can change", seen, PLURAL(seen));
    return CHECK_OK;
}

static bool has_password(const char *conninfo) {
    _cleanup_(freep) char *password = NULL;

    return db_conninfo_get(conninfo, "password", &password, NULL) >= 0 && password;
}

static bool everybody_reads(const char *path) {
    struct stat st;

    return stat(path, &st) >= 0 && st.st_mode & S_IROTH;
}

/* ---- files of variables, of one worker each ---- */

typedef struct Variables {
    const char *path;
    Buf *found;
    bool password;
} Variables;

static int variables_visit(const CheckContext *c, VariableEntry entry, Buf *found) {
    _cleanup_(freep) char *pattern = NULL;
    glob_t files = {};

    int r = config_variables_path(c->config, "*", &pattern);
    if (r >= 0)
        r = add_files(&files, pattern);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        Variables v = { .path = files.gl_pathv[i], .found = found };
        (void) variables_read(v.path, entry, &v);
        if (v.password && everybody_reads(v.path))
            complain(found, v.path, "can be read by anybody, and holds one");
    }
    globfree(&files);
    return r;
}

static void password_note(void *userdata, _unused_ unsigned line, const char *name, const char *value) {
    Variables *v = userdata;

    v->password = v->password || (streq(name, "PGMILL_DATABASE") && has_password(value));
}

static void useless_note(void *userdata, unsigned line, const char *name, _unused_ const char *value) {
    const char *why = config_variable_useless(name);
    const Variables *v = userdata;

    if (why)
        buf_printf(v->found, "%s%s:%u: %s= %s", v->found->len > 0 ? "; " : "", v->path, line, name, why);
}

static CheckResult variables_look(_unused_ const Check *self, const CheckContext *c, Buf *found) {
    if (variables_visit(c, useless_note, found) < 0)
        return CHECK_UNSEEN;
    if (found->len > 0)
        return CHECK_WARNING;
    buf_puts(found, "none that does nothing");
    return CHECK_OK;
}

static CheckResult password_look(_unused_ const Check *self, const CheckContext *c, Buf *found) {
    _cleanup_(freep) char *password = NULL;

    (void) variables_visit(c, password_note, found);
    if (found->len > 0)
        return CHECK_PROBLEM;
    if (db_conninfo_get(c->config->database, "password", &password, NULL) < 0) {
        buf_puts(found, "the database's URL cannot be read");
        return CHECK_PROBLEM;
    }
    if (!password) {
        buf_puts(found, "none in the URL");
        return CHECK_OK;
    }
    if (!everybody_reads(CONFIG_FILE_DEFAULT)) {
        buf_puts(found, "in the URL, which not everybody can read");
        return CHECK_OK;
    }
    buf_puts(found, CONFIG_FILE_DEFAULT " can be read by anybody, and holds one");
    return CHECK_PROBLEM;
}

const Check file_checks[] = {
    {
        .name = "permissions",
        .look = permissions_look,
        .remedy = "chown root, chmod go-w",
    },
    {
        .name = "variables",
        .look = variables_look,
        .remedy =
            "pgmill.conf(5) has the names of those that workers read; then systemctl restart the worker",
    },
    {
        .name = "password",
        .look = password_look,
        .configured = true,
        .remedy = "chgrp pgmill FILE; chmod 0640 FILE",
    },
    {},
};
