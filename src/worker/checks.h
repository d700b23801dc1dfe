/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What "pgmill doctor" looks at on a host that runs tasks.
 */
#include "store/check.h"

extern const Check worker_checks[];
