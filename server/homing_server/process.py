"""One engine process: start it, wait until it answers, warm it, watch it, stop it.

Standard library only. Every wait ends at once when the process ends, and every error
carries what the operator needs: exit code and last log lines.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

from homing_server.gate import INTERNAL_KEY, RENAME_PATH, REPLICA_HEADER, REPLICA_ID, replica_id
from homing_server.loopback import Loopback

# Seconds between looks at a starting engine. The example's 5 s were up to 5 s of every cold start.
POLL = 0.25
# Seconds for one /health. It answers in milliseconds (engine.py turns its generation off); without
# a limit a hung accept would hold the start until Modal kills it.
HEALTH_TIMEOUT = 5.0
# Seconds for which an engine may take connections without answering /health before it counts as hung.
# The route does nothing but look at a variable, and loading and compiling happen in other processes. Seen
# once with SGLang 0.5.23 on a CPU, where it lasted for the whole ten minutes that a start may take.
HUNG = 90.0
# Seconds for a hung engine to write its stacks into its log.
STACKS = 2.0
# Warm-up requests, as in the example, and tokens of each.
WARMUPS = 3
WARMUP_TOKENS = 16
# Seconds for one warm-up request: the first may still compile kernels. The example's 10 s killed
# replicas that had loaded for minutes; Modal's later examples allow five minutes.
WARMUP_TIMEOUT = 300.0
# Makes Python write the stacks of all threads when it is told to abort.
FAULT_HANDLER = "PYTHONFAULTHANDLER"
# Log lines kept for an error message: a Python traceback and the lines before it.
TAIL_LINES = 40
# Seconds for the rest of a dead engine's output to come through the pipe.
TAIL_SETTLE = 0.5
# Seconds for SIGKILL to be carried out; only a process in uninterruptible sleep needs longer.
KILL_WAIT = 5.0


class EngineError(RuntimeError):
    """The engine did not start, or is not what was asked for. The message says why."""


class EngineDied(EngineError, subprocess.CalledProcessError):
    """The engine process ended. ``returncode`` is its exit code, ``tail`` its last log lines."""

    def __init__(self, returncode: int, argv: Any, tail: Sequence[str] = ()) -> None:
        subprocess.CalledProcessError.__init__(self, returncode, argv)
        self.tail = tuple(tail)

    def __repr__(self) -> str:
        return f"{type(self).__name__}: {self}"  # what Modal reports of a failed start

    def __str__(self) -> str:
        said = "\n".join(self.tail) or "(no output)"
        return f"the engine exited with code {self.returncode}; its last lines:\n{said}"


class EngineNotReady(EngineError, TimeoutError):
    """The engine was still not answering when its time was up."""


class EngineHung(EngineNotReady):
    """The engine takes connections and does not answer. Its stacks are in its log; another start may do."""


class PrefixCacheOff(EngineError):
    """The engine runs without prefix cache, so session affinity would gain nothing."""


def check_running(process: subprocess.Popen[Any]) -> None:
    """Raise :class:`EngineDied` if the process has ended."""
    if (code := process.poll()) is not None:
        raise EngineDied(code, process.args)


def _pause(process: subprocess.Popen[Any] | None, seconds: float) -> None:
    """Sleep, but not past the end of the process."""
    if process is None:
        time.sleep(seconds)
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def wait_ready(
    process: subprocess.Popen[Any],
    engine: Loopback,
    *,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Return when ``/health`` answers 200.

    Raises :class:`EngineDied` as soon as the process ends (the example swallowed that and
    polled a dead engine for 20 minutes), :class:`EngineHung` when it has been silent for
    ``HUNG`` seconds, :class:`EngineNotReady` after ``timeout`` seconds.
    """
    deadline = clock() + timeout
    last = "nothing listened yet"
    silent_since: float | None = None
    while (left := deadline - clock()) > 0:
        check_running(process)
        try:
            status, _, _ = engine.request("/health", timeout=min(HEALTH_TIMEOUT, left))
            if status == 200:
                return
            last = f"/health answered {status}"
            silent_since = None
        except OSError as error:
            last = f"/health: {error}"
            if not isinstance(getattr(error, "reason", error), TimeoutError):
                silent_since = None
            elif silent_since is None:
                silent_since = clock() - HEALTH_TIMEOUT
            elif clock() - silent_since >= HUNG:
                check_running(process)
                raise EngineHung(
                    f"the engine takes connections but has not answered for {HUNG:g} seconds ({last})"
                ) from error
        _pause(process, POLL)
    check_running(process)
    raise EngineNotReady(f"the engine was not ready within {timeout:g} seconds ({last})")


