/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the configuration says, for the API: hosts, tokens and limits, at start and whenever it is read again.
 */
#include "api/context.h"

/*
 * The tokens, if Tokens= names a file; *ret_asked: it does. Errors: as tokens_load(), logged.
 */
int settings_tokens(const Config *config, Tokens *ret, bool *ret_asked);

/* AllowedHosts=, BasePath= can be used. -EINVAL: it cannot; logged. */
int settings_hosts(const Config *config);
int settings_base(const Config *config);

HttpLimits settings_limits(const Api *api);

/* Reads configuration and tokens again; keeps all as it was, and logs why, when something is wrong with them. */
void settings_reload(Api *api);
