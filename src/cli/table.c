/* SPDX-License-Identifier: MIT */
#include "cli/table.h"

#include <ctype.h>
#include <stdio.h>
#include <sysexits.h>

#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"
#include "cli/way.h"

#define COLUMNS_MAX 10

enum { OPTION_JSON, _OPTION_MAX };

const Option table_options[] = {
    [OPTION_JSON] = { "json", NULL, "as JSON" },
    {},
};

/* ---- cells ---- */

/* A list without its brackets, of an object its names, a text without its quotes, and nothing that a terminal would obey. */
static int cell(const JsonSpan *value, Buf *ret) {
    _cleanup_(freep) char *text = NULL, *name = NULL;
    size_t position = 0, start = ret->len;
    JsonSpan element;
    int r = 0;

    switch (value->type) {
    case JSON_NULL:
        buf_putc(ret, '-');
        break;
    case JSON_STRING:
        r = json_string(value, &text);
        if (r >= 0)
            buf_puts(ret, text);
        break;
    case JSON_ARRAY:
        while (r >= 0 && json_next_element(value, &position, &element) > 0) {
            if (ret->len > start)
                buf_putc(ret, ',');
            r = cell(&element, ret);
        }
        break;
    case JSON_OBJECT:
        while (r >= 0 && (r = json_next_member(value, &position, &name, &element)) > 0) {
            buf_puts(ret, ret->len > start ? "," : "");
            buf_puts(ret, name);
            name = (free(name), NULL);
        }
        break;
    default:
        buf_add(ret, value->text, value->len);
    }
    if (ret->len == start)
        buf_putc(ret, '-');
    for (size_t i = start; i < ret->len; i++)
        if (iscntrl((unsigned char) ret->data[i]))
            ret->data[i] = '?';
    return r < 0 ? r : buf_error(ret);
}

/* How many places a text takes: its characters, not its bytes. */
static size_t places(const char *text) {
    size_t n = 0;

    for (; *text; text++)
        n += ((unsigned char) *text & 0xc0) != 0x80;
    return n;
}

/* ---- rows ---- */

typedef struct Row {
    Buf cells[COLUMNS_MAX];
} Row;

typedef struct Table {
    const Column *columns;
    bool json;
    size_t n_columns, n_rows;
    Row *rows;
} Table;

static void table_done(Table *t) {
    for (size_t i = 0; i < t->n_rows; i++)
        for (size_t k = 0; k < t->n_columns; k++)
            buf_done(&t->rows[i].cells[k]);
    free(t->rows);
}

static Row *row_add(Table *t) {
    Row *rows = reallocarray(t->rows, t->n_rows + 1, sizeof(Row));

    if (!rows)
        return NULL;
    t->rows = rows;
    rows[t->n_rows] = (Row){};
    return &rows[t->n_rows++];
}

