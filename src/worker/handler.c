/* SPDX-License-Identifier: MIT */
#include "worker/handler.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/config.h"
#include "base/ini.h"
#include "base/log.h"
#include "store/task.h"

Handler *handler_ref(Handler *h) {
    h->refs++;
    return h;
}

Handler *handler_unref(Handler *h) {
    if (!h || --h->refs > 0)
        return NULL;
    if (h->executor && h->executor->retire)
        h->executor->retire(h);
    handler_free_keys(h);
    free(h->name);
    free(h->path);
    free(h->rest_why);
    free(h);
    return NULL;
}

void handler_unrefp(Handler **h) {
    handler_unref(*h);
}

void handlers_done(Handlers *h) {
    for (size_t i = 0; i < h->n; i++)
        handler_unref(h->list[i]);
    free(h->list);
    free(h->names);
    free(h->tries);
    *h = (Handlers){};
}

/* ---- one file ---- */

/* The files of one handler, read one after another. */
typedef struct Reading {
    Handler *handler;
    const char *path;               /* of the one being read */
    bool bad;                       /* logged; the rest of the file is read to find what else is wrong */
    char *places[HANDLER_KEYS_MAX]; /* where each key was set last, "PATH:LINE"; NULL: it is at its default */
} Reading;

static void reading_done(Reading *s) {
    for (size_t i = 0; i < HANDLER_KEYS_MAX; i++)
        free(s->places[i]);
}

static int remember_place(Reading *s, int key, const char *value, unsigned line) {
    char **place = &s->places[key];

    *place = (free(*place), NULL);
    return *value ? string_printf(place, "%s:%u", s->path, line) : 0;
}

static int on_entry(void *userdata, unsigned line, const char *section, const char *key, const char *value) {
    Reading *s = userdata;
    const char *rule;

    int r = streq(section, "Task") ? handler_set(s->handler, key, value, &rule) : -ENOENT;
    if (r == -EINVAL) {
        log_error("%s:%u: %s=%s: must be %s", s->path, line, key, value, rule);
        s->bad = true;
    } else if (r == -ENOENT)
        log_warning("%s:%u: there is no %s= in section [%s]; ignored", s->path, line, key, section);
    if (r >= 0)
        r = remember_place(s, r, value, line);
    return r == -ENOMEM ? r : 0;
}

/* -ECANCELED: logged. */
static int file_load(Reading *s, const char *path) {
    unsigned line;

    s->path = path;
    s->bad = false;
    int r = ini_read_file(path, on_entry, s, &line);
    if (r == -ENOMEM)
        return r;
    if (r == -EBADMSG)
        log_error("%s:%u: neither [Section] nor Key=Value, too long a line, or not text", path, line);
    else if (r == -ENOENT)
        log_error("%s: it is a link to a file that is not there", path);
    else if (r < 0)
        (void) log_error_errno(r, "%s: %m", path);
    return r < 0 || s->bad ? -ECANCELED : 0;
}

/* ---- folders ---- */

/* A NULL-terminated, growing list of names. */
typedef struct Names {
    char **list;
    size_t n;
} Names;

static void names_done(Names *names) {
    config_list_free(names->list);
}

static int names_add(Names *names, const char *name) {
    for (size_t i = 0; i < names->n; i++)
        if (streq(names->list[i], name))
            return 0;
    char **list = reallocarray(names->list, names->n + 2, sizeof(char *));
    if (!list)
        return -ENOMEM;
    names->list = list;
    list[names->n] = strdup(name);
    if (!list[names->n])
        return -ENOMEM;
    list[++names->n] = NULL;
    return 0;
}

static bool has_suffix(const char *s, const char *suffix) {
    size_t n = strlen(s), m = strlen(suffix);
    return n > m && streq(s + n - m, suffix);
}

static int conf_file(const struct dirent *e) {
    return e->d_name[0] != '.' && has_suffix(e->d_name, ".conf");
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *) a, *(char *const *) b);
}

/* The names of all *.conf in FOLDER/sub of every folder, each once, sorted. */
static int names_find(char *const *folders, const char *sub, Names *names) {
    int r = 0;

    for (; *folders && r >= 0; folders++) {
        _cleanup_(freep) char *dir = NULL;
        struct dirent **entries = NULL;
        if (string_printf(&dir, "%s%s", *folders, sub) < 0)
            return -ENOMEM;
        int n = scandir(dir, &entries, conf_file, NULL);
        if (n < 0 && errno != ENOENT)
            log_warning_errno(-errno, "%s: %m", dir);
        for (int i = 0; i < n; i++) {
            if (r >= 0)
                r = names_add(names, entries[i]->d_name);
            free(entries[i]);
        }
        free(entries);
    }
    if (r >= 0 && names->n > 0)
        qsort(names->list, names->n, sizeof(char *), by_name);
    return r;
}

