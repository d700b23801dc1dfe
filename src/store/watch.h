/* SPDX-License-Identifier: MIT */
#pragma once
#include "base/id.h"
#include "store/db.h"
int watch_begin(Db *db, Id api, DbCallback callback, void *userdata);
int watch_renew(Db *db, Id api, DbCallback callback, void *userdata);
int watch_end(Db *db, Id api, DbCallback callback, void *userdata);
