/* SPDX-License-Identifier: MIT */
/*
 * The way to the queue. One request on a connection of its own; what is answered is bounded in size and time.
 */
#include "cli/way.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sysexits.h>

#include "base/json.h"
#include "base/log.h"
#include "cli/cli.h"

#define API_SOCKET   "/run/pgmill/api.sock"
#define PATIENCE_SEC 30
#define ANSWER_MAX   ((size_t) 128 * 1024 * 1024)

void way_done(Way *w) {
    w->db = db_free(w->db);
    free(w->no_db);
    free(w->api);
}

/* ---- the database ---- */

/* Everybody may connect to a database as PostgreSQL makes it; that alone is of no use. */
static int rights_look(Way *w) {
    static const DbStatement statement = {
        .name = "way",
        .sql = "SELECT current_user, coalesce(has_schema_privilege(to_regnamespace('pgmill')::oid, 'USAGE'), "
               "false)",
        .params = 0,
    };
    _cleanup_(db_rows_freep) DbRows *rows = NULL;

    int r = db_query(w->db, &statement, NULL, &rows, NULL, &w->no_db);
    if (r >= 0 && !db_bool(rows, 0, 1)) {
        (void) string_printf(&w->no_db,
            "the role %s has no right to a schema pgmill in it; GRANT pgmill_submit, pgmill_read or "
            "pgmill_operate gives some",
            db_value(rows, 0, 0));
        r = -ENOTCONN;
    }
    if (r < 0)
        w->db = db_free(w->db);
    return r;
}

int way_find(Way *w, const Config *config) {
    *w = (Way){ .config = config };
    if (config->database_named)
        return cli_connect(config, &w->db);
    if (config->hidden) /* which may name another than the default */
        return string_replace(&w->no_db, "this user may not read " CONFIG_FILE_DEFAULT) < 0 ? EX_OSERR
                                                                                            : EX_OK;
    int r = cli_open(config, &w->db, &w->no_db);
    if (r >= 0)
        r = rights_look(w);
    return r >= 0 || r == -ENOTCONN ? EX_OK : cli_failed("connect to the database", r, TAKE_PTR(w->no_db));
}

/* ---- the API ---- */

/* An absolute path, or HOST:PORT in numbers, as Listen= has them. */
static int address_parse(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len) {
    struct sockaddr_un *un = (struct sockaddr_un *) ret;
    struct sockaddr_in *in = (struct sockaddr_in *) ret;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *) ret;
    const char *colon = strrchr(text, ':');
    char host[INET6_ADDRSTRLEN] = {};
    uint64_t port;

    *ret = (struct sockaddr_storage){};
    if (*text == '/') {
        if (strlen(text) >= sizeof(un->sun_path))
            return -ENAMETOOLONG;
        un->sun_family = AF_UNIX;
        (void) strcpy(un->sun_path, text);
        *ret_len = sizeof(*un);
        return 0;
    }
    bool bracket = *text == '[';
    size_t n = colon ? (size_t) (colon - text) : 0;
    if (n < 2 + (size_t) bracket || n >= sizeof(host) || parse_uint(colon + 1, UINT16_MAX, &port) < 0)
        return -EINVAL;
    memcpy(host, text + bracket, n - 2 * (size_t) bracket);
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t) port);
    *ret_len = sizeof(*in);
    if (!bracket)
        return inet_pton(AF_INET, host, &in->sin_addr) == 1 ? 0 : -EINVAL;
    *in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons((uint16_t) port) };
    *ret_len = sizeof(*in6);
    return inet_pton(AF_INET6, host, &in6->sin6_addr) == 1 ? 0 : -EINVAL;
}

static int api_connect(const char *address, int *ret_fd) {
    const struct timeval patience = { .tv_sec = PATIENCE_SEC };
    struct sockaddr_storage a;
    socklen_t len = 0;

    int r = address_parse(address, &a, &len);
    if (r < 0)
        return r;
    _cleanup_(closep) int fd = socket(a.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0 ||
        connect(fd, (struct sockaddr *) &a, len) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* The first that lets this user in; tried gets why each of the others did not. */
static int api_find(Way *w, Buf *tried, int *ret_fd) {
    int r = api_connect(API_SOCKET, ret_fd);
    if (r >= 0)
        return string_replace(&w->api, API_SOCKET);
    buf_printf(tried, "; the API by " API_SOCKET ": %s", strerror(-r));
    for (char *const *p = w->config->listen; p && *p; p++) {
        r = api_connect(*p, ret_fd);
        if (r >= 0)
            return string_replace(&w->api, *p);
        buf_printf(tried, ", by %s: %s", *p, strerror(-r));
    }
    return r;
}

static int send_all(int fd, const char *data, size_t len) {
    while (len > 0) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n < 0)
            return -errno;
        data += n;
        len -= (size_t) n;
    }
    return 0;
}

