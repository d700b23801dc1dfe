# SPDX-License-Identifier: MIT
"""A database that another host seems to have: by TCP and TLS, at an address that is none of loopback's."""

import json
from collections.abc import Iterator

import pytest

from system.conftest import root_of
from system.machine import Machine, eventually

pytestmark = pytest.mark.xdist_group("apart")
ADDRESS = "192.0.2.1"  # RFC 5737
URL = "host=db.example.test user=pgmill dbname=pgmill password=secret sslmode=verify-full sslrootcert=/etc/pgmill/ca.crt"


@pytest.fixture(scope="module")
def apart(deb: str, containers: None) -> Iterator[Machine]:
    machine = Machine(root_of("trixie"), "apart")
    try:
        machine.install(deb)
        machine.run(f"""
            ip addr add {ADDRESS}/32 dev lo
            echo '{ADDRESS} db.example.test other.example.test' >>/etc/hosts
            cd /etc/postgresql/*/main
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=db.example.test \
                -addext subjectAltName=DNS:db.example.test -keyout server.key -out server.crt 2>/dev/null
            chown postgres server.key server.crt; chmod 600 server.key
            install -m 644 server.crt /etc/pgmill/ca.crt
            echo "listen_addresses = '{ADDRESS}'
                  ssl_cert_file = '$PWD/server.crt'
                  ssl_key_file = '$PWD/server.key'" >conf.d/apart.conf
            echo 'hostssl pgmill pgmill {ADDRESS}/32 scram-sha-256' >>pg_hba.conf
            systemctl restart 'postgresql@*.service'""")
        machine.sql("CREATE ROLE pgmill LOGIN PASSWORD 'secret'", "postgres")
        machine.sql("CREATE DATABASE pgmill OWNER pgmill", "postgres")
        yield machine
    finally:
        machine.close()


def test_setup_takes_a_database_elsewhere(apart: Machine) -> None:
    refused = apart.run("pgmill setup --url '" + URL.replace("db.", "other.") + "'", check=False)
    assert refused.returncode == 69 and "does not match host name" in refused.stderr
    said = apart.out(f"pgmill setup --url '{URL}'")
    assert "the server is who it says" in said and "pgmill is ready" in said
    assert "database.conf: written: workers may reach other hosts" in said
    assert apart.out("stat -c '%U:%G %a' /etc/pgmill/pgmill.conf") == "root:pgmill 640"
    again = apart.out("pgmill setup")
    assert "pgmill.conf: was there" in again and "database.conf: was there" in again and "restarted" not in again


def test_setup_restarts_what_runs_with_former_settings(apart: Machine) -> None:
    before = apart.show("pgmill-worker@1.service", "InvocationID")
    apart.run("touch /etc/pgmill/pgmill.conf")
    assert "warning  settings: " in apart.out("pgmill doctor")
    assert "pgmill-worker@1.service: restarted, since its settings are newer" in apart.out("pgmill setup")
    eventually(lambda: apart.show("pgmill-worker@1.service", "InvocationID") != before)
    eventually(lambda: "restarted" not in apart.out("pgmill setup --dry-run"))


def test_doctor_sees_workers_that_may_not_reach_the_database(apart: Machine) -> None:
    drop_in = "/etc/systemd/system/pgmill-worker@.service.d/database.conf"
    apart.run(f"mv {drop_in} /root; systemctl daemon-reload")
    try:
        assert "problem  network: pgmill-worker@1.service may not reach" in apart.run("pgmill doctor", check=False).stdout
    finally:
        apart.run(f"mv /root/database.conf {drop_in}; systemctl daemon-reload")


def test_tasks_run_without_a_database_on_this_host(apart: Machine) -> None:
    apart.write("/etc/pgmill/tasks.d/say.conf", '[Task]\nExec=/bin/echo "\\"elsewhere\\""\n')
    apart.run("systemctl reload 'pgmill-worker@*.service'")
    id = json.loads(apart.out("curl -sS localhost:8000/api/tasks/ -H 'Content-Type: application/json' "
                              """-d '{"name": "say"}'"""))["id"]
    assert eventually(lambda: apart.sql(f"SELECT status FROM pgmill.task WHERE id = '{id}'") == "COMPLETED")
    used = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'pgmill'"
    assert apart.sql(used) == "t"
    for unit in ("pgmill-api", "pgmill-worker@1", "pgmill-migrate", "pgmill-prune", "pgmill-schedule@x"):
        assert "postgresql.service" not in apart.show(f"{unit}.service", "Requires").split(), unit
    assert apart.show("pgmill-worker@1.service", "IPAddressDeny") == ""
    # HOME: as root has it at a login, and nobody else may enter it.
    for user, home in ("pgmill", "/"), ("root", "/root"):
        said = apart.out(f"HOME={home} pgmill doctor", user=user)
        assert not [line for line in said.splitlines() if line.startswith("problem")], said


def test_a_name_that_nobody_knows_yet_is_asked_for_again(apart: Machine) -> None:
    """As at boot, before the network is up: nothing waits for network-online.target."""
    units = "pgmill-migrate pgmill-api pgmill-worker@1"
    apart.run(f"cp /etc/hosts /root/hosts; echo 127.0.0.1 localhost >/etc/hosts; systemctl restart --no-block {units}")
    for unit in units.split():
        eventually(lambda: "cannot resolve" in apart.out(
            f"journalctl -q -o cat -u {unit} _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID {unit})"))
    apart.run("cp /root/hosts /etc/hosts")
    eventually(lambda: apart.show("pgmill-migrate", "ActiveState") == "active")
    served(apart)


def served(apart: Machine) -> None:
    id = eventually(lambda: apart.run("pgmill submit say", user="pgmill", check=False).stdout.strip())
    eventually(lambda: apart.sql(f"SELECT status FROM pgmill.task WHERE id = '{id}'") == "COMPLETED")


def test_a_boot_does_not_wait_for_the_database(apart: Machine) -> None:
    """Neither the address nor the server are there; systemd finishes it all the same."""
    apart.run("systemctl disable postgresql.service")
    apart.reboot()
    units = "pgmill-api.service", "pgmill-worker@1.service"
    assert [apart.show(unit, "ActiveState") for unit in units] == ["active"] * 2
    assert all("waiting for the database" in apart.show(unit, "StatusText") for unit in units)
    apart.run(f"ip addr add {ADDRESS}/32 dev lo; systemctl start postgresql.service")
    served(apart)
