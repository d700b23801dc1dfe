/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Listening sockets: those that the service manager passed in, or made here. Addresses that other machines
 * can reach only when access tokens are asked for. Logs what it cannot do, since it runs before anything else does.
 */
#include "base/config.h"

#define LISTEN_MAX 16

typedef struct ListenSocket {
    int fd;
    bool local;        /* a Unix socket */
    char address[120]; /* "127.0.0.1:8000", "[::1]:8000", "/run/pgmill/api.sock" */
    bool made;         /* here, not by the service manager: a Unix socket's file is ours to remove */
} ListenSocket;

typedef struct ListenSockets {
    ListenSocket sockets[LISTEN_MAX];
    size_t count;
    const char *beyond; /* the address of one that other machines can reach; NULL: there is none */
} ListenSockets;

/* Could another machine reach this HOST:PORT or socket path? 1: yes, 0: no, -EINVAL: it is none. */
int listen_is_beyond(const char *address);

/*
 * The sockets passed in, else those of config->listen. tokens: they are asked for. An IPv6 address is left out on a machine without IPv6.
 * Errors, each logged: -EINVAL an address cannot be read, -EACCES it is beyond loopback and there are no
 * tokens, -E2BIG more than
 * LISTEN_MAX, -EADDRNOTAVAIL none is left, and what socket(), bind() and listen() say. Also after an error,
 * listen_sockets_done() cleans up.
 */
int listen_sockets(ListenSockets *ret, const Config *config, bool tokens);

/* Closes what is still open and removes the files of Unix sockets made here. */
void listen_sockets_done(ListenSockets *s);
