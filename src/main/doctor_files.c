/* SPDX-License-Identifier: MIT */
/*
 * The files that decide what the services do: whoever may change one of them acts as the services do, and whoever may
 * read a password gets into the database.
 */
#include <glob.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>

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
    buf_printf(found, "%zu files and folders can be changed by their owners alone", seen);
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

/* A file of variables, of one worker's own. */
static bool names_password(const char *path) {
    static const char variable[] = "PGMILL_DATABASE=";
    _cleanup_(freep) char *line = NULL;
    bool found = false;
    size_t size = 0;
    FILE *file = fopen(path, "re");

    while (file && !found && getline(&line, &size, file) > 0) {
        line[strcspn(line, "\n")] = '\0';
        found =
            strncmp(line, variable, sizeof(variable) - 1) == 0 && has_password(line + sizeof(variable) - 1);
    }
    if (file)
        (void) fclose(file);
    return found;
}

static CheckResult password_look(_unused_ const Check *self, const CheckContext *c, Buf *found) {
    _cleanup_(freep) char *password = NULL;
    glob_t files = {};

    (void) glob("/etc/pgmill/worker@*.conf", GLOB_NOSORT, NULL, &files);
    for (size_t i = 0; i < files.gl_pathc; i++)
        if (everybody_reads(files.gl_pathv[i]) && names_password(files.gl_pathv[i]))
            complain(found, files.gl_pathv[i], "can be read by anybody, and holds one");
    globfree(&files);
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
        .name = "password",
        .look = password_look,
        .configured = true,
        .remedy = "chgrp pgmill FILE; chmod 0640 FILE",
    },
    {},
};
