# SPDX-License-Identifier: MIT
"""What is in the packages."""

import os

import pytest

from system.conftest import ROOT, output

pytestmark = pytest.mark.xdist_group("packages")
# The packages' own: where each of them keeps what its distribution wants to be told.
OWN = ("/usr/share/doc/", "/usr/share/lintian/")


@pytest.fixture(scope="session")
def rpm(deb: str) -> str:
    """PGMILL_RPM: one that is there already."""
    return os.environ.get("PGMILL_RPM") or output(ROOT / "packaging/rpm/build")


def test_the_rpm_holds_what_the_deb_holds(deb: str, rpm: str) -> None:
    in_deb = {}
    for line in output("dpkg-deb", "-c", deb).splitlines():
        mode, owner, *_, path = line.split()
        if mode[0] == "-" and not path[1:].startswith(OWN):
            in_deb[path[1:]] = (mode, owner)
    in_rpm = {}
    for line in output("rpm", "-qplv", rpm).splitlines():
        mode, _, user, group, *_, path = line.split()
        if mode[0] == "-" and not path.startswith(OWN):
            in_rpm[path.replace("/zsh/site-functions/", "/zsh/vendor-completions/")] = (mode, f"{user}/{group}")
    assert in_rpm == in_deb and "/usr/bin/pgmill" in in_rpm
    assert "/etc/pgmill/tasks.d" in output("rpm", "-qpl", rpm).splitlines()


def test_the_rpm_says_what_is_linked_in(rpm: str) -> None:
    provides = output("rpm", "-qp", "--provides", rpm)
    for library in ("libpq", "openssl", "libmicrohttpd", "libsystemd", "libc"):
        assert f"bundled({library}) = " in provides
    assert "rtld" not in output("rpm", "-qp", "--requires", rpm)


def test_rpmlint_is_content(rpm: str) -> None:
    said = output("rpmlint", "-c", ROOT / "packaging/rpm/rpmlint.toml", rpm, ROOT / "packaging/rpm/pgmill.spec")
    assert " 0 errors, 0 warnings" in said
