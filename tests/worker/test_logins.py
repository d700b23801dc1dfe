# SPDX-License-Identifier: MIT
"""Services whose logins own nothing, and whose roles have settings that pgmill would not choose."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support.cluster import Cluster
from support.process import Process, eventually

from .conftest import Mill

HOSTILE = {
    "synchronous_commit": "off", "client_min_messages": "error", "idle_session_timeout": "300ms",
    "statement_timeout": "500ms", "lock_timeout": "1ms", "default_transaction_isolation": "serializable",
    "extra_float_digits": "-10", "bytea_output": "escape", "array_nulls": "off", "transform_null_equals": "on",
    "standard_conforming_strings": "off",
}


class Estate:
    """A database that one login owns, which has no other right, and a login each for API and worker."""

    def __init__(self, cluster: Cluster, pgmill: str) -> None:
        self.cluster = cluster
        for login in "owner", "web", "mill":
            cluster.admin.execute(f"CREATE ROLE {login} LOGIN")
        cluster.admin.execute("GRANT pgmill_api TO web; GRANT pgmill_worker TO mill")
        self.url = cluster.create("template1")
        cluster.admin.execute(f"GRANT CREATE ON DATABASE {psycopg.conninfo.conninfo_to_dict(self.url)['dbname']} TO owner")
        subprocess.run([pgmill, "migrate", "--database", self.of("owner")], check=True, stdout=subprocess.DEVNULL)
        self.db = psycopg.connect(self.url, autocommit=True)

    def of(self, login: str) -> str:
        return psycopg.conninfo.make_conninfo(self.url, user=login)

    def set(self, settings: dict[str, str]) -> None:
        for login in "web", "mill":
            for name, value in settings.items():
                self.cluster.admin.execute(f"ALTER ROLE {login} SET {name} = '{value}'")


@pytest.fixture
def estate(own_cluster: Cluster, pgmill: str) -> Iterator[Estate]:
    estate = Estate(own_cluster, pgmill)
    yield estate
    estate.db.close()


@pytest.fixture
def mill(estate: Estate, run: Callable[..., Process], folder: Path) -> Mill:
    return Mill(run, estate.of("mill"), estate.db, folder)


def backend(mill: Mill, name: str = "^pgmill-worker") -> int | None:
    row = mill.db.execute("SELECT pid FROM pg_stat_activity WHERE application_name ~ %s", [name]).fetchone()
    return row and row[0]


def test_services_need_no_more_than_their_groups(estate: Estate, mill: Mill, start_api: Callable[..., Any]) -> None:
    api = start_api(estate.of("web"))
    client = api.client()
    mill.handler("t", 'while [ ! -e "$J.go" ]; do sleep 0.05; done')
    worker = mill.start("w", "--grace", "3s")
    id = client.post({"name": "t", "unique_key": "k"}, Idempotency_Key="a").json["id"]
    mill.until(id, "RUNNING")
    former = backend(mill)
    mill.db.execute("SELECT pg_terminate_backend(%s)", [former])
    eventually(lambda: backend(mill) not in (None, former) and worker.log.count("Ready as worker") == 2)
    for verb, status in ("pause", "PAUSED"), ("resume", "RUNNING"):
        client.patch(f"/api/tasks/{id}/{verb}", expect=None)
        mill.until(id, status)
    worker.kill()
    eventually(lambda: mill.show(id)["status"] == "AVAILABLE")  # the API has rescued it
    mill.start("v")
    (mill.folder / "journal.go").touch()
    mill.ended(id)
    for path in ("/api/tasks/", f"/api/tasks/{id}", f"/api/tasks/{id}/log", "/api/queues/", "/api/workers/", "/api/stats",
                 "/metrics", "/readyz"):
        client.get(path)
    client.send("PUT", "/api/queues/mail", {"max_running": 1}, 201)
    assert "permission denied" not in api.process.log + worker.log


def test_a_worker_ends_its_former_session(estate: Estate) -> None:
    """One that its server takes for alive, since its end has not come through."""
    with psycopg.connect(estate.of("mill"), autocommit=True) as later:
        former = psycopg.connect(estate.of("mill"), autocommit=True)
        id = former.execute("SELECT pgmill.uuid_v7()").fetchone()[0]
        former.execute("SELECT pgmill.register(%s, 'w', 'h', 1, '0', '30 s', '{default}', '{t}')", [id])
        assert later.execute("SELECT pgmill.attach(%s) FROM pgmill.end_former(%s)", [id, id]).fetchone() == (True,)
        with pytest.raises(psycopg.OperationalError):
            former.execute("SELECT 1")


def test_settings_of_a_role_change_no_promise(estate: Estate, mill: Mill, start_api: Callable[..., Any]) -> None:
    estate.set(HOSTILE)
    api = start_api(estate.of("web"))
    client = api.client()
    mill.handler("t", "sleep 1; echo '{\"a\": null}'")
    worker = mill.start()
    id = client.post({"name": "t", "timeout": 1234567.891234, "tags": ["null", "\\x41"]}).json["id"]
    task = client.get(f"/api/tasks/{id}?wait=20").json
    assert (task["status"], task["timeout"], task["tags"]) == ("COMPLETED", 1234567.891234, ["null", "\\x41"])
    sessions = "SELECT pid FROM pg_stat_activity WHERE usename IN ('web', 'mill') ORDER BY 1"
    before = mill.db.execute(sessions).fetchall()
    idle = "SELECT true FROM pg_stat_activity WHERE usename = 'web' AND now() - state_change > '1 s'"
    eventually(lambda: mill.db.execute(idle).fetchone())
    assert mill.db.execute(sessions).fetchall() == before
    assert "lost" not in (api.process.log + worker.log).lower()


TRAPS = """
CREATE SCHEMA trap; GRANT USAGE ON SCHEMA trap TO PUBLIC; GRANT USAGE ON SCHEMA pgmill TO mill;
DO $$
DECLARE
  made text;
