/* SPDX-License-Identifier: MIT */
#include "api/listen.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/log.h"
#include "base/service.h"

#define BACKLOG 1024

typedef union Address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_un un;
} Address;

/* ---- addresses ---- */

static int parse_unix(const char *s, Address *ret, socklen_t *ret_len) {
    size_t n = strlen(s);

    if (n >= sizeof(ret->un.sun_path))
        return -EINVAL;
    *ret = (Address){ .un.sun_family = AF_UNIX };
    memcpy(ret->un.sun_path, s, n + 1);
    *ret_len = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + n + 1);
    return 0;
}

/* "127.0.0.1:8000", "[::1]:8000". Numbers only: a name would have to be looked up, and may mean several. */
static int parse_inet(const char *s, Address *ret, socklen_t *ret_len) {
    const char *colon = strrchr(s, ':');
    bool v6 = *s == '[';
    char host[INET6_ADDRSTRLEN + 1];
    uint64_t port;

    if (!colon || parse_uint(colon + 1, UINT16_MAX, &port) < 0)
        return -EINVAL;
    size_t skip = v6 ? 1 : 0, n = (size_t) (colon - s) - skip;
    if (n >= sizeof(host) || (v6 && (n < 1 || colon[-1] != ']')))
        return -EINVAL;
    (void) snprintf(host, sizeof(host), "%.*s", (int) (n - skip), s + skip);
    *ret = (Address){ .any.sa_family = v6 ? AF_INET6 : AF_INET };
    if (v6)
        ret->in6.sin6_port = htons((uint16_t) port);
    else
        ret->in.sin_port = htons((uint16_t) port);
    *ret_len = v6 ? sizeof(ret->in6) : sizeof(ret->in);
    void *place = v6 ? (void *) &ret->in6.sin6_addr : &ret->in.sin_addr;
    return inet_pton(ret->any.sa_family, host, place) == 1 ? 0 : -EINVAL;
}

static bool beyond_this_machine(const Address *a) {
    if (a->any.sa_family == AF_INET)
        return ntohl(a->in.sin_addr.s_addr) >> 24 != 127;
    if (a->any.sa_family != AF_INET6)
        return a->any.sa_family != AF_UNIX;
    const struct in6_addr *in6 = &a->in6.sin6_addr;
    return !IN6_IS_ADDR_LOOPBACK(in6) && !(IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
}

int listen_is_beyond(const char *address) {
    Address a;
    socklen_t len;
    int r = (*address == '/' ? parse_unix : parse_inet)(address, &a, &len);

    return r < 0 ? r : beyond_this_machine(&a);
}

static void format_address(const Address *a, char *buf, size_t size) {
    char host[INET6_ADDRSTRLEN] = "?";

    if (a->any.sa_family == AF_UNIX)
        (void) snprintf(buf, size, "%s%s", *a->un.sun_path ? "" : "@", a->un.sun_path + !*a->un.sun_path);
    else if (a->any.sa_family == AF_INET6)
        (void) snprintf(buf, size, "[%s]:%u", inet_ntop(AF_INET6, &a->in6.sin6_addr, host, sizeof(host)),
            ntohs(a->in6.sin6_port));
    else
        (void) snprintf(buf, size, "%s:%u", inet_ntop(AF_INET, &a->in.sin_addr, host, sizeof(host)),
            ntohs(a->in.sin_port));
}

/* ---- sockets ---- */

static int refuse_beyond(const char *address) {
    log_error("Refusing to listen on %s: other machines could reach it, and no access tokens are asked for. "
              "Make some with \"pgmill token new\" and name their file by Tokens= in the section [API] of "
              "pgmill.conf or by --tokens; or use 127.0.0.1, [::1] or a Unix socket.",
        address);
    return -EACCES;
}

/* Takes fd over on success. */
static int add(ListenSockets *all, int fd, bool made, bool tokens) {
    Address a = {};
    socklen_t len = sizeof(a) - 1; /* a Unix path may come without its NUL */
    ListenSocket *s = &all->sockets[all->count];

    if (getsockname(fd, &a.any, &len) < 0)
        return log_error_errno(-errno, "Cannot find out the address of descriptor %d: %m", fd);
    *s = (ListenSocket){ .fd = fd, .made = made, .local = a.any.sa_family == AF_UNIX };
    format_address(&a, s->address, sizeof(s->address));
    if (beyond_this_machine(&a)) {
        if (!tokens)
            return refuse_beyond(s->address);
        all->beyond = s->address;
    }
    all->count++;
    return 0;
}

/* A file that a former process left behind would make bind() fail; one that somebody listens on must. */
static void remove_stale(const Address *a, socklen_t len) {
    _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd >= 0 && connect(fd, &a->any, len) < 0 && errno == ECONNREFUSED)
        (void) unlink(a->un.sun_path);
}

