# SPDX-License-Identifier: MIT
"""Two hosts on a network of their own, workers on both, and one database; then one of them is cut off."""

import contextlib
import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from system.conftest import root_of
from system.machine import Machine, Network, eventually

pytestmark = pytest.mark.xdist_group("two")
ADDRESSES = {"one": "10.77.0.1", "two": "10.77.0.2"}
URL = "host=db.test dbname=pgmill user=pgmill password=two-hosts sslmode=verify-full sslrootcert=/etc/pgmill/ca.crt"


class Hosts(NamedTuple):
    one: Machine
    two: Machine
    network: Network


@pytest.fixture(scope="module")
def hosts(containers: None, deb: str) -> Iterator[Hosts]:
    """The database is on the first; the second reaches it over TLS and checks its certificate."""
    with contextlib.ExitStack() as stack:
        network = Network()
        stack.callback(network.close)
        machines = []
        for name, address in ADDRESSES.items():
            machine = Machine(root_of("trixie"), name, network)
            stack.callback(machine.close)
            network.link(name, "up")
            machine.run(f"ip address add {address}/24 dev host0; ip link set host0 up; hostname {name}; "
                        f"echo {ADDRESSES['one']} db.test >>/etc/hosts")
            machine.install(deb)
            machine.write("/usr/local/bin/beat", "#!/bin/sh\nwhile :; do read -r up rest </proc/uptime; echo $up >&2; "
                          "sleep 0.1; done\n", 0o755)
            machine.write("/etc/pgmill/tasks.d/beat.conf", "[Task]\nExec=/usr/local/bin/beat\n")
            machine.write("/etc/pgmill/tasks.d/where.conf", "[Task]\nExec=/bin/hostname\n")
            # Short: a fence after 10 s, and a rescue after 15 s.
            for worker in "1", "2":
                machine.write(f"/etc/pgmill/worker@{worker}.conf", f"PGMILL_GRACE=15s\nPGMILL_QUEUES=default,{name}\n")
            machines.append(machine)
        one, two = machines
        one.run("""cd /etc/postgresql/17/main
            openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=db.test -addext subjectAltName=DNS:db.test \
                -keyout server.key -out server.crt 2>/dev/null
            chown postgres server.*
            printf '%s\\n' "listen_addresses = '10.77.0.1'" "ssl_cert_file = '$PWD/server.crt'" \
                "ssl_key_file = '$PWD/server.key'" >conf.d/two.conf
            echo 'hostssl pgmill pgmill 10.77.0.0/24 scram-sha-256' >>pg_hba.conf
            systemctl restart postgresql.service
            pgmill setup""")
        one.sql("ALTER ROLE pgmill PASSWORD 'two-hosts'")
        two.write("/etc/pgmill/ca.crt", one.out("cat /etc/postgresql/17/main/server.crt"))
        two.run(f"systemctl stop postgresql.service; pgmill setup --url '{URL}'")
        yield Hosts(one, two, network)


def workers(machine: Machine) -> dict[str, int]:
    """How many each host has that serve, as this host tells."""
    found: dict[str, int] = {}
    for worker in map(json.loads, machine.out("pgmill workers --json", user="pgmill").splitlines()):
        if worker["status"] == "ACTIVE":
            found[worker["host"]] = found.get(worker["host"], 0) + 1
    return found


def submit(machine: Machine, name: str, queue: str) -> str:
    """By the API of that host."""
    body = json.dumps({"name": name, "queue": queue})
    return json.loads(machine.out("curl -fsS localhost:8000/api/tasks/ -H 'Content-Type: application/json' "
                                  f"-d '{body}'"))["id"]


def task(machine: Machine, id: str) -> dict:
    # The API of a host that was cut off may yet have to find out that a session of it is gone: 503, try again.
    return json.loads(machine.out(f"curl -fsS --retry 5 localhost:8000/api/tasks/{id}"))


def beats(machine: Machine, id: str) -> list[float]:
    """When the program said that it was running there; both hosts have the same kernel, and so the same clock."""
    return [float(line) for line in machine.journal(f"PGMILL_TASK={id}").splitlines() if line.replace(".", "", 1).isdigit()]


def runs(machine: Machine) -> bool:
    return machine.run("pgrep -f '[/]usr/local/bin/beat'", check=False).returncode == 0


def test_either_api_serves_tasks_of_either_host(hosts: Hosts) -> None:
    for machine in hosts.one, hosts.two:
        eventually(lambda: workers(machine) == {"one": 2, "two": 2})
        for where in "one", "two":
            id = submit(machine, "where", where)
            done = eventually(lambda: (t := task(machine, id))["status"] == "COMPLETED" and t)
            assert done["result"] == where
    assert hosts.one.sql("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                         "WHERE client_addr IS NOT NULL") == "t"


def test_a_host_that_is_cut_off_ends_its_task_before_it_runs_elsewhere(hosts: Hosts) -> None:
    one, two, network = hosts
    one.run("systemctl stop 'pgmill-worker@*.service'")
    id = submit(two, "beat", "default")
    eventually(lambda: task(one, id)["status"] == "RUNNING" and beats(two, id))
    one.run("systemctl start pgmill-worker@1.service pgmill-worker@2.service")
    network.link("two", "down")
    eventually(lambda: beats(one, id), within=90)
    assert not runs(two) and max(beats(two, id)) < min(beats(one, id))
    assert "No sign of life reached the database" in two.journal("-u 'pgmill-worker@*.service'")
    again = task(one, id)
    assert again["status"] == "RUNNING" and again["attempt"] >= 2, again
    assert workers(one) == {"one": 2}

    network.link("two", "up")
    eventually(lambda: workers(one) == {"one": 2, "two": 2})
    assert runs(one) and not runs(two)
    where = submit(two, "where", "two")
    eventually(lambda: task(one, where)["status"] == "COMPLETED")
    one.run(f"curl -fsS -X PATCH localhost:8000/api/tasks/{id}/cancel")
    eventually(lambda: task(two, id)["status"] == "CANCELLED" and not runs(one))
