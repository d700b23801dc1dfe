/* SPDX-License-Identifier: MIT */
/*
 * Debian's libpq.a is built with Kerberos and LDAP, neither of which exists as a static library there. This
 * file answers for both: every entry says "not supported" in the way its caller expects, so that libpq
 * reports a clean error and never gets far enough to use a credential, a context or a directory that does not
 * exist.
 *
 * Contract: exactly the symbols libpq refers to, with the shapes and values of RFC 2744 and RFC 1823. Nothing
 * is allocated, every output is set to "none", nothing is ever freed by the caller. A symbol that a future
 * libpq asks for is missing here and breaks the link, which is wanted: someone has to decide what it answers.
 *
 * What users see: gssencmode=prefer connects without Kerberos; gssencmode=require, a server that insists on
 * gss and an ldap:// line in a service file fail with an error.
 */
#include <stddef.h>
#include <stdint.h>

/* Kerberos (GSSAPI) */

#define GSS_S_COMPLETE    UINT32_C(0)
#define GSS_S_UNAVAILABLE (UINT32_C(16) << 16)
#define GSS_C_GSS_CODE    1

typedef struct Buffer {
    size_t length;
    void *value;
} Buffer;

const void *const GSS_C_NT_HOSTBASED_SERVICE = NULL;

static uint32_t unavailable(uint32_t *ret_minor) {
    *ret_minor = 0;
    return GSS_S_UNAVAILABLE;
}

static uint32_t nothing_to_free(uint32_t *ret_minor) {
    *ret_minor = 0;
    return GSS_S_COMPLETE;
}

uint32_t gss_acquire_cred(uint32_t *ret_minor, void *name, uint32_t lifetime, void *mechanisms, int usage,
    void **ret_credential, void **ret_mechanisms, uint32_t *ret_lifetime) {
    *ret_credential = NULL;
    return unavailable(ret_minor);
}

uint32_t gss_release_cred(uint32_t *ret_minor, void **credential) {
    return nothing_to_free(ret_minor);
}

uint32_t gss_import_name(uint32_t *ret_minor, Buffer *text, void *type, void **ret_name) {
    *ret_name = NULL;
    return unavailable(ret_minor);
}

uint32_t gss_release_name(uint32_t *ret_minor, void **name) {
    return nothing_to_free(ret_minor);
}

/* libpq looks at the token even after a failure, hence its being empty. */
uint32_t gss_init_sec_context(uint32_t *ret_minor, void *credential, void **context, void *target,
    void *mechanism, uint32_t flags, uint32_t lifetime, void *bindings, Buffer *token_in,
    void **ret_mechanism, Buffer *ret_token, uint32_t *ret_flags, uint32_t *ret_lifetime) {
    *ret_token = (Buffer){};
    return unavailable(ret_minor);
}

uint32_t gss_delete_sec_context(uint32_t *ret_minor, void **context, Buffer *ret_token) {
    return nothing_to_free(ret_minor);
}

uint32_t gss_wrap(uint32_t *ret_minor, void *context, int confidential, uint32_t quality, Buffer *in,
    int *ret_confidential, Buffer *ret_out) {
    *ret_out = (Buffer){};
    return unavailable(ret_minor);
}

uint32_t gss_unwrap(uint32_t *ret_minor, void *context, Buffer *in, Buffer *ret_out, int *ret_confidential,
    uint32_t *ret_quality) {
    *ret_out = (Buffer){};
    return unavailable(ret_minor);
}

uint32_t gss_wrap_size_limit(uint32_t *ret_minor, void *context, int confidential, uint32_t quality,
    uint32_t size, uint32_t *ret_limit) {
    *ret_limit = 0;
    return unavailable(ret_minor);
}

/* libpq asks for the text of the routine's status first and of the mechanism's next: one sentence for both is
 * enough. */
uint32_t gss_display_status(
    uint32_t *ret_minor, uint32_t status, int kind, void *mechanism, uint32_t *context, Buffer *ret_text) {
    static char text[] = "this executable has no Kerberos";

    *ret_text = (Buffer){};
    *context = 0;
    if (kind != GSS_C_GSS_CODE)
        return unavailable(ret_minor);

    *ret_text = (Buffer){ .length = sizeof text - 1, .value = text };
    *ret_minor = 0;
    return GSS_S_COMPLETE;
}

uint32_t gss_release_buffer(uint32_t *ret_minor, Buffer *buffer) {
    *buffer = (Buffer){};
    return nothing_to_free(ret_minor);
}

/* LDAP: without a session from ldap_init() the rest is never called; it fails all the same. */

#define LDAP_NOT_SUPPORTED 0x5c

void *ldap_init(const char *host, int port) {
    return NULL;
}

int ldap_set_option(void *session, int option, const void *value) {
    return -1;
}

int ldap_simple_bind(void *session, const char *name, const char *password) {
    return -1;
}

int ldap_result(void *session, int id, int all, void *timeout, void **ret_message) {
    *ret_message = NULL;
    return -1;
}

int ldap_search_st(void *session, const char *base, int scope, const char *filter, char **attributes,
    int attributes_only, void *timeout, void **ret_message) {
    *ret_message = NULL;
    return LDAP_NOT_SUPPORTED;
}

int ldap_count_entries(void *session, void *message) {
    return 0;
}

void *ldap_first_entry(void *session, void *message) {
    return NULL;
}

void **ldap_get_values_len(void *session, void *entry, const char *attribute) {
    return NULL;
}

void ldap_value_free_len(void **values) {}

int ldap_msgfree(void *message) {
    return 0;
}

int ldap_unbind(void *session) {
    return 0;
}

char *ldap_err2string(int error) {
    static char text[] = "this executable has no LDAP";

    return text;
}
