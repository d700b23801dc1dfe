# SPDX-License-Identifier: MIT
"""Who may do what in the database: members of each group do its work, and nothing else."""

import contextlib
import subprocess
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from support.cluster import Cluster

from .conftest import Mill

GROUPS = ["submit", "read", "operate", "sql", "api", "worker"]


@pytest.fixture
def member(mill: Mill, database: str) -> Iterator[Callable[..., psycopg.Connection]]:
    """member("submit"): the session of a login that is in pgmill_submit, and has no other right."""
    logins: list[tuple[str, psycopg.Connection]] = []

    def member(*groups: str) -> psycopg.Connection:
        login = f"app_{uuid.uuid4().hex[:8]}"
        mill.db.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(login)))
        for group in groups:
            mill.db.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(f"pgmill_{group}"), sql.Identifier(login)))
        logins.append((login, psycopg.connect(make_conninfo(database, user=login), autocommit=True)))
        return logins[-1][1]

    yield member
    for login, session in logins:
        session.close()
        mill.db.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(login)))


def refused(session: psycopg.Connection, query: str, *parameters: Any) -> bool:
    try:
        session.execute(query, parameters or None)
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


# ---- every object has been decided on ----

def test_every_function_and_relation_has_been_decided_on(mill: Mill) -> None:
    """Red: a new one needs a row in pgmill.rights() (sql/functions/rights.sql), or is a table for the owner alone."""
    undecided = mill.db.execute(
        "WITH decided AS (SELECT kind = 'look' AS relation, unnest(string_to_array(names, ' ')) AS name FROM pgmill.rights()),"
        " there AS (SELECT false AS relation, proname AS name FROM pg_proc WHERE pronamespace = 'pgmill'::regnamespace"
        "  UNION SELECT true, relname FROM pg_class WHERE relnamespace = 'pgmill'::regnamespace AND relkind = 'v')"
        " SELECT name FROM there EXCEPT SELECT name FROM decided"
        " UNION ALL SELECT name FROM decided WHERE NOT relation EXCEPT SELECT name FROM there").fetchall()
    assert undecided == []


def test_a_name_is_decided_on_once(mill: Mill) -> None:
    assert mill.db.execute(
        "SELECT name FROM (SELECT kind = 'look', unnest(string_to_array(names, ' ')) AS name FROM pgmill.rights()) d"
        " GROUP BY 1, d HAVING count(*) > 1").fetchall() == []


def test_the_public_may_do_nothing(mill: Mill, member: Callable[..., psycopg.Connection]) -> None:
    session = member()
    assert session.execute("SELECT proname FROM pg_proc WHERE pronamespace = 'pgmill'::regnamespace"
                           " AND has_function_privilege(oid, 'EXECUTE')").fetchall() == []
    assert session.execute("SELECT relname FROM pg_class WHERE relnamespace = 'pgmill'::regnamespace AND CASE"
                           " WHEN relkind = 'S' THEN has_sequence_privilege(oid, 'USAGE, SELECT, UPDATE') WHEN relkind IN ('r', 'v')"
                           " THEN has_table_privilege(oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER') END"
                           ).fetchall() == []
    assert refused(session, "SELECT pgmill.submit('t')")


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_has_what_was_decided_and_nothing_else(mill: Mill, member: Callable[..., psycopg.Connection],
                                                       group: str) -> None:
    session = member(group)
    may = {name for name, in session.execute(
        "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'pgmill'::regnamespace"
        " AND has_function_privilege(oid, 'EXECUTE')")}
    decided = {name for groups, names in mill.db.execute("SELECT groups, names FROM pgmill.rights() WHERE kind <> 'look'")
               if group in groups.split() for name in names.split()}
    assert may == decided
    relations = session.execute(
        "SELECT relname, has_table_privilege(oid, 'SELECT'),"
        " has_table_privilege(oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')"
        " FROM pg_class WHERE relnamespace = 'pgmill'::regnamespace AND relkind IN ('r', 'v')").fetchall()
    looks = {name for groups, names in mill.db.execute("SELECT groups, names FROM pgmill.rights() WHERE kind = 'look'")
             if group in groups.split() for name in names.split()}
    assert {name for name, select, _ in relations if select} == looks & {name for name, _, _ in relations}
    assert [name for name, _, write in relations if write] == []
    assert not session.execute("SELECT has_sequence_privilege('pgmill.lock_keys', 'USAGE, SELECT, UPDATE')").fetchone()[0]


