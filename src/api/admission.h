/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * How many connections each other machine has, so that no single one can have them all. An IPv6 address counts with
 * its 64 neighbouring bits, which are one subscriber's to choose. This machine is not counted: everybody on it is one
 * address, and so is a proxy in front. Knows addresses and numbers.
 */
#include <sys/socket.h>

#include "base/util.h"

typedef struct AdmissionAddress AdmissionAddress;

typedef struct Admission {
    size_t address_max; /* may be changed at any time; who is in stays */
    AdmissionAddress *buckets[256];
} Admission;

/* False: its address has as many as it may have. */
bool admission_allows(const Admission *a, const struct sockaddr *address);

/* Counts one more. *ret: to be given back with admission_leave(); NULL if it is not counted. -ENOMEM. */
int admission_enter(Admission *a, const struct sockaddr *address, AdmissionAddress **ret);
void admission_leave(Admission *a, AdmissionAddress *address);

/* "192.0.2.1", "2001:db8::1"; returns buf. */
#define ADMISSION_TEXT_SIZE 64
const char *admission_text(const struct sockaddr *address, char buf[static ADMISSION_TEXT_SIZE]);
