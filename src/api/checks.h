/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What "pgmill doctor" looks at of the REST API.
 */
#include "store/check.h"

extern const Check api_checks[];
