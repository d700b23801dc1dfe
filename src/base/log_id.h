/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Lines of the log that the journal's catalogue explains (journalctl -x): their MESSAGE_ID=, 128 random bits each. What
 * one means never changes. Each has its entry in units/pgmill.catalog; a test compares both.
 */
#define LOG_ID_TASK_FAILED    "a423ae630839462d9d8dba248cdcf3c5" /* for good */
#define LOG_ID_DATABASE_LOST  "d25798ea6823426983144f7d4878bb01"
#define LOG_ID_UNPROVEN       "9c7fc0b8aa6048caa1f58817196b8e5d" /* no sign of life for 2/3 of the grace period */
#define LOG_ID_FENCED         "2fecd1ccd89f4f179546acd451de0914" /* tasks are no longer this worker's */
#define LOG_ID_WORKER_RESCUED "d244845868b34402b2e24202aba2b484" /* its tasks went back */
#define LOG_ID_HANDLER_RESTS  "ccf87b8bf17247a7a662f621162bc67b" /* its program cannot begin here */
#define LOG_ID_POOLER         "e7baf3100d1b4dbbac5bd00b54f8fa98"
#define LOG_ID_NOT_STORING    "355928c7e5f24fac947e1f16d9a4f798"
#define LOG_ID_SCHEMA_TOO_OLD "88206babf64f4c2786efd37a1bec37b7"
#define LOG_ID_SCHEMA_TOO_NEW "164fe279014d4a168ac35c3f21773c8c"
