# SPDX-License-Identifier: MIT
"""The Debian package over a machine's life: upgraded under load, removed, installed again, purged. After test_services.py."""

import pathlib

from system.machine import Machine, eventually

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_upgrade_under_load(mill: Machine) -> None:
    mill.sql("SELECT count(pgmill.submit('brief', queue => 'default')) FROM generate_series(1, 100)")
    before = mill.show("pgmill-worker@1.service", "MainPID")
    client = mill.start("/bin/sh", "-c", "while ! test -e /run/upgraded; do curl -sS -o /dev/null -w '%{http_code}\\n' "
                        "-m 20 localhost:8000/healthz; done")
    mill.run("dpkg -i /root/pgmill.deb")
    eventually(lambda: mill.show("pgmill-worker@1.service", "MainPID") not in (before, "0"))
    mill.run("touch /run/upgraded")
    assert client.wait(30) == 0 and client.stdout
    assert set(client.stdout.read().split()) == {"200"}
    eventually(lambda: mill.sql("SELECT DISTINCT status FROM pgmill.task WHERE name = 'brief'") == "COMPLETED")
    assert mill.show("pgmill-api.service", "ActiveState") == "active"


def test_upgrade_waits_for_no_database(mill: Machine) -> None:
    """Which may be upgraded beside it, and come back after it."""
    units = "pgmill-api.service pgmill-worker@1.service pgmill-worker@2.service"
    before = [mill.show(unit, "InvocationID") for unit in units.split()]
    mill.run("systemctl stop postgresql.service 'postgresql@*.service'; dpkg -i /root/pgmill.deb")
    eventually(lambda: all(mill.show(unit, "InvocationID") not in ("", *before) for unit in units.split()))
    mill.run("systemctl start postgresql.service")
    eventually(lambda: mill.out("curl -sS -o /dev/null -w '%{http_code}' localhost:8000/readyz") == "200")
    eventually(lambda: all("slots busy" in mill.show(f"pgmill-worker@{name}", "StatusText") for name in "12"))


def test_remove_and_install_again(mill: Machine) -> None:
    mill.run("dpkg --remove pgmill")
    assert mill.out("systemctl list-units --no-legend --state=active 'pgmill-*'") == ""
    assert mill.run("test -e /usr/bin/pgmill -o -S /run/pgmill/api.sock", check=False).returncode == 1
    assert mill.run("test -e /etc/pgmill/tasks.d/hold.conf", check=False).returncode == 0
    mill.run("dpkg -i /root/pgmill.deb")
    eventually(lambda: mill.out("curl -sS -o /dev/null -w '%{http_code}' localhost:8000/readyz") == "200")
    eventually(lambda: mill.show("pgmill-worker@2.service", "ActiveState") == "active")


def test_an_upgrade_starts_nothing_that_was_stopped(mill: Machine) -> None:
    mill.run("systemctl stop pgmill-worker@2.service; dpkg -i /root/pgmill.deb")
    assert mill.show("pgmill-worker@2.service", "ActiveState") == "inactive"
    mill.run("systemctl start pgmill-worker@2.service")


def test_purge_keeps_what_people_and_tasks_made(mill: Machine) -> None:
    made = ("/etc/pgmill/tasks.d/hold.conf", "/etc/pgmill/worker@mine.conf", "/etc/systemd/system/pgmill-worker@1.service.d/mine.conf",
            "/etc/credstore/pgmill.tokens", "/var/lib/pgmill/report.csv")
    for path in made:
        mill.run(f"install -D -m 600 /dev/stdin {path} <<END\n[Unit]\nEND")
    mill.run("chown pgmill: /var/lib/pgmill/report.csv; systemctl daemon-reload")
    said = mill.out("dpkg --purge pgmill")
    mill.run(" && ".join(f"test -e {path}" for path in made))
    for path in "/etc/pgmill", "/var/lib/pgmill", "/etc/credstore/pgmill.tokens", "/etc/systemd/system/pgmill-worker@1.service.d":
        assert path in said.split("not removed", 1)[1]
    assert mill.out("stat -c %U /var/lib/pgmill/report.csv") == "pgmill"
    assert mill.run("test -e /etc/pgmill/pgmill.conf -o -e /etc/systemd/system/pgmill.target.wants", check=False).returncode == 1
    mill.run("rm -r /etc/pgmill /var/lib/pgmill/* /etc/credstore/pgmill.tokens /etc/systemd/system/pgmill*.d; dpkg -i /root/pgmill.deb; "
             "pgmill setup")


def test_purge_leaves_nothing_but_the_database(mill: Machine) -> None:
    mill.run("usermod --append --groups pgmill daemon")
    mill.write("/etc/systemd/system/pgmill-report.service", "[Service]\nExecStart=/bin/true\n")
    mill.run("dpkg --purge pgmill; rm /etc/systemd/system/pgmill-report.service")
    assert mill.out("find / -xdev -name '*pgmill*' -not -path '/proc/*' -not -path '/root/*'"
                    " -not -path '/var/lib/postgresql/*' -not -path '/sys/*'") == ""
    for kind in "passwd", "group":
        assert mill.run(f"getent {kind} pgmill", check=False).returncode == 2
    assert mill.out("systemctl list-units --all --no-legend 'pgmill*'") == ""
    assert int(mill.sql("SELECT count(*) FROM pgmill.task")) > 100


def test_autopkgtest(mill: Machine) -> None:
    """Where it is not installed, what it runs. A former life of the package has left a database."""
    for name in "control", "changelog", "tests/control", "tests/lifecycle":
        mill.run(f"mkdir -p $(dirname /root/source/debian/{name})")
        mill.copy(str(ROOT / "packaging/deb/debian" / name), f"/root/source/debian/{name}")
    if mill.run("command -v autopkgtest", check=False).returncode:
        mill.run("dpkg -i /root/pgmill.deb; sh /root/source/debian/tests/lifecycle")
        return
    # The source counts as built, and there is no mirror to ask.
    mill.run("touch /root/source/debian/files; rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*")
    # Status 0: every test passed, and none was skipped.
    mill.run("autopkgtest --ignore-restrictions=isolation-machine,breaks-testbed /root/pgmill.deb /root/source -- null", within=300)