static int titles_add(Table *t) {
    Row *row = row_add(t);

    if (!row)
        return -ENOMEM;
    for (size_t k = 0; k < t->n_columns; k++) {
        const char *title = t->columns[k].title ? t->columns[k].title : t->columns[k].member;
        for (; *title; title++)
            buf_putc(&row->cells[k], (char) toupper((unsigned char) *title));
        if (buf_error(&row->cells[k]) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int object_add(Table *t, const JsonSpan *object) {
    Row *row = row_add(t);
    size_t position = 0;
    JsonSpan value;
    int r = row ? 1 : -ENOMEM;

    while (r > 0) {
        _cleanup_(freep) char *key = NULL;
        r = json_next_member(object, &position, &key, &value);
        for (size_t k = 0; r > 0 && k < t->n_columns; k++)
            if (streq(key, t->columns[k].member) && cell(&value, &row->cells[k]) < 0)
                r = -ENOMEM;
    }
    return r;
}

static const char *text_of(const Buf *b) {
    return b->data ? b->data : "";
}

static void rows_print(const Table *t) {
    size_t widths[COLUMNS_MAX] = {};

    for (size_t i = 0; i < t->n_rows; i++)
        for (size_t k = 0; k < t->n_columns; k++)
            widths[k] = MAX(widths[k], places(text_of(&t->rows[i].cells[k])));
    for (size_t i = 0; i < t->n_rows; i++)
        for (size_t k = 0; k < t->n_columns; k++) {
            const char *text = text_of(&t->rows[i].cells[k]);
            bool last = k + 1 == t->n_columns;
            printf("%s%*s%s", text, last ? 0 : (int) (widths[k] - places(text)), "", last ? "\n" : "  ");
        }
}

/* ---- what is shown ---- */

static int failed(int r) {
    log_error(r == -ENOMEM ? "Out of memory" : "The database's answer is not what it should be");
    return r == -ENOMEM ? EX_OSERR : EX_SOFTWARE;
}

static int table_begin(Table *t, const Column columns[], bool json) {
    *t = (Table){ .columns = columns, .json = json };
    while (columns[t->n_columns].member)
        t->n_columns++;
    return json ? 0 : titles_add(t);
}

/* JSON is printed at once, the rows of a table when all of them are there. */
static int table_add(Table *t, const char *text, const char *array) {
    JsonSpan list, object;
    size_t position = 0;

    int r = json_find(text, array, &list);
    while (r >= 0 && json_next_element(&list, &position, &object) > 0)
        if (t->json)
            printf("%.*s\n", (int) object.len, object.text);
        else
            r = object_add(t, &object);
    return r;
}

int table_print(const char *text, const char *array, const Column columns[], bool json) {
    _cleanup_(table_done) Table t = {};

    int r = table_begin(&t, columns, json);
    if (r >= 0)
        r = table_add(&t, text, array);
    if (r < 0)
        return failed(r);
    rows_print(&t);
    return EX_OK;
}

static int members_print(const JsonSpan *object, const char *prefix) {
    size_t position = 0;
    JsonSpan value;
    int r;

    do {
        _cleanup_(freep) char *key = NULL, *name = NULL;
        _cleanup_(buf_done) Buf text = {};
        r = json_next_member(object, &position, &key, &value);
        if (r > 0 && string_printf(&name, "%s%s%s", prefix, *prefix ? "." : "", key) < 0)
            r = -ENOMEM;
        if (r > 0 && value.type == JSON_OBJECT)
            r = members_print(&value, name) < 0 ? -ENOMEM : 1;
        else if (r > 0 && cell(&value, &text) < 0)
            r = -ENOMEM;
        else if (r > 0)
            printf("%-28s%s\n", name, text.data);
    } while (r > 0);
    return r;
}

static int table_print_members(const char *text, bool json) {
    JsonSpan object;
    int r = json_check(text, strlen(text), &object, NULL, NULL);

    if (json)
        (void) puts(text);
    else if (r >= 0)
        r = members_print(&object, "");
    return r < 0 ? failed(r) : EX_OK;
}

/* What the view shows behind `after`, a page; NULL: from the first. Returns an exit status. */
static int page_read(Way *way, const View *view, const char *after, Buf *ret) {
    static const char *const paths[] = {
        [ADMIN_QUEUES] = "/api/queues/", [ADMIN_WORKERS] = "/api/workers/", [ADMIN_STATS] = "/api/stats"
    };
    _cleanup_(db_rows_freep) DbRows *rows = NULL;
    _cleanup_(buf_done) Buf path = {};
    char *error = NULL;

    if (way->db) {
        int r = admin_view(way->db, view->view, after, &rows, &error);
        if (r < 0)
            return cli_failed(view->what, r, error);
        buf_puts(ret, db_value(rows, 0, 1));
        return buf_error(ret) < 0 ? EX_OSERR : EX_OK;
    }
    buf_puts(&path, paths[view->view]);
    way_parameter(&path, "cursor", after);
    if (buf_error(&path) < 0)
        return EX_OSERR;
    return way_ask(way, view->what, "GET", path.data, NULL, NULL, ret);
}

/* Where the next page begins; NULL: this was the last one. */
static int page_next(const char *text, char **ret) {
    JsonSpan next;

    free(TAKE_PTR(*ret));
    if (json_find(text, "next", &next) < 0 || next.type != JSON_STRING)
        return 0;
    return json_string(&next, ret);
}

static int pages_print(Way *way, const View *view, bool json) {
    _cleanup_(table_done) Table t = {};
    _cleanup_(freep) char *after = NULL;

    int r = table_begin(&t, view->columns, json);
    do {
        _cleanup_(buf_done) Buf page = {};
        int status = r >= 0 ? page_read(way, view, after, &page) : EX_OK;
        if (status != EX_OK)
            return status;
        if (r >= 0)
            r = table_add(&t, page.data, view->array);
        if (r >= 0)
            r = page_next(page.data, &after);
        if (r < 0)
            return failed(r);
    } while (after);
    rows_print(&t);
    return EX_OK;
}

static int whole_print(Way *way, const View *view, bool json) {
    _cleanup_(buf_done) Buf whole = {};

    int status = page_read(way, view, NULL, &whole);
    return status == EX_OK ? table_print_members(whole.data, json) : status;
}

int table_run(const View *view, int argc, char *argv[]) {
    _cleanup_(config_done) Config config = {};
    _cleanup_(way_done) Way way = {};
    const char *values[_OPTION_MAX];
    char **args;

    int r = config_load_with(&config, "", table_options, values, argc, argv, &args);
    if (r < 0)
        return config_exit_status(r);
    if (args[0]) {
        log_error("\"pgmill %s\" takes options only", argv[0]);
        return EX_USAGE;
    }
    int status = way_find(&way, &config);
    if (status != EX_OK)
        return status;
    return view->columns ? pages_print(&way, view, values[OPTION_JSON])
                         : whole_print(&way, view, values[OPTION_JSON]);
}
