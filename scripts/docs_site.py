"""What MkDocs is told beside mkdocs.yml: pages from outside docs/, links to them, and that nothing is fetched.

The site is made of the files as they are. What lies elsewhere in the repository (the changelog, the
contributor's page, examples, notebooks) becomes a page without being copied into docs/.
"""

from __future__ import annotations

import ast
import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.hooks.docs_site")

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
NOTEBOOKS = ROOT / "examples" / "notebooks"

# File or folder in the repository -> its page.
OUTSIDE = {
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
    "CONTRIBUTING.md": "contributing.md",
    "RELEASING.md": "releasing.md",
    "SECURITY.md": "security.md",
    "README.md": "README.md",  # the index is docs/README.md
    "examples": "examples.md",
    "docs/notebooks.md": "notebooks.md",
    **{f"examples/notebooks/{path.name}": f"notebooks/{path.stem}.md" for path in sorted(NOTEBOOKS.glob("*.ipynb"))},
}
LINK = re.compile(r"(?<=\]\()([^)\s:#]+)(?=[)#])")
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
FETCHED = re.compile(r"<(?:link|script|img|iframe|source)\b[^>]*?\b(?:src|href)=\"?(?:https?:)?//[^\">\s]+")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave out awaited pages that are not there yet, and bring in pages that nobody has given a place."""
    awaited = [page for page in config.extra["awaited"] if not (DOCS / page).exists()]
    config.nav = _without(config.nav, awaited)
    placed = set(_pages(config.nav))
    others = [path.name for path in sorted(DOCS.glob("*.md")) if path.name not in placed]
    if others:
        config.nav.append({"More": others})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made from files outside docs/."""
    for source, page in OUTSIDE.items():
        path = ROOT / source
        if path.suffix == ".ipynb":
            markdown, images = notebook(path)
            for name, content in images.items():
                files.append(File.generated(config, posixpath.join("notebooks", name), content=content))
        elif path.is_dir():
            markdown = examples(path)
        elif DOCS in path.parents or page == "README.md":
            continue
        else:
            markdown = relinked(path.read_text(), source)
        files.append(File.generated(config, page, content=markdown))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that leave docs/ into links to the pages made above; show integrations that have come meanwhile."""
    path = page.file.src_uri
    if page.file.abs_src_path is None:
        return markdown  # made above
    if path == "reference/integrations.md":
        markdown += "".join(
            f"\n## {name}\n\n::: homing.integrations.{name}\n"
            "    options: {show_root_heading: false, show_root_toc_entry: false, heading_level: 3}\n"
            for name in integrations()
            if f"::: homing.integrations.{name}\n" not in markdown
        )
    return relinked(markdown, f"docs/{path}")


def on_post_build(config: MkDocsConfig) -> None:
    """Warn, and so fail, when a page would fetch something from elsewhere."""
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        for fetched in FETCHED.findall(path.read_text()):
            if 'rel="canonical"' not in fetched:
                log.warning("%s would fetch %s", path.relative_to(config.site_dir), fetched)


def integrations() -> list[str]:
    """The names of the public modules of homing.integrations."""
    found = (ROOT / "client" / "homing" / "integrations").glob("*.py")
    return sorted(path.stem for path in found if not path.stem.startswith("_"))


def relinked(markdown: str, source: str) -> str:
    """Point the links of a page, a file of the repository, at the pages of the site."""
    here = OUTSIDE.get(source, source.removeprefix("docs/"))

    def target(link: re.Match[str]) -> str:
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        if not (ROOT / wanted).exists():
            return link[1]  # a picture made here, or a mistake, which MkDocs will find
        page = OUTSIDE.get(wanted, wanted.removeprefix("docs/"))
        return posixpath.relpath(page, posixpath.dirname(here) or ".")

    parts, done = [], 0
    for fence in [*FENCE.finditer(markdown), None]:
        end = len(markdown) if fence is None else fence.start()
        parts += [LINK.sub(target, markdown[done:end]), "" if fence is None else fence[0]]
        done = end if fence is None else fence.end()
    return "".join(parts)


def examples(folder: Path) -> str:
    """One page of all programs in a folder: what each says of itself, and its code."""
    parts = ["# Examples", "Each runs as it is, with `HOMING_BASE_URL` set, and in the tests."]
    for path in sorted(folder.glob("*.py")):
        code = path.read_text()
        parts += [f"## {path.name}", ast.get_docstring(ast.parse(code)) or "", f"```python\n{code}```"]
    return "\n\n".join(parts)


def notebook(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown with the outputs that it holds, and its pictures by name."""
    from nbconvert import MarkdownExporter  # costs a second that other commands need not pay

    markdown, resources = MarkdownExporter().from_filename(str(path), resources={"unique_key": path.stem})
    outputs: dict[str, Any] = resources["outputs"]
    return relinked(markdown, f"examples/notebooks/{path.name}"), {Path(n).name: c for n, c in outputs.items()}


def _pages(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in _pages(part)]


def _without(nav: Any, left_out: list[str]) -> Any:
    if isinstance(nav, list):
        return [_without(part, left_out) for part in nav if part not in left_out]
    if isinstance(nav, dict):
        return {title: _without(part, left_out) for title, part in nav.items() if part not in left_out}
    return nav