def test_what_acts_with_the_owners_rights_keeps_to_its_search_path(mill: Mill) -> None:
    assert mill.db.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'pgmill'::regnamespace AND prosecdef"
        " AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)").fetchall() == []


# ---- each group at work ----

def test_an_application_submits_in_its_own_transaction(mill: Mill, member: Callable[..., psycopg.Connection]) -> None:
    worker = mill.worker()
    worker.call("listen")
    worker.sleep()
    mill.db.execute("SELECT pgmill.watch(pgmill.uuid_v7())")
    app = member("submit")
    with contextlib.suppress(ZeroDivisionError), app.transaction():
        app.execute("SELECT pgmill.submit('t')")
        1 / 0
    with app.transaction():
        id, = app.execute("SELECT pgmill.submit('t', '{\"n\": 1}', priority => 'HIGH', tags => '{a}')").fetchone()
    assert mill.db.execute("SELECT id, status FROM pgmill.task").fetchall() == [(id, "AVAILABLE")]
    assert worker.called() == 1
    assert refused(app, "SELECT pgmill.cancel(%s)", id)
    assert refused(app, "SELECT FROM pgmill.task")
    assert refused(app, "INSERT INTO pgmill.tasks SELECT")


def test_the_verbs_need_no_more_than_their_groups(pgmill: str, mill: Mill, member: Callable[..., psycopg.Connection]) -> None:
    def run(group: str, verb: str, *arguments: str) -> tuple[int, str]:
        url = f"postgresql:///{mill.db.info.dbname}?host={mill.db.info.host}&user={logins[group]}"
        ended = subprocess.run([pgmill, verb, "--database", url, *arguments], capture_output=True, text=True)
        return ended.returncode, ended.stdout.strip() or ended.stderr

    logins = {group: member(group).info.user for group in ("submit", "read", "operate")}
    status, id = run("submit", "submit", "t", "--unique-key", "k", "--tags", "a,b", "--timeout", "90s")
    assert status == 0, id
    for verb, argument in ("show", [id]), ("list", []), ("queues", []), ("workers", []), ("stats", []):
        status, output = run("read", verb, *argument)
        assert status == 0, output
    for verb in "pause", "resume", "cancel", "retry":
        status, output = run("operate", verb, id)
        assert status == 0, output
    assert "permission denied" in run("read", "cancel", id)[1]


def test_a_reader_reads_and_changes_nothing(mill: Mill, member: Callable[..., psycopg.Connection]) -> None:
    id, reader = mill.submit("t"), member("read")
    assert reader.execute("SELECT id, status FROM pgmill.task").fetchall() == [(id, "AVAILABLE")]
    for query in ("SELECT * FROM pgmill.show_queues(NULL)", "SELECT * FROM pgmill.show_workers(NULL)",
                  "SELECT * FROM pgmill.show_stats('0')", "SELECT * FROM pgmill.metrics('0')", "TABLE pgmill.tally"):
        assert reader.execute(query).fetchall()
    assert refused(reader, "SELECT pgmill.submit('t')")
    assert refused(reader, "SELECT pgmill.pause(%s)", id)
    assert refused(reader, "SELECT FROM pgmill.tasks")


def test_an_operator_steers_and_submits_nothing(mill: Mill, member: Callable[..., psycopg.Connection]) -> None:
    id, operator = mill.submit("t"), member("operate")

    def call(query: str, *parameters: Any) -> Any:
        return operator.execute(query, parameters).fetchone()[0]

    for verb, status in ("pause", "PAUSED"), ("resume", "AVAILABLE"), ("cancel", "CANCELLED"), ("retry", "AVAILABLE"):
        assert call(f"SELECT pgmill.{verb}(%s)", id) == "done"
        assert call("SELECT status FROM pgmill.task WHERE id = %s", id) == status
    assert call("SELECT verdict FROM pgmill.put_queue('default', true, 3)") == "created"
    assert call("SELECT verdict FROM pgmill.quiet(%s)", mill.worker().id) == "done"
    assert refused(operator, "SELECT pgmill.submit('t')")
    assert refused(operator, "UPDATE pgmill.queues SET paused = false")


def test_rights_that_somebody_gave_stay(mill: Mill, member: Callable[..., psycopg.Connection]) -> None:
    app = member()
    login = sql.Identifier(app.info.user)
    mill.db.execute(sql.SQL("GRANT USAGE ON SCHEMA pgmill TO {0}; GRANT EXECUTE ON FUNCTION pgmill.uuid_v7 TO {0}").format(login))
    assert mill.value("SELECT pgmill.set_rights()") == 0
    assert app.execute("SELECT pgmill.uuid_v7()").fetchone()
    mill.db.execute(sql.SQL("DROP OWNED BY {}").format(login))