BEGIN
  FOR made IN
    SELECT format('CREATE FUNCTION trap.%I(%s) RETURNS %s LANGUAGE plpgsql AS $t$ BEGIN RAISE ''trapped %s''; END $t$',
                  proname, pg_get_function_identity_arguments(oid), prorettype::regtype, proname)
    FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND NOT proretset AND proname = ANY
      ('{set_config,current_setting,pg_backend_pid,pg_terminate_backend,pg_cancel_backend,to_regclass,to_regrole,unnest,
         to_regnamespace,pg_get_userbyid,clock_timestamp,pg_advisory_lock,encode,string_to_array,has_schema_privilege}')
  LOOP
    EXECUTE made;
  END LOOP;
END
$$;
CREATE FUNCTION public.greet(payload jsonb) RETURNS text LANGUAGE sql AS $$ SELECT 'hello ' || (payload ->> 0) $$;
"""


def test_who_owns_the_database_does_not_choose_what_sessions_call(
        estate: Estate, mill: Mill, start_api: Callable[..., Any], pgmill: str) -> None:
    """Nor those of a superuser; but for the statements of handlers, which are the application's."""
    estate.db.execute(TRAPS)
    estate.db.execute(f"ALTER DATABASE {estate.db.info.dbname} SET search_path = trap, pg_catalog, public")
    api = start_api(estate.of("web"))
    mill.conf("greet", Mode="sql", Sql="SELECT greet($1)")
    mill.handler("t", "echo 7")
    worker = mill.start()
    for name, result in ("t", 7), ("greet", "hello world"):
        id = api.client().post({"name": name, "payload": ["world"]}).json["id"]
        assert api.client().get(f"/api/tasks/{id}?wait=20").json["result"] == result
    for verb in "migrate", "doctor", "stats":
        ended = subprocess.run([pgmill, verb, "--database", estate.url], capture_output=True, text=True)
        assert "trapped" not in ended.stdout + ended.stderr
    assert "trapped" not in api.process.log + worker.log


def test_what_was_acknowledged_survives_a_crash_whatever_the_role_says(
        estate: Estate, start_api: Callable[..., Any]) -> None:
    estate.cluster.configure(wal_writer_delay="10s")
    estate.set({"synchronous_commit": "off"})
    client = start_api(estate.of("web")).client()
    acknowledged = {client.post({"name": "t"}).json["id"] for _ in range(20)}
    estate.cluster.crash()
    estate.cluster.start()
    with psycopg.connect(estate.url) as db:
        stored = {str(id) for id, in db.execute("SELECT id FROM pgmill.tasks")}
    assert acknowledged - stored == set()
