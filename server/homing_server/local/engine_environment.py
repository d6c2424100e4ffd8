"""A private Python environment with SGLang in it, for machines without a GPU of their own.

SGLang cannot be an extra of Homing there: its own requirements pull in gigabytes of CUDA.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from homing.core.text.control_characters import strip_controls
from homing.errors import ConfigurationError, HomingError

SGLANG_VERSION = "0.5.23"
HOME_VARIABLE = "HOMING_ENGINE_HOME"
TINY_MODEL = "homing-tiny-random"

ENGINE_SIDE = Path(__file__).resolve().parent / "engine_side"
"""Files that run in the engine's environment, which holds nothing of Homing."""
# Beside a GPU the folder `cpu` must not be on the path: it stands in for SGLang's kernels.
WITHOUT_GPU = {"HOMING_ENGINE_WITHOUT_GPU": "1"}

# Measured with 0.5.23 on Linux x86-64, Python 3.11.
DOWNLOAD_MB = 290
DISK_MB = 1_600
# While pip unpacks, a wheel and its content exist together.
DISK_NEEDED_MB = 3_000
PYTORCH_INDEX = "https://download.pytorch.org/whl/cpu"

Say = Callable[[str], None]


class EngineInstallError(HomingError):
    """The engine's environment could not be made. What was downloaded is kept for the next try."""

    _clean = staticmethod(strip_controls)  # pip's last lines


def engine_home(environ: Mapping[str, str] = os.environ) -> Path:
    """Return where environments and models are kept.

    ``HOMING_ENGINE_HOME``; without it ``homing`` in ``XDG_CACHE_HOME`` or ``~/.cache``.
    """
    if given := environ.get(HOME_VARIABLE):
        return Path(given).expanduser().resolve()
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "homing"


