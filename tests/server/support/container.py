"""Boot what was deployed: Modal's own container entry point on the very request the deploy sent.

The worker's side of the contract: an arguments file, three environment variables, the control
plane, and at the end of life an input that says so (class) or SIGTERM (Server).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from modal_proto import api_pb2

from .control_plane import ControlPlane, serving
from .modal_cli import HTTP_SERVER, SERVER, deploy, environment

STAND_IN = Path(__file__).parent / "stand_in"
TASK_ID = "ta-0000000000000000000001"
# What the Modal Secret of an http_server puts into its container's environment.
KEYS = {"HOMING_API_KEY": "sk-caller", "HOMING_ADMIN_KEY": "sk-admin"}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie, whose parent has not looked yet, does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def catches(pid: int, signum: int) -> bool:
    """Whether a process has a handler for a signal (proc(5), SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = int(status.partition("SigCgt:")[2].split()[0], 16)
    return bool(mask >> (signum - 1) & 1)


def until(condition: Callable[[], bool], *, timeout: float = 30) -> None:
    """Wait for something that only polling can show; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def arguments(plane: ControlPlane, tag: str) -> Any:
    """The arguments Modal's worker would hand to the container of the deployed function `tag`.

    A function with memory snapshots gets the id of one to make, and goes without the part that
    this machine has not got: the GPU's memory is captured by Modal's own kernel.
    """
    create = next(one for one in plane.requests("FunctionCreate") if one.function.function_name == tag)
    publish = plane.requests("AppPublish")[-1]
    function_id = publish.function_ids[tag]
    layout = api_pb2.AppLayout()
    layout.function_ids.update(publish.function_ids)
    layout.class_ids.update(publish.class_ids)
    layout.objects.add(object_id=function_id).function_handle_metadata.function_name = tag
    for class_id in publish.class_ids.values():
        layout.objects.add(object_id=class_id).class_handle_metadata.SetInParent()
    for dependency in create.function.object_dependencies:
        entry: Any = layout.objects.add(object_id=dependency.object_id)
        if dependency.object_id.startswith("vo"):
            entry.volume_metadata.name = plane.volumes[dependency.object_id]
        elif "image_handle_metadata" in entry.DESCRIPTOR.fields_by_name:
            entry.image_handle_metadata.SetInParent()
    snapshots = create.function.checkpointing_enabled
    create.function.is_checkpointing_function = snapshots  # Modal's side says so to the container
    create.function._experimental_enable_gpu_snapshot = False
    return api_pb2.ContainerArguments(
        task_id=TASK_ID,
        checkpoint_id="sn-1" if snapshots else "",
        function_id=function_id,
        app_id=publish.app_id,
        function_def=create.function,
        app_layout=layout,
    )


class Container:
    """One booted container. `log` is the stand-in engine's diary."""

    def __init__(
        self, folder: Path, plane: ControlPlane, url: str, tag: str, *, port: int, env: dict[str, str]
    ) -> None:
        self.plane, self.port, self.is_server = plane, port, not tag.endswith(".*")
        self.log_path = folder / "stand-in.jsonl"
        self._restore = folder / "restore.json"
        file = folder / "arguments.bin"
        file.write_bytes(arguments(plane, tag).SerializeToString())
        self.process = subprocess.Popen(
            [sys.executable, "-m", "modal._container_entrypoint"],
            env=environment(
                url,
                {
                    "MODAL_IS_REMOTE": "1",
                    "MODAL_TASK_ID": TASK_ID,
                    "MODAL_CONTAINER_ARGUMENTS_PATH": str(file),
                    "MODAL_RESTORE_STATE_PATH": str(self._restore),
                    "PYTHONPATH": str(STAND_IN),
                    "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
                    "PYTHONUNBUFFERED": "1",
                    "STAND_IN_LOG": str(self.log_path),
                    **env,
                },
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.output: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.output.extend(self.process.stdout)
        with self.plane.changed:
            self.plane.changed.notify_all()

    @property
    def text(self) -> str:
        return "".join(self.output)

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_text().splitlines()] if self.log_path.exists() else []

    def events(self, *names: str) -> list[str]:
        return [entry["event"] for entry in self.log if entry["event"] in names]

    def engines(self) -> list[int]:
        """Pids of every process that the stand-in started or is."""
        starts = [entry for entry in self.log if entry["event"] == "start"]
        return [pid for entry in starts for pid in (entry["pid"], entry["worker"]) if pid]

    def wait_ready(self, timeout: float = 30) -> None:
        """Return when Modal has been told that the replica is ready; fail with its output if it ends first."""
        call = "ContainerServerLifecycleReady" if self.is_server else "FlashContainerRegister"
        with self.plane.changed:
            self.plane.changed.wait_for(
                lambda: bool(self.plane.requests(call)) or self.process.poll() is not None, timeout
            )
        assert self.plane.requests(call), self.text

    def restore(self, task_id: str) -> None:
        """Let it go on as another task, the way Modal does when it restores a memory snapshot."""
        assert self.plane.wait_for("ContainerCheckpoint", timeout=30), self.text
        written = self._restore.with_suffix(".new")
        written.write_text(json.dumps({"task_id": task_id}))
        written.rename(self._restore)  # it is read as soon as it exists

    def processes(self) -> list[int]:
        """The container's own process and all that the stand-in started or is."""
        return [self.process.pid, *self.engines()]

    def end(self) -> None:
        """Tell the container to stop, the way Modal does."""
        self.plane.stopping.set()
        if self.is_server:
            # Modal's handler is set a moment after it has reported the replica ready.
            until(lambda: catches(self.process.pid, signal.SIGTERM))
            self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout: float = 45) -> int:
        code = self.process.wait(timeout)
        self._reader.join(10)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        for pid in self.engines():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def booted(
    folder: Path,
    variant: str,
    *,
    script: dict[str, Any] | None = None,
    env: dict[str, str] | None = None,
    **settings: Any,
) -> Iterator[Container]:
    """Deploy a variant with settings, then boot its container around a scripted engine.

    An http_server finds `KEYS` in its environment unless `env` says otherwise.
    """
    port = free_port()
    given = json.dumps({"variant": variant, "port": port, **settings})
    module, tag = (SERVER, "SGLangServer") if variant == "server" else (HTTP_SERVER, "SGLang.*")
    plane = ControlPlane()
    done = deploy(module, given, plane=plane)
    assert done.returncode == 0, done.stdout + done.stderr
    plane.stopping.clear()
    if env is None:
        env = KEYS if variant == "http_server" else {}
    secrets = {"HOMING_SERVER_SETTINGS": given, "STAND_IN": json.dumps(script or {}), **env}
    with serving(plane) as url:
        container = Container(folder, plane, url, tag, port=port, env=secrets)
        try:
            yield container
        finally:
            container.close()
