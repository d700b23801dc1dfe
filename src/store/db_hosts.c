/* SPDX-License-Identifier: MIT */
#include "store/db_hosts.h"

#include <arpa/inet.h>
#include <stdio.h>

static size_t count(char *const *list) {
    size_t n = 0;

    while (list && list[n])
        n++;
    return n;
}

static void list_free(char **list) {
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

/* "a,,b" has three elements; libpq gives an empty one its default. */
static int split(const char *text, char ***ret) {
    size_t n = 1, i = 0;

    for (const char *p = text; *p; p++)
        n += *p == ',';
    char **list = calloc(n + 1, sizeof(char *));
    for (; list && i < n; i++) {
        size_t length = strcspn(text, ",");
        list[i] = strndup(text, length);
        if (!list[i])
            break;
        text += length + 1;
    }
    if (!list || i < n) {
        list_free(list);
        return -ENOMEM;
    }
    *ret = list;
    return 0;
}

/* Neither a socket's folder, an abstract socket nor an address, with or without the interface it is reached by. */
static bool is_name(const char *host) {
    unsigned char address[sizeof(struct in6_addr)];

    return *host && *host != '/' && *host != '@' && !strchr(host, '%') &&
           inet_pton(AF_INET, host, address) != 1 && inet_pton(AF_INET6, host, address) != 1;
}

int db_hosts_parse(const char *host, const char *port, DbHosts *ret) {
    *ret = (DbHosts){};
    int r = split(host ? host : "", &ret->hosts);
    if (r >= 0)
        r = split(port ? port : "", &ret->ports);
    if (r < 0)
        return r;
    size_t n = count(ret->hosts), ports = count(ret->ports), names = 0;
    ret->names = calloc(n + 1, sizeof(char *));
    if (!ret->names)
        return -ENOMEM;
    for (size_t i = 0; (ports == 1 || ports == n) && i < n; i++)
        if (is_name(ret->hosts[i]))
            ret->names[names++] = ret->hosts[i];
    return 0;
}

void db_hosts_done(DbHosts *h) {
    list_free(h->hosts);
    list_free(h->ports);
    free(h->names);
    *h = (DbHosts){};
}

static void add(DbAddresses *a, const char *host, const char *hostaddr, size_t length, const char *port) {
    if (a->n++ > 0) {
        buf_putc(&a->host, ',');
        buf_putc(&a->hostaddr, ',');
        buf_putc(&a->port, ',');
    }
    buf_puts(&a->host, host);
    buf_add(&a->hostaddr, hostaddr, length);
    buf_puts(&a->port, port);
}

/* The lines of the answer that are about one name. */
static int add_name(DbAddresses *a, size_t number, const char *host, const char *port, const char *answer) {
    const char *error = "no answer from the name server in time";
    size_t length = strlen(error), before = a->n;
    char *end;

    for (const char *line = answer; *line; line += strcspn(line, "\n") + (strchr(line, '\n') != NULL)) {
        if (strtoull(line, &end, 10) != number || *end != ' ' || !strchr(line, '\n'))
            continue;
        end++;
        if (*end != '!')
            add(a, host, end, strcspn(end, "\n"), port);
        else {
            error = end + 1;
            length = strcspn(error, "\n");
        }
    }
    if (a->n > before || a->error)
        return 0;
    return string_printf(&a->error, "cannot resolve \"%s\": %.*s", host, (int) length, error);
}

bool db_hosts_is_list(const DbHosts *h) {
    const size_t n = count(h->hosts), ports = count(h->ports);

    return n > 1 && (ports == 1 || ports == n);
}

/* "a,b,c" becomes "b,c,a". */
static void turn(Buf *list, size_t places) {
    const char *from = list->data;
    Buf turned = {};

    for (; places > 0; places--)
        from = strchr(from, ',') + 1;
    buf_puts(&turned, from);
    buf_putc(&turned, ',');
    buf_add(&turned, list->data, (size_t) (from - list->data) - 1);
    buf_done(list);
    *list = turned;
}

static void begin_with(DbAddresses *a, size_t first) {
    Buf *const lists[] = { &a->host, &a->hostaddr, &a->port };

    for (size_t i = 0; first > 0 && i < ELEMENTS(lists); i++)
        if (buf_error(lists[i]) == 0)
            turn(lists[i], first);
}

int db_hosts_addresses(const DbHosts *h, const char *answer, size_t tried, DbAddresses *ret) {
    const bool one_port = count(h->ports) == 1;
    size_t number = 0;
    int r = 0;

    *ret = (DbAddresses){};
    for (size_t i = 0; r >= 0 && h->hosts[i]; i++) {
        const char *port = h->ports[one_port ? 0 : i];
        if (h->names[number] == h->hosts[i])
            r = add_name(ret, number++, h->hosts[i], port, answer);
        else
            add(ret, h->hosts[i], "", 0, port);
    }
    if (ret->n > 0)
        begin_with(ret, tried % ret->n);
    if (r >= 0 && (buf_error(&ret->host) < 0 || buf_error(&ret->hostaddr) < 0 || buf_error(&ret->port) < 0))
        r = -ENOMEM;
    return r;
}

void db_addresses_done(DbAddresses *a) {
    buf_done(&a->host);
    buf_done(&a->hostaddr);
    buf_done(&a->port);
    free(a->error);
    a->error = NULL;
}