class EngineEnvironment:
    """SGLang for the CPU under ``home``, made by ``install`` and then only looked at.

    The environment is whole when its stamp is there: it is written last, and holds a digest
    of the pinned requirements, so that another version of them is another installation.
    """

    def __init__(self, home: Path | None = None) -> None:
        self.home = home or engine_home()
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        self.folder = self.home / f"sglang-{SGLANG_VERSION}-cpu-python{version}"
        self._requirements = [ENGINE_SIDE / "sglang_cpu_torch.txt", ENGINE_SIDE / "sglang_cpu.txt"]
        self._stamp = self.folder / "homing-installed"

    def __repr__(self) -> str:
        return f"<EngineEnvironment {self.folder} {'ready' if self.ready else 'not installed'}>"

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def ready(self) -> bool:
        """Whether it is whole and of the requirements of this Homing."""
        with contextlib.suppress(OSError):
            return self._stamp.read_text() == self._digest()
        return False

    @property
    def tiny_model(self) -> Path:
        """Folder of the model that ``install`` makes: random weights, meaningless text."""
        return self.home / "models" / TINY_MODEL / self._model_digest()

    def install(self, say: Say = print) -> None:
        """Make whatever is missing: environment, then model. Does nothing where all is there.

        May be broken off at any time and called again: finished downloads are in pip's
        cache and finished packages in the environment. Two at once wait for each other.
        Raises :class:`EngineInstallError`, or ``ConfigurationError`` where this machine
        cannot have it.
        """
        if self.ready and self.tiny_model.is_dir():
            say(f"SGLang {SGLANG_VERSION} is installed in {self.folder}")
            return
        check_machine()
        with self._alone(say):
            if not self.ready:
                self._check_disk()
                self._make(say)
            if not self.tiny_model.is_dir():
                say(f"Making {TINY_MODEL}: under a million random parameters; its text means nothing.")
                self.make_model(self.tiny_model)
        say(f"SGLang {SGLANG_VERSION} is installed in {self.folder}")

    def make_model(self, folder: Path, *arguments: str) -> None:
        """Make a model with random weights in ``folder``, which is there only when it is whole."""
        part = folder.with_name(f"{folder.name}.part-{os.getpid()}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            command = [str(self.python), str(ENGINE_SIDE / "make_model.py"), str(part), *arguments]
            made = subprocess.run(
                command, env={**os.environ, **WITHOUT_GPU}, capture_output=True, text=True, check=False
            )
            if made.returncode:
                raise EngineInstallError(f"the model cannot be made:\n{_end(made.stdout + made.stderr)}")
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _make(self, say: Say) -> None:
        say(
            f"Installing SGLang {SGLANG_VERSION} for the CPU into {self.folder}:\n"
            f"about {DOWNLOAD_MB} MB to download, {DISK_MB} MB on disk. It may be broken off and started again."
        )
        if not self.python.exists():
            say("1/4  a Python environment")
            self._run([sys.executable, "-m", "venv", "--clear", str(self.folder)], say)
        torch, packages = self._requirements
        say("2/4  torch")
        try:  # wherever your own configuration of pip looks …
            self._pip(["-r", str(torch)], say)
        except EngineInstallError:  # … and then at its home
            self._pip(["--index-url", PYTORCH_INDEX, "-r", str(torch)], say)
        say(f"3/4  {packages.read_text().count('==')} packages, checked against their hashes")
        self._pip(["--require-hashes", "-r", str(packages)], say)
        say("4/4  looking whether it starts")
        self._run([str(self.python), str(ENGINE_SIDE / "launch.py"), "--help"], say, quiet=True)
        self._stamp.write_text(self._digest())

    def _pip(self, arguments: Sequence[str], say: Say) -> None:
        command = [str(self.python), "-m", "pip", "install", "--no-deps", "--only-binary", ":all:", "--no-input"]
        self._run([*command, "--progress-bar", "off", "--disable-pip-version-check", *arguments], say)

    def _run(self, command: Sequence[str], say: Say, *, quiet: bool = False) -> None:
        """Run a step, saying what it downloads; its last lines are the error where it fails."""
        lines: list[str] = []
        with subprocess.Popen(
            command, env={**os.environ, **WITHOUT_GPU}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                if line.lstrip().startswith("Downloading") and not quiet:
                    say("     " + line.strip())
        if process.returncode:
            said = "".join(lines)
            raise EngineInstallError(f"{_why(said)}\n{_end(said)}\nRun `homing engine install` again to go on.")

    @contextlib.contextmanager
    def _alone(self, say: Say) -> Iterator[None]:
        import fcntl  # not on Windows, where `check_machine` has refused before

        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "install.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say("Another installation is under way here: waiting for it.")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _check_disk(self) -> None:
        free = shutil.disk_usage(self.home).free // 1_000_000
        if free < DISK_NEEDED_MB:
            raise EngineInstallError(
                f"{self.home} has {free} MB free and {DISK_NEEDED_MB} are needed. "
                f"Free some, or set {HOME_VARIABLE} to a folder on another disk."
            )

    def _digest(self) -> str:
        return _digest(self._requirements)

    def _model_digest(self) -> str:
        return _digest([ENGINE_SIDE / "make_model.py"])[:12]


def check_machine() -> None:
    """Raise ``ConfigurationError`` where SGLang has no wheel for this machine."""
    if sys.platform != "linux":
        raise ConfigurationError("engine: SGLang has wheels for Linux only; `homing up` emulates it everywhere")
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise ConfigurationError(
            f"engine: SGLang {SGLANG_VERSION} has wheels for Python 3.11 to 3.13, this is {platform.python_version()}"
        )
    name, version = platform.libc_ver()
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if name == "glibc" and numbers < (2, 34):
        raise ConfigurationError(f"engine: SGLang {SGLANG_VERSION} needs glibc 2.34 or newer, this is {version}")


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _why(said: str) -> str:
    if "No space left on device" in said:
        return f"the disk is full; set {HOME_VARIABLE} to a folder on another one"
    if "HASHES" in said:
        return "a download is not what it should be: its hash differs"
    signs = ("Failed to establish", "NewConnectionError", "Temporary failure in name", "ConnectTimeout", "ReadTimeout")
    if any(sign in said for sign in signs):
        return "the package index cannot be reached: is there a network, or a proxy to set?"
    return "the installation failed"


def _end(said: str) -> str:
    return "\n".join(said.strip().splitlines()[-12:])