static int request_send(int fd, const char *method, const char *path, const Buf *body) {
    _cleanup_(buf_done) Buf head = {};

    buf_printf(&head, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", method, path);
    if (body)
        buf_printf(&head, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body->len);
    buf_puts(&head, "\r\n");
    int r = buf_error(&head) < 0 ? -ENOMEM : send_all(fd, head.data, head.len);
    return r >= 0 && body ? send_all(fd, body->data, body->len) : r;
}

/* The whole answer, as far as its head says how long it is; the connection ends with it. */
static int answer_read(int fd, int *ret_code, Buf *ret) {
    static const char length[] = "\r\ncontent-length:";
    _cleanup_(buf_done) Buf all = {};
    char *end;

    int r = buf_read(&all, fd, ANSWER_MAX);
    if (r < 0)
        return r;
    if (all.len < 12 || strncmp(all.data, "HTTP/1.1 ", 9) != 0 || !(end = strstr(all.data, "\r\n\r\n")))
        return -EPROTO;
    *ret_code = atoi(all.data + 9);
    const char *body = end + 4;
    *end = '\0';
    const char *field = strcasestr(all.data, length);
    if (!field || strtoull(field + strlen(length), NULL, 10) != all.len - (size_t) (body - all.data))
        return -EPROTO;
    buf_add(ret, body, all.len - (size_t) (body - all.data));
    return buf_error(ret);
}

/* What a problem says, RFC 9457: "TITLE: DETAIL", and nothing that a terminal would obey. */
static void problem_text(const Buf *body, int code, Buf *ret) {
    static const char *const members[] = { "title", "detail" };

    for (size_t i = 0; i < ELEMENTS(members); i++) {
        _cleanup_(freep) char *text = NULL;
        JsonSpan value;
        if (json_find(body->data ? body->data : "", members[i], &value) >= 0 && value.type == JSON_STRING &&
            json_string(&value, &text) >= 0)
            buf_printf(ret, "%s%s", ret->len > 0 ? ": " : "", text);
    }
    if (ret->len == 0)
        buf_printf(ret, "status %d", code);
    for (size_t i = 0; i < ret->len; i++)
        if (iscntrl((unsigned char) ret->data[i]))
            ret->data[i] = ' ';
}

static int problem_status(const Buf *body, int code) {
    static const struct {
        int code;
        const char *type; /* the end of the problem's type; NULL: any */
        int status;
    } table[] = {
        { 400, NULL, EX_DATAERR },
        { 401, NULL, EX_NOPERM },
        { 403, NULL, EX_NOPERM },
        { 404, NULL, EX_NOINPUT },
        { 409, "#task-ended\"", EX_DATAERR },
        { 409, NULL, EX_TEMPFAIL },
        { 413, NULL, EX_DATAERR },
        { 422, NULL, EX_DATAERR },
        { 503, NULL, EX_UNAVAILABLE },
    };

    for (size_t i = 0; i < ELEMENTS(table); i++)
        if (table[i].code == code && (!table[i].type || strstr(body->data, table[i].type)))
            return table[i].status;
    return EX_SOFTWARE;
}

int way_ask(Way *w, const char *what, const char *method, const char *path, const Buf *body, int *ret_code,
    Buf *ret) {
    _cleanup_(buf_done) Buf why = {};
    _cleanup_(closep) int fd = -EBADF;
    int code = 0;

    const char *no_db = w->no_db ? w->no_db : "out of reach";
    int r = api_find(w, &why, &fd);
    if (r < 0) {
        log_error("Cannot %s: the database: %s%s", what, no_db, why.data ? why.data : "");
        return EX_UNAVAILABLE;
    }
    why.len = 0;
    r = request_send(fd, method, path, body);
    if (r >= 0)
        r = answer_read(fd, &code, ret);
    if (ret_code)
        *ret_code = code;
    if (r >= 0 && code >= 200 && code < 300)
        return EX_OK;
    if (r == -EAGAIN)
        buf_printf(&why, "no answer came within %d s, so its outcome is not known", PATIENCE_SEC);
    else if (r < 0)
        buf_printf(&why, "%s", r == -EPROTO ? "no whole answer came" : strerror(-r));
    else
        problem_text(ret, code, &why);
    log_error("Cannot %s by the API at %s: %s (and not by the database: %s)", what, w->api,
        why.data ? why.data : "", no_db);
    return r < 0 ? EX_UNAVAILABLE : problem_status(ret, code);
}

void way_parameter(Buf *path, const char *name, const char *value) {
    if (!value)
        return;
    buf_printf(path, "%c%s=", strchr(path->data ? path->data : "", '?') ? '&' : '?', name);
    for (; *value; value++)
        if (isalnum((unsigned char) *value) || strchr("-._~", *value))
            buf_putc(path, *value);
        else
            buf_printf(path, "%%%02X", (unsigned char) *value);
}