# ---- how the groups come to be ----

def migrate(pgmill: str, url: str) -> list[str]:
    return subprocess.run([pgmill, "migrate", "--database", url], check=True, capture_output=True, text=True).stdout.splitlines()


def has_roles(db: psycopg.Connection) -> bool:
    return bool(db.execute("SELECT to_regrole('pgmill_worker')").fetchone()[0])


@pytest.fixture
def bare(own_cluster: Cluster) -> Cluster:
    """Without the groups, and with a login that may make no role."""
    roles = ", ".join(f"pgmill_{group}" for group in GROUPS)
    with psycopg.connect(own_cluster.template, autocommit=True) as db:
        db.execute(f"DROP OWNED BY {roles}; DROP ROLE {roles}")
    own_cluster.admin.execute("CREATE ROLE app LOGIN; CREATE ROLE owner LOGIN")
    return own_cluster


def test_an_owner_that_may_not_make_roles_goes_without_until_they_are_there(pgmill: str, bare: Cluster) -> None:
    url = bare.create("template1")
    bare.admin.execute(f"GRANT CREATE ON DATABASE {conninfo_to_dict(url)['dbname']} TO owner")
    own = make_conninfo(url, user="owner")

    def doctor() -> str:
        lines = subprocess.run([pgmill, "doctor", "--database", own], capture_output=True, text=True).stdout.splitlines()
        return next(line for line in lines if "rights:" in line)

    migrate(pgmill, own)
    with psycopg.connect(own, autocommit=True) as db:
        db.execute("SELECT pgmill.submit('t')")
        assert not has_roles(db)
    assert doctor().startswith("warning") and "pgmill_submit" in doctor() and "CREATE ROLE" in doctor()
    bare.admin.execute("; ".join(f"CREATE ROLE pgmill_{group}" for group in GROUPS) + "; GRANT pgmill_submit TO app")
    assert doctor().startswith("warning")
    assert "applied rights" in migrate(pgmill, own)
    assert "applied rights" not in migrate(pgmill, own)
    assert doctor().startswith("ok") and "belongs to owner; pgmill_submit: app" in doctor()
    with psycopg.connect(make_conninfo(url, user="app")) as app:
        assert app.execute("SELECT pgmill.submit('t')").fetchone()


def test_all_belongs_to_the_owner_of_the_schema_whoever_migrates(pgmill: str, own_cluster: Cluster) -> None:
    own_cluster.admin.execute("CREATE ROLE pgmill_owner; CREATE ROLE app LOGIN; GRANT pgmill_owner TO app")
    url = own_cluster.create("template1")
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("CREATE SCHEMA pgmill AUTHORIZATION pgmill_owner")
        migrate(pgmill, make_conninfo(url, user="app"))
        db.execute("UPDATE pgmill.schema SET functions = 'of another release'")
        migrate(pgmill, url)  # as a superuser
        assert db.execute("SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'pgmill'::regnamespace"
                          " UNION SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'pgmill'::regnamespace"
                          ).fetchall() == [("pgmill_owner",)]


def test_a_second_database_of_the_cluster_shares_the_groups(pgmill: str, bare: Cluster) -> None:
    urls = [bare.create("template1") for _ in range(4)]
    processes = [subprocess.Popen([pgmill, "migrate", "--database", url], stdout=subprocess.DEVNULL) for url in urls]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    bare.admin.execute("GRANT pgmill_submit TO app")
    for url in urls:
        migrate(pgmill, url)
        with psycopg.connect(make_conninfo(url, user="app")) as app:
            assert app.execute("SELECT pgmill.submit('t')").fetchone()


def test_a_dump_brings_its_rights_along(pgmill: str, database: str, bare: Cluster) -> None:
    """To a cluster without the groups: they come with the next migration."""
    url = bare.create("template1")
    dump = subprocess.run(["pg_dump", "--no-owner", database], check=True, capture_output=True).stdout
    subprocess.run(["psql", "-qX", url], input=dump, check=True, capture_output=True)
    assert "applied rights" in migrate(pgmill, url)
    bare.admin.execute("GRANT pgmill_submit TO app")
    with psycopg.connect(make_conninfo(url, user="app")) as app:
        assert app.execute("SELECT pgmill.submit('t')").fetchone()
