"""The chatbot's page as a person uses it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from homing.testing import Fault, assert_no_running, assert_one_replica
from homing_server.local import Edge

from .conftest import PHONE, Site
from .person import MARKDOWN, PROSE, ask, badge, replies, said, settled, stands_at, under_way, write

pytestmark = pytest.mark.browser

Contexts = Callable[..., BrowserContext]
Picture = Callable[[Page, str], None]

HELD = Fault.hang(after_chunks=12)
"""A reply that stands still when a dozen tokens have come, until its replica is killed: then it is resumed."""


def release(edge: Edge) -> None:
    """Let a held reply go on."""
    [running] = [record for record in edge.log if record.outcome == "running"]
    assert running.replica
    edge.kill(running.replica)


def test_a_whole_conversation(page: Page, edge: Edge, picture: Picture) -> None:
    edge.answer_next(MARKDOWN, PROSE)
    first = ask(page, "How do pigeons find home?")
    expect(first.get_by_role("heading", name="How pigeons find home")).to_be_visible()
    expect(first.locator("ol > li")).to_have_count(3)
    expect(first.locator("ol > li > ul > li")).to_have_text(["at night, and under clouds"])
    expect(first.get_by_role("cell", name="500 km")).to_be_visible()
    expect(first.locator("pre code")).to_have_text(re.compile(r"^home = max"))
    link = first.get_by_role("link", name="as in Pisa")
    assert link.get_attribute("rel") == "noopener noreferrer nofollow"
    assert badge(first, "cache").startswith("first: 0 of ")
    assert re.fullmatch(r"first token after [\d.]+ m?s", badge(first, "first-token"))
    second = ask(page, "And at night?")
    assert second.locator(".text").inner_text() == PROSE
    cached, prompt = map(int, re.findall(r"\d+", badge(second, "cache")))
    assert 0 < cached < prompt
    assert badge(second, "cache").startswith("warm: ")
    assert badge(second, "replica") == badge(first, "replica")
    keys = {record.key for record in edge.log if record.path.endswith("/completions")}
    assert_one_replica(edge, keys.pop() or "")
    assert not keys
    # The list, the title and the address know it, and so does the next visit.
    expect(page.get_by_role("navigation").get_by_role("link")).to_have_text(["How do pigeons find home?"])
    assert page.title() == "How do pigeons find home?"
    before = said(page)
    page.reload()
    expect(replies(page)).to_have_count(2)
    assert said(page) == before
    page.locator("#thread").evaluate("thread => thread.scrollTop = 0")
    picture(page, "conversation")


def test_a_cold_start_is_shown(page: Page, edge: Edge, picture: Picture) -> None:
    edge.hold_cold()
    write(page, "Is anybody there?")
    banner = page.locator("#banner")
    expect(banner).to_be_visible()
    expect(banner.locator("#elapsed")).to_have_text(re.compile(r"^\d+ s$"))
    expect(page.get_by_role("status")).to_have_text(re.compile("A replica is starting"))
    expect(banner.locator("#elapsed")).to_have_text(re.compile(r"^[1-9]\d* s$"))  # it counts
    picture(page, "cold-start")
    edge.become_ready()
    expect(replies(page)).to_have_count(1)
    expect(banner).to_be_hidden()
    assert re.fullmatch(r"waited [\d.]+ m?s for a replica", badge(replies(page).first, "waited"))


@pytest.mark.parametrize("how", ["button", "key"])
def test_stop(page: Page, edge: Edge, how: str) -> None:
    edge.answer_next(PROSE)
    edge.inject(HELD)
    write(page, "Tell me everything.")
    seen = stands_at(page, "Sentence number 1")
    if how == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    settled(page)
    assert badge(replies(page).first, "stopped") == "stopped"
    assert said(page)[1].startswith(seen)
    assert_no_running(edge)
    assert edge.log[-1].outcome == "aborted"
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def test_reload_in_mid_stream_and_go_on_in_another_worker(page: Page, site: Site, edge: Edge) -> None:
    edge.answer_with(PROSE)
    edge.inject(HELD)
    write(page, "Tell me everything.")
    seen = stands_at(page, "Sentence number 1")
    page.reload()
    assert stands_at(page, seen) == seen
    page.goto(page.url.replace(site.workers[0], site.workers[1]))
    assert stands_at(page, seen) == seen
    assert edge.running == 1  # the same reply, all the time
    release(edge)
    expect(replies(page)).to_have_count(1)
    assert said(page) == ["Tell me everything.", PROSE]


def test_a_replica_is_killed_while_streaming(page: Page, edge: Edge) -> None:
    edge.answer_with(PROSE)
    edge.inject(HELD)
    write(page, "Tell me everything.")
    stands_at(page, "Sentence number 1")
    release(edge)
    expect(replies(page)).to_have_count(1)
    assert said(page)[1] == PROSE
    assert badge(replies(page).first, "resumed") == "broke off and was resumed"


def test_two_tabs_at_once(new_context: Contexts, site: Site, edge: Edge) -> None:
    context = new_context()
    one, other = context.new_page(), context.new_page()
    one.goto(site.workers[0])
    edge.answer_with(PROSE)
    edge.inject(HELD)
    write(one, "From the first tab")
    seen = stands_at(one, "Sentence number 1")
    other.goto(one.url)
    assert stands_at(other, seen) == seen
    # A second question is not lost while the first reply is under way, and not asked either.
    expect(other.get_by_role("button", name="Send")).to_be_hidden()
    write(other, "From the second tab")
    expect(other.get_by_label("Message", exact=True)).to_have_value("From the second tab")
    # Meanwhile the first tab is in another conversation.
    one.get_by_role("button", name="New chat").click()
    ask(one, "Something else")
    release(edge)
    expect(replies(other)).to_have_count(1)
    assert said(other) == ["From the first tab", PROSE]
    other.keyboard.press("Enter")
    expect(replies(other)).to_have_count(2)
    # The first tab comes back, and sees what the second has said.
    one.get_by_role("link", name="From the first tab").click()
    expect(replies(one)).to_have_count(2)
    assert said(one) == said(other)
    expect(other.get_by_role("navigation").get_by_role("link")).to_have_count(2)
    # Both look at it: what is said in one appears in the other.
    ask(other, "Once more")
    expect(replies(one)).to_have_count(3)


def test_edit_regenerate_and_fork(page: Page, edge: Edge) -> None:
    edge.answer_next("One.", "Two.", "Two, otherwise.", "New two.", "The fork's own.")
    ask(page, "First?")
    ask(page, "Second?")
    page.get_by_role("button", name="Regenerate reply 2").click()
    expect(replies(page).nth(1).locator(".text")).to_have_text("Two, otherwise.")
    page.get_by_role("button", name="Edit message 2").click()
    editor = page.get_by_label("Edit message 2")
    expect(editor).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Edit message 2")).to_be_focused()
    page.keyboard.press("Enter")
    editor.fill("Second, edited?")
    page.keyboard.press("Enter")
    expect(replies(page).nth(1).locator(".text")).to_have_text("New two.")
    assert said(page) == ["First?", "One.", "Second, edited?", "New two."]
    origin = page.url
    page.get_by_role("button", name="Fork after reply 1").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("First? (fork)")
    assert said(page) == ["First?", "One."]
    ask(page, "Elsewhere?")
    assert said(page) == ["First?", "One.", "Elsewhere?", "The fork's own."]
    page.goto(origin)
    expect(page.get_by_role("heading", level=1)).to_have_text("First?")
    assert said(page) == ["First?", "One.", "Second, edited?", "New two."]
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Delete First?", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("New chat")
    expect(page.get_by_role("navigation").get_by_role("link")).to_have_text(["First? (fork)"])


def test_what_fails_is_said_and_nothing_is_lost(page: Page, edge: Edge, site: Site) -> None:
    edge.answer_with("At last.")
    edge.inject(Fault.answer(400, '{"message": "sk-secret"}'))
    write(page, "A question that took long to write")
    alert = page.get_by_role("alert").filter(has_text="The server refused the request.")
    expect(alert).to_be_visible()
    page.reload()
    expect(alert).to_be_visible()
    expect(page.locator(".asked")).to_have_text("A question that took long to write")
    page.get_by_role("button", name="Ask again").click()
    expect(replies(page)).to_have_count(1)
    assert said(page) == ["A question that took long to write", "At last."]
    page.context.set_offline(True)
    write(page, "Said in a tunnel")
    expect(page.get_by_role("alert")).to_have_text(re.compile("cannot be reached"))
    expect(page.get_by_label("Message", exact=True)).to_have_value("Said in a tunnel")
    page.context.set_offline(False)
    page.keyboard.press("Enter")
    expect(replies(page)).to_have_count(2)


def test_somebody_else_sees_nothing(page: Page, new_context: Contexts, edge: Edge) -> None:
    ask(page, "A secret")
    stranger = new_context().new_page()
    stranger.goto(page.url)
    expect(stranger.get_by_role("alert")).to_have_text("There is no such conversation.")
    assert said(stranger) == []
    expect(stranger.get_by_role("navigation").get_by_role("link")).to_have_count(0)


def test_on_a_phone(new_context: Contexts, site: Site, edge: Edge, picture: Picture) -> None:
    page = new_context(**PHONE).new_page()
    page.goto(site.workers[0])
    edge.answer_with(MARKDOWN + "\n\n" + "https://example.com/" + "x" * 300)
    ask(page, "How do pigeons find home, when the night is dark and the way is long?")
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert page.evaluate(wide) is False
    for button in page.get_by_role("button").all():
        box = button.bounding_box() if button.is_visible() else None
        assert box is None or (box["height"] >= 24 and box["width"] >= 24)  # WCAG 2.2, 2.5.8
    page.locator("#thread").evaluate("thread => thread.scrollTop = 0")
    picture(page, "phone")
    conversation = page.get_by_role("link", name="How do pigeons")
    expect(conversation).to_have_count(0)  # off the screen, and off the accessibility tree
    page.get_by_role("button", name="Conversations").click()
    expect(page.get_by_role("button", name="New chat")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Conversations")).to_be_focused()
    page.get_by_role("button", name="Conversations").click()
    page.get_by_role("button", name="New chat").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("New chat")
    expect(page.locator("#sidebar")).not_to_be_in_viewport()
    page.get_by_role("button", name="Conversations").click()
    conversation.click()
    expect(replies(page)).to_have_count(1)
    assert page.evaluate(wide) is False


def test_dark_mode(new_context: Contexts, site: Site, edge: Edge, picture: Picture) -> None:
    page = new_context(color_scheme="dark").new_page()
    page.goto(site.workers[0])
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    edge.answer_with(MARKDOWN)
    ask(page, "How do pigeons find home?")
    page.locator("#thread").evaluate("thread => thread.scrollTop = 0")
    picture(page, "dark")
    switch = page.get_by_role("button", name="Dark")
    expect(switch).to_have_attribute("aria-pressed", "true")
    switch.click()
    light = page.evaluate(background)
    assert light != dark
    page.reload()
    assert page.evaluate(background) == light
    expect(switch).to_have_attribute("aria-pressed", "false")


def test_by_keyboard_and_by_ear(page: Page, edge: Edge) -> None:
    edge.answer_next("A short answer.")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the message box")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.type("Two")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("lines")
    page.keyboard.press("Enter")
    expect(replies(page)).to_have_count(1)
    assert page.locator(".asked").inner_text() == "Two\nlines"
    # Told once, when it is whole, and not token by token.
    expect(page.get_by_role("status")).to_have_text("Reply: A short answer.")
    expect(page.get_by_role("log")).to_have_attribute("aria-live", "off")
    expect(page.get_by_label("Message", exact=True)).to_be_focused()


def test_a_reply_under_way_is_marked_as_such(page: Page, edge: Edge) -> None:
    edge.answer_next(PROSE)
    edge.inject(HELD)
    write(page, "Go on.")
    stands_at(page, "Sentence number 1")
    expect(page.get_by_role("log")).to_have_attribute("aria-busy", "true")
    expect(page.get_by_role("article", name="Reply, being written")).to_be_visible()
    expect(under_way(page)).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    settled(page)


def violations(page: Page) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found: Any = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {node['html'][:200]} {node.get('failureSummary')}" for one in grave for node in one["nodes"]]


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_axe_finds_no_serious_fault(new_context: Contexts, site: Site, edge: Edge, size: str, scheme: Any) -> None:
    # The policy is lifted for axe itself, which is a script that the page would refuse.
    context = new_context(bypass_csp=True, color_scheme=scheme, **(PHONE if size == "phone" else {}))
    page = context.new_page()
    page.goto(site.workers[0])
    expect(page.locator("#empty")).to_be_visible()
    assert violations(page) == []
    edge.answer_next(MARKDOWN)
    ask(page, "How do pigeons find home?")
    page.get_by_role("button", name="Edit message 1").click()
    assert violations(page) == []  # a conversation, and the editor
    page.keyboard.press("Escape")
    edge.hold_cold()
    write(page, "And now?")
    expect(page.locator("#banner")).to_be_visible()
    if size == "phone":
        page.get_by_role("button", name="Conversations").click()
    assert violations(page) == []  # the wait for a replica, and on a phone the list
    if size == "phone":
        page.keyboard.press("Escape")
    edge.inject(Fault.answer(400, "{}"))
    edge.become_ready()
    expect(page.get_by_role("button", name="Ask again")).to_be_visible()
    assert violations(page) == []  # a failure


def test_axe_would_find_one(new_context: Contexts, site: Site) -> None:
    page = new_context(bypass_csp=True).new_page()
    page.goto(site.workers[0])
    page.evaluate("document.querySelector('label[for=message]').remove(), message.placeholder = ''")
    assert any(fault.startswith("label:") for fault in violations(page))