def warm_up(
    process: subprocess.Popen[Any] | None,
    engine: Loopback,
    *,
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Send the first few requests, so that no caller pays for lazily compiled kernels.

    A slow answer is waited for as long as ``timeout`` allows; "busy" (503) is asked again.
    Any other refusal means that the engine cannot chat: :class:`EngineError`.
    """
    deadline = clock() + timeout
    body = json.dumps(
        {"messages": [{"role": "user", "content": "Hello, how are you?"}], "max_tokens": WARMUP_TOKENS}
    ).encode()
    answered = 0
    while answered < WARMUPS:
        if process is not None:
            check_running(process)
        if (left := deadline - clock()) <= 0:
            raise EngineNotReady(f"{answered} of {WARMUPS} warm-up requests answered in {timeout:g} seconds")
        try:
            status, reply, _ = engine.request("/v1/chat/completions", body=body, timeout=min(WARMUP_TIMEOUT, left))
        except OSError:
            _pause(process, POLL)  # too slow, or gone: the next look tells
            continue
        if status == 503:
            _pause(process, POLL)
        elif status == 200:
            answered += 1
        else:
            said = reply[:500].decode(errors="replace")
            raise EngineError(f"the engine refused a warm-up request with {status}: {said}")


def prefix_cache_on(server_info: Mapping[str, Any]) -> bool | None:
    """Read SGLang's own report. None: this version does not say. Pure.

    ``/server_info`` shows the arguments *after* SGLang has resolved them, so a cache that
    it switched off by itself shows here (0.5.9, 0.5.23: ``http_server.py``, server_info).
    """
    off = server_info.get("disable_radix_cache")
    return None if off is None else not off


class Watchdog:
    """Counts failed health checks in a row. Pure."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self.failures = 0

    def observe(self, *, healthy: bool) -> bool:
        """Take one result; True when the engine must go. ``allowed`` 0 never says so."""
        self.failures = 0 if healthy else self.failures + 1
        return 0 < self.allowed <= self.failures


class Engine:
    """The engine of one replica, from ``Popen`` to the last of its process group.

    ``environ`` is what the engine gets; the supervisor adds a fresh internal key, which
    opens every route for this object only, and the replica's name. ``say`` takes each line
    of its log; without it they go to standard output, the container's log.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        port: int,
        environ: Mapping[str, str],
        gated: bool = True,
        clock: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] | None = None,
    ) -> None:
        internal = secrets.token_urlsafe(32) if gated else None
        self._argv = list(argv)
        self._environ = dict(environ)
        if internal is not None:
            self._environ |= {INTERNAL_KEY: internal, REPLICA_ID: replica_id(environ)}
        self._gated = gated
        self._http = Loopback(port, internal)
        self._clock = clock
        self._say = say or _say
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._stopping = threading.Event()
        self._pump: threading.Thread | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        if self.process is None:
            return "<Engine not started>"
        return f"<Engine pid={self.process.pid} exit_code={self.process.poll()}>"

    @property
    def stopping(self) -> bool:
        """Whether it was told to end."""
        return self._stopping.is_set()

    def start(self, *, timeout: float, prefix_cache: str = "require") -> None:
        """Start, wait until ready, warm up and check, all within ``timeout`` seconds.

        When any of it fails the whole process group is gone before the error leaves:
        Modal does not call ``@modal.exit`` when ``@modal.enter`` raises.
        """
        deadline = self._clock() + timeout
        self.process = process = subprocess.Popen(
            self._argv,
            env={FAULT_HANDLER: "1"} | self._environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that its workers can be killed with it
        )
        if self._stopping.is_set():  # told to stop before there was anything to stop
            self.kill()
            raise EngineError("the engine was stopped before it had started")
        assert process.stdout is not None
        self._pump = threading.Thread(target=self._forward, args=(process.stdout,), daemon=True)
        self._pump.start()
        try:
            wait_ready(process, self._http, timeout=deadline - self._clock(), clock=self._clock)
            self._check_gate()
            warm_up(process, self._http, timeout=deadline - self._clock(), clock=self._clock)
            self._check_prefix_cache(prefix_cache)
        except BaseException as error:
            if isinstance(error, EngineNotReady):
                self._show_stacks(process)
            self.kill()
            if isinstance(error, EngineDied):  # only now is the pipe read to its end
                raise EngineDied(error.returncode, self._argv, self._tail) from None
            raise

    def watch(self, *, interval: float, timeout: float, failures: int) -> None:
        """Check ``/health_generate`` every ``interval`` seconds; kill the engine after ``failures`` in a row.

        Modal looks at the TCP port only, so a hung scheduler would keep its replica and its
        conversations for ever; a closed port makes Modal replace the replica.
        """
        arguments = (Watchdog(failures), interval, timeout)
        threading.Thread(target=self._watch, args=arguments, name="engine-watchdog", daemon=True).start()

    def stop(self, *, grace: float, linger: float = 0.0) -> None:
        """Let running streams finish: SIGTERM, wait up to ``grace`` seconds, then kill.

        With ``linger``, an engine still busy after ``grace`` keeps running for that many
        seconds more in the background, for a caller that itself goes on waiting; the
        interpreter's exit waits for the kill.
        """
        self._stopping.set()
        process = self.process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            _pause(process, grace)
        if process.poll() is None and linger > 0:
            threading.Thread(target=self._kill_after, args=(process, linger)).start()
        else:
            self.kill()

    def kill(self) -> None:
        """End the process group at once."""
        self._stopping.set()
        process = self.process
        if process is None:
            return
        # Also when the leader is gone: its workers share the group and outlive it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        _pause(process, KILL_WAIT)
        if self._pump is not None:
            self._pump.join(TAIL_SETTLE)

    def post(self, path: str, *, timeout: float, body: bytes = b"{}") -> None:
        """Call one of the engine's own routes as its supervisor; :class:`EngineError` unless it says 200."""
        status, _, _ = self._http.request(path, timeout=timeout, body=body)
        if status != 200:
            raise EngineError(f"{path} answered {status}")

    def rename(self, environ: Mapping[str, str]) -> None:
        """Tell the gate this replica's name, after a restore from a snapshot of another one."""
        if self._gated:
            self.post(RENAME_PATH, timeout=HEALTH_TIMEOUT, body=replica_id(environ).encode())

    def _check_gate(self) -> None:
        """Refuse an engine whose replies do not pass our gate, however that came about."""
        if self._gated:
            _, _, headers = self._http.request("/health", timeout=HEALTH_TIMEOUT)
            if REPLICA_HEADER.lower() not in headers:
                raise EngineError(
                    f"the engine answers without {REPLICA_HEADER}, so its admin routes are open too: "
                    "this SGLang does not serve through uvicorn.Config, see homing_server.launcher"
                )

    def _check_prefix_cache(self, wanted: str) -> None:
        if wanted == "off":
            return
        try:
            status, body, _ = self._http.request("/server_info", timeout=HEALTH_TIMEOUT)
            state = prefix_cache_on(json.loads(body)) if status == 200 else None
        except (OSError, ValueError):
            state = None
        if state:
            return
        if state is None:
            self._say("WARNING: the engine does not report whether its prefix cache is on")
            return
        problem = (
            "the engine's prefix cache is off (disable_radix_cache in /server_info): every turn would be "
            "prefilled from its first token and session affinity would gain nothing. Hybrid models with "
            'speculation need `hybrid` true; to start anyway set `prefix_cache` to "warn"'
        )
        if wanted == "require":
            raise PrefixCacheOff(problem)
        self._say(f"WARNING: {problem}")

    def _forward(self, pipe: IO[bytes]) -> None:
        """Pass the engine's output on to the container's log and keep its end."""
        for raw in pipe:
            line = raw.decode(errors="replace").rstrip("\n")
            self._tail.append(line)
            self._say(line)
        pipe.close()

    def _watch(self, watchdog: Watchdog, interval: float, timeout: float) -> None:
        process = self.process
        assert process is not None
        while not self._stopping.wait(interval):
            if process.poll() is not None:
                self._say(str(EngineDied(process.returncode, self._argv, self._tail)))
                self.kill()  # its workers may still hold GPU memory and the port
                return
            try:
                status, _, _ = self._http.request("/health_generate", timeout=timeout)
            except OSError:
                status = 0
            if watchdog.observe(healthy=status == 200) and not self._stopping.is_set():
                self._say(f"the engine failed {watchdog.failures} health checks in a row: killing it")
                self.kill()
                return

    def _show_stacks(self, process: subprocess.Popen[bytes]) -> None:
        """Have Python's fault handler write where each process of the group stands, before it is killed."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGABRT)
        _pause(process, STACKS)

    def _kill_after(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        _pause(process, seconds)
        self.kill()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