static int bind_and_listen(int fd, const Address *a, socklen_t len) {
    const int on = 1;

    (void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (a->any.sa_family == AF_INET6)
        (void) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (a->any.sa_family == AF_UNIX)
        remove_stale(a, len);
    if (bind(fd, &a->any, len) < 0)
        return -errno;
    if (a->any.sa_family == AF_UNIX && chmod(a->un.sun_path, 0660) < 0)
        return -errno;
    return listen(fd, BACKLOG) < 0 ? -errno : 0;
}

static int make(ListenSockets *all, const char *address, bool tokens) {
    Address a;
    socklen_t len;

    if ((*address == '/' ? parse_unix : parse_inet)(address, &a, &len) < 0) {
        log_error(
            "Cannot read the address \"%s\": it must be like 127.0.0.1:8000, [::1]:8000 or /path/to/socket",
            address);
        return -EINVAL;
    }
    if (beyond_this_machine(&a) && !tokens)
        return refuse_beyond(address); /* before it can be reached */
    _cleanup_(closep) int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r = fd < 0 ? -errno : bind_and_listen(fd, &a, len);
    if (a.any.sa_family == AF_INET6 && (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL)) {
        log_notice("Not listening on %s: this machine has no IPv6", address);
        return 0;
    }
    if (r < 0)
        return log_error_errno(r, "Cannot listen on %s: %m%s", address,
            r == -EADDRINUSE ? "; \"ss -ltnp\" says by whom, and Listen= takes another one" : "");
    r = add(all, fd, true, tokens);
    if (r >= 0)
        TAKE_FD(fd);
    return r;
}

static int take(ListenSockets *all, int fd, bool tokens) {
    if (service_is_listening(fd, AF_UNSPEC))
        return add(all, fd, false, tokens);
    log_error("Descriptor %d, passed in, is no listening stream socket", fd);
    return -EINVAL;
}

int listen_sockets(ListenSockets *ret, const Config *config, bool tokens) {
    int passed = service_listen_fds(), r = 0;
    size_t n = passed > 0 ? (size_t) passed : config_list_length(config->listen);

    *ret = (ListenSockets){};
    if (passed < 0)
        return log_error_errno(passed, "Cannot take the sockets that were passed in: %m");
    if (n == 0) {
        log_error("Listen= names no address: it must be like 127.0.0.1:8000");
        return -EINVAL;
    }
    if (n > LISTEN_MAX) {
        log_error("%zu addresses to listen on, %d are the most", n, LISTEN_MAX);
        return -E2BIG;
    }
    for (size_t i = 0; i < n && r >= 0; i++)
        r = passed > 0 ? take(ret, SERVICE_LISTEN_FD + (int) i, tokens)
                       : make(ret, config->listen[i], tokens);
    if (r >= 0 && ret->count == 0) {
        log_error("There is no address to listen on");
        return -EADDRNOTAVAIL;
    }
    return r;
}

void listen_sockets_done(ListenSockets *all) {
    for (size_t i = 0; i < all->count; i++) {
        ListenSocket *s = &all->sockets[i];
        s->fd = close_fd(s->fd);
        if (s->made && s->local)
            (void) unlink(s->address);
    }
}
