/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What an answer says when it is no: RFC 9457 problem documents, one row of a table each kind. The type is a
 * reference to that row's description, served at /docs/problems.
 */
#include "api/fields.h"
#include "api/http.h"

typedef enum Problem {
    PROBLEM_BAD_REQUEST,      /* 400 */
    PROBLEM_INVALID_JSON,     /* 400 */
    PROBLEM_UNAUTHORIZED,     /* 401 */
    PROBLEM_FORBIDDEN,        /* 403 */
    PROBLEM_NO_SUCH_RESOURCE, /* 404 */
    PROBLEM_NO_SUCH_TASK,     /* 404 */
    PROBLEM_METHOD,           /* 405 */
    PROBLEM_TIMEOUT,          /* 408 */
    PROBLEM_TASK_ENDED,       /* 409 */
    PROBLEM_TASK_RUNNING,     /* 409 */
    PROBLEM_UNIQUE_KEY,       /* 409 */
    PROBLEM_KEY_IN_FLIGHT,    /* 409 */
    PROBLEM_KEY_MISMATCH,     /* 422 */
    PROBLEM_NO_SUCH_QUEUE,    /* 404 */
    PROBLEM_QUEUE_USED,       /* 409 */
    PROBLEM_NO_SUCH_WORKER,   /* 404 */
    PROBLEM_TASK_LOCKED,      /* 409 */
    PROBLEM_TOO_LARGE,        /* 413 */
    PROBLEM_MEDIA_TYPE,       /* 415 */
    PROBLEM_WRONG_HOST,       /* 421 */
    PROBLEM_INVALID_FIELDS,   /* 422 */
    PROBLEM_INTERNAL,         /* 500 */
    PROBLEM_BUSY,             /* 503 */
    PROBLEM_NO_DATABASE,      /* 503 */
    PROBLEM_OUTCOME_UNKNOWN,  /* 504 */
    _PROBLEM_MAX,
} Problem;

/* Answers r. detail: what happened and what would help, in a sentence. */
void problem_answer(HttpRequest *r, Problem kind, const char *format, ...) _printf_(3, 4);

/* 409 PROBLEM_UNIQUE_KEY, with the Location of the task that holds the key; holder: its id, NULL if unknown. places: of a
 * bulk, the JSON array of the elements whose keys are taken, and list: what stands before an element in the name of a
 * field, "tasks/"; NULL. */
void problem_answer_unique(HttpRequest *r, const char *holder, const char *list, const char *places);

/* 405 with the header Allow. */
void problem_answer_method(HttpRequest *r, const char *allow);

/* 401 with WWW-Authenticate (RFC 6750, section 3). shown: what the request had in Authorization; NULL: nothing. */
void problem_answer_unauthorized(HttpRequest *r, const char *shown);

/* 403 for a token, by its name, that lacks a scope. */
void problem_answer_forbidden(HttpRequest *r, const char *token, const char *scope);

/* 422 (or 400 PROBLEM_INVALID_JSON) with the complaints as its member "errors". */
void problem_answer_fields(HttpRequest *r, Problem kind, const Fields *fields);

/* For a single one. */
void problem_answer_field(HttpRequest *r, const char *field, const char *format, ...) _printf_(3, 4);

/* Appends the document alone, for HttpEvents.late. */
void problem_write_timeout(Buf *body);

/* Answers r with the page that describes all kinds. */
void problem_answer_page(HttpRequest *r);
