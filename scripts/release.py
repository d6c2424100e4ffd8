"""Build what a release publishes, and try it: RELEASING.md.

    python scripts/release.py               # everything short of publishing
    python scripts/release.py --tag v0.1.0  # the same on a tag that is there: the release workflow
    python scripts/release.py --publish     # tag the commit and push the tag, which starts that workflow

Ends at the first thing that is wrong, before anything leaves this machine. Needs git and a package index.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Sequence
from email.parser import HeaderParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLS = "requirements/release.txt"
PACKAGES = ("homing", "homing_server")
IN_SDIST = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "PKG-INFO")


class Unfit(Exception):
    """Why this cannot be released."""


def run(*command: str | Path, cwd: Path) -> str:
    """Return what a command prints. Raises `Unfit` with its error."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unfit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout


def version_of(root: Path) -> str:
    """Return the version that the package states."""
    text = (root / "client" / "homing" / "_version.py").read_text()
    found = re.search(r'^__version__ = "(\d+\.\d+\.\d+)"$', text, re.MULTILINE)
    if found is None:
        raise Unfit("client/homing/_version.py states no version of the form 1.2.3")
    return found[1]


def notes_of(changelog: str, version: str) -> str:
    """Return a version's section of the changelog, which must be dated, with nothing unreleased above it."""
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]
    dated = rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n"
    notes = next((section for section in sections if re.match(dated, section)), None)
    if notes is None:
        raise Unfit(f"CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD'")
    if re.match(r"\[Unreleased\]\s*\S", sections[0]):
        raise Unfit(f"CHANGELOG.md has entries under Unreleased: move them to [{version}], or choose another version")
    return notes.partition("\n")[2].strip()


def check_tree(root: Path, version: str, tag: str | None) -> None:
    """Raise `Unfit` unless everything is committed and the tag is as it should be."""
    changed = run("git", "status", "--porcelain", cwd=root)
    if changed:
        raise Unfit(f"the work tree is not clean:\n{changed}".rstrip())
    if tag is None:
        if run("git", "tag", "--list", f"v{version}", cwd=root):
            raise Unfit(f"v{version} is tagged already: change client/homing/_version.py")
    elif tag != f"v{version}":
        raise Unfit(f"the tag is {tag}, the version {version}")


def build(root: Path, work: Path, dist: Path) -> tuple[Path, Path]:
    """Build the sdist, and from it the wheel, with tools of their own; return both after twine's check."""
    tools = work / "tools"
    venv.create(tools, with_pip=True)
    python = tools / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", root / TOOLS, cwd=root)
    shutil.rmtree(dist, ignore_errors=True)
    run(python, "-m", "build", "--outdir", dist, root, cwd=root)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    run(python, "-m", "twine", "check", "--strict", sdist, wheel, cwd=root)
    return sdist, wheel


def check_contents(root: Path, version: str, sdist: Path, wheel: Path) -> None:
    """Raise `Unfit` unless they hold this version and what git has of it, and nothing else."""
    if (sdist.name, wheel.name) != (f"homing-{version}.tar.gz", f"homing-{version}-py3-none-any.whl"):
        raise Unfit(f"built {sdist.name} and {wheel.name} of version {version}")
    known = set(run("git", "ls-files", cwd=root).splitlines())
    sources = {name.partition("/")[2] for name in known if name.startswith(("client/homing/", "server/homing_server/"))}
    with zipfile.ZipFile(wheel) as archive:
        info = f"homing-{version}.dist-info/"
        inside = {name for name in archive.namelist() if not name.startswith(info)}
        metadata = HeaderParser().parsestr(archive.read(info + "METADATA").decode())
    if inside != sources:
        raise Unfit(f"the wheel and git differ in {sorted(inside ^ sources)}")
    if (metadata["Name"], metadata["Version"]) != ("homing", version):
        raise Unfit(f"the metadata are of {metadata['Name']} {metadata['Version']}")
    with tarfile.open(sdist) as archive:
        packed = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    missing, strange = {*IN_SDIST} - packed, packed - known - {"PKG-INFO"}
    if missing or strange:
        raise Unfit(f"the sdist lacks {sorted(missing)} and has {sorted(strange)} too many")


def try_wheel(work: Path, version: str, wheel: Path) -> None:
    """Install the wheel where there is nothing else, and import what it holds."""
    bare = work / "bare"
    venv.create(bare, with_pip=True)
    python = bare / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", wheel, cwd=work)
    run(python, "-m", "pip", "check", cwd=work)
    code = "import homing, homing_server; homing.Client('http://127.0.0.1:9').close(); print(homing.__version__)"
    found = run(python, "-W", "error", "-c", code, cwd=work).strip()
    if found != version:
        raise Unfit(f"what was installed calls itself {found}")


def release(root: Path, tag: str | None) -> str:
    """Run every step but publishing; return the version. Leaves dist/ with both files."""
    version = version_of(root)
    notes = notes_of((root / "CHANGELOG.md").read_text(), version)
    check_tree(root, version, tag)
    print(f"homing {version}: the tree is clean, the changelog has {len(notes.splitlines())} lines of it", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        sdist, wheel = build(root, work, root / "dist")
        check_contents(root, version, sdist, wheel)
        print(f"built and checked dist/{sdist.name} and dist/{wheel.name}", flush=True)
        try_wheel(work, version, wheel)
        print("installed the wheel into an empty environment and imported it", flush=True)
    return version


def main(argv: Sequence[str], root: Path = ROOT) -> int:
    """Return the exit status."""
    parser = argparse.ArgumentParser(prog="release.py", description=(__doc__ or "").partition("\n")[0])
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="publish nothing (the default)")
    what.add_argument("--tag", help="the tag that is released, as the workflow has it")
    what.add_argument("--publish", action="store_true", help="tag the commit and push the tag")
    chosen = parser.parse_args(argv)
    try:
        version = release(root, chosen.tag)
        commands = [
            ["git", "tag", "-a", f"v{version}", "-m", f"Homing {version}"],
            ["git", "push", "origin", f"v{version}"],
        ]
        if chosen.publish:
            for command in commands:
                run(*command, cwd=root)
            print(f"pushed v{version}: the release workflow builds it again and publishes it")
        elif chosen.tag is None:
            print("to publish, after `make check test lanes`: scripts/release.py --publish, which is")
            print(*(f"    {' '.join(command[:-1])} '{command[-1]}'" for command in commands), sep="\n")
    except Unfit as error:
        print(f"not released: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