/* The one that counts: of the first folder that has it. 0, 1: it is masked, -ENOENT, -ENOMEM. */
static int file_find(char *const *folders, const char *sub, const char *name, char **ret) {
    struct stat st;

    for (; *folders; folders++) {
        _cleanup_(freep) char *path = NULL;
        if (string_printf(&path, "%s%s/%s", *folders, sub, name) < 0)
            return -ENOMEM;
        if (lstat(path, &st) < 0)
            continue;
        bool masked = stat(path, &st) == 0 && S_ISCHR(st.st_mode);
        *ret = TAKE_PTR(path);
        return masked;
    }
    return -ENOENT;
}

static int drop_ins_load(char *const *folders, const char *file, Reading *s) {
    _cleanup_(freep) char *sub = NULL;
    _cleanup_(names_done) Names names = {};

    if (string_printf(&sub, "/%s.d", file) < 0)
        return -ENOMEM;
    int r = names_find(folders, sub, &names);
    for (size_t i = 0; i < names.n && r >= 0; i++) {
        _cleanup_(freep) char *path = NULL;
        int found = file_find(folders, sub, names.list[i], &path);
        r = found == 0 ? file_load(s, path) : MIN(found, 0);
    }
    return r;
}

/* ---- all of them ---- */

/* Only now, since Mode= may stand anywhere. */
static void warn_of_useless_keys(const Reading *s) {
    const char *key, *modes;

    for (size_t i = 0; i < HANDLER_KEYS_MAX; i++)
        if (s->places[i] && (modes = handler_key_modes(s->handler, i, &key)))
            log_warning("%s: %s= has no effect with Mode=%s, but with these modes: %s", s->places[i], key,
                s->handler->executor->name, modes);
}

/* 0; 1: it is masked; -ECANCELED: it cannot be used, which was logged; -ENOMEM. */
static int handler_load(char *const *folders, const char *file, Handler **ret) {
    _cleanup_(handler_unrefp) Handler *h = calloc(1, sizeof(Handler));

    if (!h)
        return -ENOMEM;
    h->refs = 1;
    int r = file_find(folders, "", file, &h->path);
    if (r != 0)
        return r == -ENOENT ? 1 : r; /* taken away just now */
    h->name = strndup(file, strlen(file) - strlen(".conf"));
    if (!h->name)
        return -ENOMEM;
    if (!task_label_valid(h->name)) {
        log_error("%s: the file is not named after a task: " TASK_LABEL_RULE, h->path);
        return -ECANCELED;
    }
    _cleanup_(reading_done) Reading reading = { .handler = h };
    r = handler_set_defaults(h);
    if (r >= 0)
        r = file_load(&reading, h->path);
    if (r >= 0)
        r = drop_ins_load(folders, file, &reading);
    if (r < 0)
        return r;
    warn_of_useless_keys(&reading);
    const char *missing = h->executor->missing(h);
    if (missing) {
        log_error("%s: has no %s=, which Mode=%s needs", h->path, missing, h->executor->name);
        return -ECANCELED;
    }
    *ret = TAKE_PTR(h);
    return 0;
}

static int by_handler_name(const void *a, const void *b) {
    return strcmp((*(Handler *const *) a)->name, (*(Handler *const *) b)->name);
}

int handlers_load(char *const *path, Handlers *ret) {
    _cleanup_(names_done) Names files = {};
    _cleanup_(handlers_done) Handlers h = {};

    int r = names_find(path, "", &files);
    if (r < 0)
        return r;
    h.list = calloc(files.n + 1, sizeof(Handler *));
    h.names = calloc(files.n + 1, sizeof(char *));
    h.tries = calloc(files.n + 1, sizeof(int));
    if (!h.list || !h.names || !h.tries)
        return -ENOMEM;
    for (size_t i = 0; i < files.n; i++) {
        r = handler_load(path, files.list[i], &h.list[h.n]);
        if (r == -ENOMEM)
            return r;
        h.unusable += r == -ECANCELED;
        h.n += r == 0;
    }
    qsort(h.list, h.n, sizeof(Handler *),
        by_handler_name); /* "a" is before "a-b", "a-b.conf" before "a.conf" */
    for (size_t i = 0; i < h.n; i++) {
        h.names[i] = h.list[i]->name;
        h.tries[i] = h.list[i]->max_attempts;
    }
    *ret = h;
    h = (Handlers){};
    return 0;
}

Handler *handlers_find(const Handlers *h, const char *name) {
    for (size_t i = 0; i < h->n; i++)
        if (streq(h->names[i], name))
            return h->list[i];
    return NULL;
}

void handler_took(Handler *h, uint64_t usec) {
    h->took_usec = h->took_usec == 0 ? usec : MAX((7 * h->took_usec + usec) / 8, UINT64_C(1));
}

uint64_t backoff_delay(const Backoff *b, unsigned attempt) {
    if (!b->exponential)
        return b->steps[MIN(MAX(attempt, 1U), b->n) - 1];
    uint64_t delay = b->steps[0];
    for (unsigned i = 1; i < attempt && delay > 0 && delay < b->steps[1]; i++)
        delay *= 2;
    delay = MIN(delay, b->steps[1]);
    return delay / 2 + (delay > 1 ? random_u32() * (delay / 2) / UINT32_MAX : 0);
}
