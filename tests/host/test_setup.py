# SPDX-License-Identifier: MIT
"""What "pgmill setup" does to a database. Units and files of the host are for tests/system, in a booted root."""

import os
import pathlib
import pwd
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator

import psycopg
import pytest

from support.cluster import Cluster


def exists(user: str) -> bool:
    return any(entry.pw_name == user for entry in pwd.getpwall())


@pytest.fixture
def bare(pgmill: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A PostgreSQL of this host as a package leaves it: without role and database."""
    if os.geteuid() == 0 and exists("postgres"):
        monkeypatch.setenv("PGMILL_USER", "postgres")  # whom setup becomes
    cluster = Cluster(pgmill)
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as db:
        db.execute("DROP DATABASE pgmill")
        db.execute("DROP ROLE pgmill")
        db.execute("DROP DATABASE t1")
        db.execute("DROP ROLE pgmill_submit, pgmill_read, pgmill_operate, pgmill_sql, pgmill_api, pgmill_worker")
    yield cluster
    cluster.remove()


@pytest.fixture
def setup(pgmill: str, bare: Cluster) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Of the database alone, through the socket of that cluster; run("--url", …) overrides."""
    environment = os.environ | {"PGMILL_DATABASE": "host=/nonexistent", "PGHOST": "/nonexistent"}  # not for services

    def setup(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [pgmill, "setup", "--database-only", "--url", f"host={bare.folder}/run dbname=pgmill", *arguments]
        if os.geteuid() == 0 and bare.user != "postgres":
            command = ["setpriv", f"--reuid={bare.user}", "--regid=nogroup", "--clear-groups", *command]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    return setup


def test_it_makes_role_database_and_schema_once(bare: Cluster, setup: Callable[..., subprocess.CompletedProcess[str]],
                                                pgmill: str) -> None:
    planned = setup("--dry-run")
    assert planned.returncode == 0 and "role pgmill: would be created" in planned.stdout, planned.stderr
    assert "created\n" not in planned.stdout.replace("would be created", "")

    first = setup()
    assert first.returncode == 0, first.stderr
    for line in ("role pgmill: created", "groups pgmill_submit …: created", "database pgmill: created", " is ready\n",
                 "The database is ready."):
        assert line in first.stdout

    again = setup()
    assert again.returncode == 0, again.stderr
    assert "role pgmill: was there\ngroups pgmill_submit …: were there\ndatabase pgmill: was there\n" in again.stdout
    assert "applied" not in again.stdout

    as_service = bare.url("pgmill").replace("user=postgres", "user=pgmill")
    assert subprocess.run([pgmill, "submit", "--database", as_service, "t"]).returncode == 0
    with psycopg.connect(as_service) as db:
        owners = db.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'pgmill'").fetchall()
    assert owners == [("pgmill",)]


def test_a_server_without_a_locale_gets_a_database_in_utf_8(bare: Cluster,
                                                            setup: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    with psycopg.connect(bare.url("postgres"), autocommit=True) as db:
        db.execute("UPDATE pg_database SET datistemplate = false WHERE datname = 'template1'")
        db.execute("DROP DATABASE template1")
        db.execute("CREATE DATABASE template1 TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    assert setup().returncode == 0
    with psycopg.connect(bare.url("pgmill")) as db:
        assert db.execute("SHOW server_encoding").fetchone() == ("UTF8",)


def test_what_is_there_and_does_not_fit_is_named(bare: Cluster,
                                                 setup: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    with psycopg.connect(bare.url("postgres"), autocommit=True) as db:
        db.execute("CREATE ROLE pgmill LOGIN")
        db.execute("CREATE DATABASE pgmill")
    refused = setup()
    assert refused.returncode == 78 and 'GRANT CREATE ON DATABASE "pgmill" TO "pgmill"' in refused.stderr
    with psycopg.connect(bare.url("postgres"), autocommit=True) as db:
        db.execute('GRANT CREATE ON DATABASE "pgmill" TO "pgmill"')  # as it said, and it is enough
    assert (done := setup()).returncode == 0, done.stderr
    with psycopg.connect(bare.url("postgres"), autocommit=True) as db:
        db.execute("DROP DATABASE pgmill")
        db.execute("CREATE DATABASE pgmill OWNER pgmill TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    refused = setup()
    assert refused.returncode == 78 and "LATIN1" in refused.stderr


def test_a_superuser_runs_nothing_of_who_owns_the_database(
        bare: Cluster, setup: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Neither by its search path nor in a schema that was there."""
    with psycopg.connect(bare.url("postgres"), autocommit=True) as db:
        db.execute("CREATE ROLE pgmill LOGIN; CREATE ROLE shop LOGIN")
        db.execute("CREATE DATABASE pgmill OWNER shop")
        db.execute("GRANT CREATE ON DATABASE pgmill TO pgmill")

    def is_superuser() -> bool:
        with psycopg.connect(bare.url("postgres")) as db:
            return db.execute("SELECT rolsuper FROM pg_roles WHERE rolname = 'shop'").fetchone()[0]

    rise = "RESET ROLE; IF (SELECT rolsuper FROM pg_roles WHERE rolname = session_user) THEN ALTER ROLE shop SUPERUSER; END IF"
    with psycopg.connect(psycopg.conninfo.make_conninfo(bare.url("pgmill"), user="shop"), autocommit=True) as shop:
        shop.execute("CREATE SCHEMA trap; CREATE FUNCTION trap.pg_backend_pid() RETURNS int LANGUAGE plpgsql AS"
                     f" $$ BEGIN {rise}; RETURN pg_catalog.pg_backend_pid(); END $$; GRANT USAGE ON SCHEMA trap TO PUBLIC")
        shop.execute("ALTER DATABASE pgmill SET search_path = trap, pg_catalog")
        assert (done := setup()).returncode == 0, done.stderr
        assert not is_superuser()
    with psycopg.connect(bare.url("pgmill"), autocommit=True) as db:
        db.execute("DROP SCHEMA pgmill CASCADE")
    with psycopg.connect(psycopg.conninfo.make_conninfo(bare.url("pgmill"), user="shop"), autocommit=True) as shop:
        shop.execute("RESET search_path; SET search_path = pg_catalog; CREATE SCHEMA pgmill;"
                     " CREATE TABLE pgmill.schema (version int PRIMARY KEY, name text NOT NULL, functions text,"
                     " applied_at timestamptz NOT NULL DEFAULT clock_timestamp());"
                     f" CREATE FUNCTION pgmill.rise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {rise}; RETURN NEW; END $$;"
                     " CREATE TRIGGER rise BEFORE INSERT ON pgmill.schema FOR EACH ROW EXECUTE FUNCTION pgmill.rise()")
    refused = setup()
    assert not is_superuser()
    assert refused.returncode == 78 and 'GRANT "shop" TO "pgmill"' in refused.stderr


def test_without_a_server_it_says_what_to_install(setup: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    refused = setup("--url", "host=/nonexistent dbname=pgmill")
    assert refused.returncode == 69 and "apt install postgresql" in refused.stderr and not refused.stdout


@pytest.fixture
def elsewhere(own_cluster: Cluster, folder: pathlib.Path) -> tuple[Cluster, str]:
    """As on another host: reached by TCP and TLS, as db.example.test; and a URL, where only sslmode= is missing."""
    address = ".".join(["127", *(str(random.randint(1, 254)) for _ in range(3))])  # nobody else's port 5432
    data = own_cluster.folder / "data"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "1", "-subj", "/CN=db.example.test", "-addext", "subjectAltName=DNS:db.example.test",
                    "-keyout", data / "server.key", "-out", data / "server.crt"], check=True, capture_output=True)
    if os.geteuid() == 0:
        shutil.chown(data / "server.key", own_cluster.user)
    (data / "server.key").chmod(0o600)
    shutil.copy(data / "server.crt", folder / "ca.crt")
    (data / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.0/8 trust\n")
    with psycopg.connect(own_cluster.url("postgres"), autocommit=True) as db:
        db.execute("ALTER SYSTEM SET ssl = on")
        db.execute(f"ALTER SYSTEM SET listen_addresses = '{address}'")
    own_cluster.stop()
    own_cluster.start()
    return own_cluster, f"hostaddr={address} port=5432 user=pgmill dbname=pgmill sslrootcert={folder}/ca.crt"


def test_a_server_elsewhere_must_be_who_it_says(elsewhere: tuple[Cluster, str], pgmill: str) -> None:
    _, url = elsewhere

    def setup(rest: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([pgmill, "setup", "--database-only", "--url", f"{url} {rest}"], capture_output=True, text=True)

    refused = setup("host=other.example.test sslmode=verify-full")
    assert refused.returncode == 69 and "does not match host name" in refused.stderr and not refused.stdout
    trusted = setup("host=db.example.test sslmode=verify-full")
    assert trusted.returncode == 0 and "the server is who it says" in trusted.stdout and " is ready\n" in trusted.stdout
    for mode, warning in (("require", "could stand in"), ("disable", "not encrypted")):
        warned = setup(f"host=db.example.test sslmode={mode}")
        assert warned.returncode == 0 and warning in warned.stderr and "verify-full" in warned.stderr


def test_doctor_tells_of_keepalives_that_work_and_that_do_not(elsewhere: tuple[Cluster, str], pgmill: str) -> None:
    _, url = elsewhere

    def keepalives(rest: str) -> str:
        text = subprocess.run([pgmill, "doctor", "--database", f"{url} {rest}"], capture_output=True, text=True).stdout
        return next(line for line in text.splitlines() if " keepalives: " in line)

    assert keepalives("").startswith("ok ") and "within 5 s" in keepalives("")
    assert keepalives("keepalives=0").startswith("warning ")


@pytest.mark.parametrize("arguments, status, complaint", [
    (["--workers", "many"], 64, "--workers"),
    (["--url", "postgresql://["], 64, "cannot be read"),
    (["now"], 64, "options only"),
])
def test_bad_input_is_named(pgmill: str, arguments: list[str], status: int, complaint: str) -> None:
    refused = subprocess.run([pgmill, "setup", "--database-only", *arguments], capture_output=True, text=True)
    assert (refused.returncode, complaint in refused.stderr) == (status, True), refused.stderr


def test_without_systemd_or_root_it_says_what_to_do(pgmill: str) -> None:
    command = [pgmill, "setup"]
    if os.geteuid() == 0:
        readable = subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "test", "-x",
                                   pgmill]).returncode == 0
        if readable:
            refused = subprocess.run(["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command],
                                     capture_output=True, text=True)
            assert refused.returncode == 77 and "sudo pgmill setup" in refused.stderr
    if not pathlib.Path("/run/systemd/system").exists():
        refused = subprocess.run([*command, "--dry-run"], capture_output=True, text=True)
        assert refused.returncode == 69 and "systemd does not run" in refused.stderr
