/* SPDX-License-Identifier: MIT */
/* What has become of the services on this host. */
#include "base/service.h"
#include "main/doctor.h"

static CheckResult units_look(_unused_ const Check *self, _unused_ const CheckContext *c, Buf *found) {
    int n = service_failed_units("pgmill*", found);

    if (n < 0) {
        buf_printf(found, "systemd does not answer: %s", strerror(-n));
        return CHECK_UNSEEN;
    }
    buf_puts(found, n > 0 ? " failed" : "none has failed");
    return n > 0 ? CHECK_PROBLEM : CHECK_OK;
}

const Check unit_checks[] = {
    {
        .name = "units",
        .look = units_look,
        .remedy = "\"systemctl status\" and \"journalctl -u\" with its name say why; then systemctl restart",
    },
    {},
};
