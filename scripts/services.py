"""Start private Redis, PostgreSQL and MariaDB servers, run the tests that want them or HAProxy, stop them.

    python scripts/services.py [pytest arguments]

Servers missing on a Debian-like machine are installed with apt-get when run as root;
elsewhere the missing ones are named and the run fails. Nothing that runs already is used or
touched: each server has a free port on 127.0.0.1, its data in a directory of its own that
is removed at the end, and is stopped by its process, also on failure and on Ctrl-C.
HAProxy is started by its tests, which know the servers behind it.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

READY_TIMEOUT = 60.0
"""Seconds for a server to accept connections: the first start on a busy CI disk takes ten."""

READY_PAUSE = 0.1
"""Seconds between two attempts to connect."""

STOP_TIMEOUT = 30.0
"""Seconds for a clean stop before the process is killed."""


@dataclass(frozen=True)
class Account:
    """Whom the servers run as: PostgreSQL and MariaDB refuse to be root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Service:
    """A kind of server: how it is installed, prepared and started, and where it is reached.

    Without ``start`` its tests start it themselves: ``variable`` tells them where the program is.
    """

    name: str
    programs: Sequence[str]
    packages: Sequence[str]
    variable: str
    url: str = ""
    prepare: Callable[[Path], Sequence[str]] | None = None
    start: Callable[[Path, int], Sequence[str]] | None = None


def program(name: str) -> str:
    """Return the path of an installed program."""
    found = shutil.which(name, path=os.pathsep.join(search_path()))
    if found is None:
        raise FileNotFoundError(name)
    return found


def search_path() -> list[str]:
    """Return where programs are looked for: more than the PATH, which in Debian lacks PostgreSQL's."""
    postgres = sorted((str(path) for path in Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return [*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/sbin", "/usr/local/sbin", *postgres]


def prepare_postgres(data: Path) -> Sequence[str]:
    """Make a database cluster that trusts whoever connects on 127.0.0.1."""
    return [program("initdb"), "-D", str(data), "-U", "homing", "-A", "trust", "-E", "UTF8", "--locale=C"]


def prepare_mariadb(data: Path) -> Sequence[str]:
    """Make the system tables, with a root account without password."""
    return [
        program("mariadb-install-db"),
        "--no-defaults",
        f"--datadir={data}",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
    ]


def start_redis(data: Path, port: int) -> Sequence[str]:
    """Run as docs/stores.md asks for: every write on the disk before its answer."""
    options = {"port": port, "bind": "127.0.0.1", "dir": data, "save": "", "appendonly": "yes", "appendfsync": "always"}
    return [program("redis-server"), *(part for key, value in options.items() for part in (f"--{key}", str(value)))]


def start_postgres(data: Path, port: int) -> Sequence[str]:
    """Run with its sockets beside the data."""
    return [
        program("postgres"),
        *("-D", str(data), "-p", str(port), "-k", str(data)),
        *("-c", "listen_addresses=127.0.0.1"),
    ]


def start_mariadb(data: Path, port: int) -> Sequence[str]:
    """Run without reading the machine's configuration."""
    return [
        program("mariadbd"),
        *("--no-defaults", f"--datadir={data}", f"--port={port}", "--bind-address=127.0.0.1"),
        *(f"--socket={data}/socket", f"--pid-file={data}/pid", "--skip-name-resolve"),
    ]


SERVICES = [
    Service(
        name="redis",
        programs=["redis-server"],
        packages=["redis-server"],
        variable="HOMING_TEST_REDIS_URL",
        url="redis://127.0.0.1:{port}/0",
        prepare=None,
        start=start_redis,
    ),
    Service(
        name="postgresql",
        programs=["initdb", "postgres"],
        packages=["postgresql"],
        variable="HOMING_TEST_POSTGRESQL_URL",
        url="postgresql+psycopg://homing@127.0.0.1:{port}/postgres",
        prepare=prepare_postgres,
        start=start_postgres,
    ),
    Service(
        name="mariadb",
        programs=["mariadb-install-db", "mariadbd", "my_print_defaults"],
        packages=["mariadb-server-core", "mariadb-client-core"],
        variable="HOMING_TEST_MARIADB_URL",
        url="mysql+pymysql://root@127.0.0.1:{port}/mysql",
        prepare=prepare_mariadb,
        start=start_mariadb,
    ),
    Service(name="haproxy", programs=["haproxy"], packages=["haproxy"], variable="HOMING_TEST_HAPROXY"),
]


def missing(services: Sequence[Service]) -> list[Service]:
    """Return the services that lack a program."""
    where = os.pathsep.join(search_path())
    return [s for s in services if not all(shutil.which(name, path=where) for name in s.programs)]


def install(services: Sequence[Service]) -> None:
    """Install packages without letting their own services start."""
    packages = [package for service in services for package in service.packages]
    print(f"installing {' '.join(packages)}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with services_forbidden():
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=True)
        subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], env=environment, check=True
        )


@contextlib.contextmanager
def services_forbidden() -> Iterator[None]:
    """Debian asks this file before it starts what was installed; 101 means no."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():  # the machine has its own policy: most containers, the same one
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def unprivileged() -> Account | None:
    """Return an account to run servers as, or None when this one will do."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(name, entry.pw_uid, entry.pw_gid)
    raise SystemExit("test-services: PostgreSQL does not run as root, and there is no account 'postgres' or 'nobody'")


def launch(command: Sequence[str], *, account: Account | None, log: Path) -> subprocess.Popen[bytes]:
    """Start a process as that account, in a group of its own so that Ctrl-C reaches us alone."""
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )


