/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A task's own NOTIFY_SOCKET (sd_notify(3)): what its program says of itself, and the watchdog that waits for a sign
 * of life. Understood are STATUS=, X_PGMILL_PROGRESS= (0 to 100), WATCHDOG=1, WATCHDOG=trigger and
 * EXTEND_TIMEOUT_USEC=; anything else is ignored, and descriptors that come along are closed, which is what BARRIER=1
 * waits for. Knows nothing of tasks.
 */
#include <systemd/sd-event.h>

#include "base/util.h"

#define NOTIFY_MESSAGE_MAX 4096 /* bytes; a longer one is ignored */
#define NOTIFY_STATUS_MAX  200  /* bytes of a status that are kept, control characters replaced */

/* One datagram. Points into it. */
typedef struct NotifyMessage {
    bool alive, trigger;  /* WATCHDOG=1, =trigger */
    uint64_t extend_usec; /* 0: not told */
    double progress;      /* < 0: not told */
    const char *status;   /* NULL: not told */
    size_t status_len;
} NotifyMessage;

/* -EBADMSG: it holds a NUL byte other than its last. A value that makes no sense is ignored. */
int notify_parse(const char *text, size_t n, NotifyMessage *ret);

typedef struct Notify Notify;

/* None may free it. */
typedef struct NotifyEvents {
    void (*said)(void *userdata); /* there is something for notify_said() */
    void (*extend)(uint64_t usec, void *userdata);
    void (*lost)(void *userdata); /* no sign of life for the watchdog's time, or it asked for its end */
} NotifyEvents;

/* path: of a socket to be made. watchdog_usec: UINT64_MAX: none; it begins to run now. Errors: -ENAMETOOLONG, and those
 * of socket(2) and bind(2). */
int notify_new(Notify **ret, sd_event *event, const char *path, uint64_t watchdog_usec,
    const NotifyEvents *events, void *userdata);
Notify *notify_free(Notify *n); /* returns NULL; NULL is fine */

const char *notify_path(const Notify *n);

/* While its program stands still, the watchdog does, too. */
void notify_hold(Notify *n, bool hold);

/* The program has ended: reads what it said last, and removes the socket. */
void notify_close(Notify *n);

/* What was said last; progress < 0, status "": nothing. True: it is new since notify_told(). */
bool notify_said(const Notify *n, double *ret_progress, const char **ret_status);
void notify_told(Notify *n, bool told); /* false: it was not, after all */