@contextlib.contextmanager
def running(service: Service, home: Path, account: Account | None) -> Iterator[str]:
    """Run a server for the length of a block; yield its URL, or the path of a program that tests start."""
    if service.start is None:
        yield program(service.programs[0])
        return
    log = home / f"{service.name}.log"
    data = home / service.name
    data.mkdir(mode=0o700)
    if account is not None:
        os.chown(data, account.uid, account.gid)
    if service.prepare is not None:
        with launch(service.prepare(data), account=account, log=log) as preparing:
            try:
                status = preparing.wait(READY_TIMEOUT)
            finally:
                preparing.kill()  # does nothing to one that has ended
        if status != 0:
            raise SystemExit(f"test-services: {service.name} cannot be prepared:\n{tail(log)}")
    port = free_port()
    server = launch(service.start(data, port), account=account, log=log)
    try:
        wait_for(server, port, service.name, log)
        print(f"{service.name} on port {port}", flush=True)
        yield service.url.format(port=port)
    finally:
        stop(server)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(server: subprocess.Popen[bytes], port: int, name: str, log: Path) -> None:
    """Return when the server accepts connections; fail when it ends or takes too long."""
    deadline = time.monotonic() + READY_TIMEOUT
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(READY_PAUSE)
    raise SystemExit(f"test-services: {name} did not start (exit status {server.poll()}):\n{tail(log)}")


def stop(server: subprocess.Popen[bytes]) -> None:
    """Stop this process: politely (for PostgreSQL, SIGINT does not wait for its clients), then not."""
    server.send_signal(signal.SIGINT if "postgres" in str(server.args) else signal.SIGTERM)
    try:
        server.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def tail(log: Path) -> str:
    """Return the end of a server's log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])


def run_tests(urls: Mapping[str, str], arguments: Sequence[str]) -> int:
    """Run the tests marked ``services``; return pytest's exit status (5: none were found)."""
    command = [sys.executable, "-m", "pytest", "-m", "services", "tests/stores", "tests/attack", *arguments]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **urls}, check=False).returncode


def main(arguments: Sequence[str]) -> int:
    """Do all of it; return the exit status."""
    lacking = missing(SERVICES)
    if lacking:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            wanted = ", ".join(f"{s.name} ({' '.join(s.packages)})" for s in lacking)
            print(f"test-services: missing {wanted}; install them, or run as root where apt-get is", file=sys.stderr)
            return 1
        install(lacking)
    # A terminated CI job must stop its servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    account = unprivileged()
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="homing-services-")))
        home.chmod(0o711)  # the servers' account passes through to its own directories
        urls = {s.variable: stack.enter_context(running(s, home, account)) for s in SERVICES}
        return run_tests(urls, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
