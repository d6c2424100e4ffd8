// The page: which conversation is open, and the reply under way in it.

import * as api from "./api.js";
import { node, replyNode, turnNode } from "./thread.js";

const $ = (id) => document.getElementById(id);
const phone = matchMedia("(max-width: 48rem)");
const tabs = new BroadcastChannel("chatbot");

let id = null; // the open conversation, null for one that has not begun
let turns = [];
let shown = []; // nodes of turns, with what they were made of
let live = null; // the reply under way: { asked, nodes, reply, text, reasoning, leave }
let opening = null; // the latest attempt to open one
let since = null; // when the wait for a replica began

// -- small things ------------------------------------------------------------------------------

const announce = (text) => ($("announcer").textContent = text);

function problem(text) {
  $("problem").textContent = text ?? "";
  $("problem").hidden = !text;
}

async function guarded(action) {
  problem(null);
  try {
    return await action();
  } catch (error) {
    if (!(error instanceof api.Refused)) throw error;
    problem(error.message);
    return undefined;
  }
}

const atEnd = () => $("thread").scrollHeight - $("thread").scrollTop - $("thread").clientHeight < 80;
const toEnd = () => ($("thread").scrollTop = $("thread").scrollHeight);

function fit() {
  const field = $("message");
  field.rows = Math.min(8, Math.max(1, field.value.split("\n").length));
}

// -- the open conversation ---------------------------------------------------------------------

function draw() {
  const hidden = live?.asked.at ?? Infinity; // turns that the reply under way replaces
  const wanted = turns.slice(0, hidden).map((turn, place) => ({ ...turn, last: !live && place === turns.length - 1 }));
  const keys = wanted.map((turn, place) => `${place} ${JSON.stringify(turn)}`);
  shown = wanted.map((turn, place) => {
    if (shown[place]?.key === keys[place]) return shown[place];
    return { key: keys[place], nodes: turnNode(turn, place, { edit, regenerate, fork }) };
  });
  const nodes = [...shown.flatMap((turn) => turn.nodes), ...(live?.nodes ?? [])];
  const thread = $("thread");
  $("empty").hidden = nodes.length > 0;
  nodes.forEach((one, place) => {
    if (thread.children[place + 1] !== one) thread.insertBefore(one, thread.children[place + 1] ?? null);
  });
  while (thread.children.length > nodes.length + 1) thread.lastElementChild.remove();
  const running = live !== null && !live.failed;
  $("stop").hidden = !running;
  $("send").hidden = running;
  thread.setAttribute("aria-busy", running);
}

function startLive(asked) {
  live?.leave?.();
  const reply = replyNode();
  const question = node("article", { class: "user", "aria-label": "You" }, node("div", { class: "asked" }, asked.content));
  const answer = node("article", { class: "assistant live", "aria-label": "Reply, being written" }, reply.node);
  live = { asked, reply, answer, nodes: [question, answer], text: "", reasoning: "", failed: false };
  return live;
}

function grow(reply) {
  const follows = atEnd();
  reply.reply.soon({ text: reply.text, reasoning: reply.reasoning }, () => follows && toEnd());
}

function follow(asked, name) {
  const mine = startLive(asked);
  const here = id;
  const current = () => live === mine;
  const came = (part) => (piece) => {
    if (!current()) return;
    awake();
    mine[part] += piece.text;
    grow(mine);
  };
  mine.leave = api.follow(here, name, {
    waiting: (wait) => current() && asleep(wait.elapsed),
    reasoning: came("reasoning"),
    delta: came("text"),
    refusal: came("text"),
    resumed: () => current() && announce("The connection broke. The reply goes on."),
    done: () => current() && finished(mine, here),
    failed: (error) => current() && failed(mine, error),
    lost: () => current() && setTimeout(() => current() && guarded(() => open(here)), 1000),
  });
  draw();
  toEnd();
}

async function finished(mine, here) {
  awake();
  mine.leave();
  await guarded(async () => {
    const answer = await api.load(here);
    if (live !== mine) return;
    const follows = atEnd();
    live = null;
    await take(answer);
    if (follows) toEnd();
    announce(`Reply: ${turns.at(-1)?.text ?? ""}`);
  });
  tabs.postMessage({ id: here });
}

function failed(mine, error) {
  awake();
  mine.failed = true;
  mine.reply.set({ text: mine.text, reasoning: mine.reasoning });
  const again = () => guarded(() => ask(mine.asked.content, mine.asked.at));
  mine.answer.classList.remove("live");
  mine.answer.setAttribute("aria-label", "Reply that failed");
  mine.answer.append(
    node(
      "div",
      { class: "failure", role: "alert" },
      node("p", {}, error.message),
      node("button", { type: "button", onclick: again }, "Ask again"),
    ),
  );
  draw();
  toEnd();
}

async function take(answer) {
  ({ turns } = answer);
  $("title").textContent = document.title = answer.title;
  if (answer.latest?.running) {
    follow(answer.latest.asked, answer.latest.reply);
  } else if (answer.latest) {
    const mine = startLive(answer.latest.asked);
    mine.text = answer.latest.text;
    failed(mine, answer.latest.error);
  } else {
    draw();
  }
}

async function open(wanted) {
  const mine = (opening = Symbol("opening"));
  const answer = wanted === null ? null : await api.load(wanted);
  if (opening !== mine) return; // somebody was faster at choosing another
  live?.leave?.();
  live = null;
  awake();
  if (id !== wanted) [shown, id] = [[], wanted];
  if (answer === null) {
    turns = [];
    $("title").textContent = document.title = "New chat";
    draw();
  } else {
    await take(answer);
    toEnd();
  }
  mark();
}

async function openAddress() {
  drawer(false);
  const wanted = location.hash.slice(1) || null;
  await guarded(async () => {
    try {
      await open(wanted);
    } catch (error) {
      if (error.status === 404 || error.status === 401) await open(null);
      throw error;
    }
  });
}

// -- a wait for a replica ----------------------------------------------------------------------

const tick = () => ($("elapsed").textContent = `${Math.round((performance.now() - since) / 1000)} s`);
let ticking;

function asleep(elapsed) {
  if (since === null) {
    announce("A replica is starting. This may take minutes.");
    ticking = setInterval(tick, 500);
    $("banner").hidden = false;
  }
  since = performance.now() - elapsed * 1000;
  tick();
}

function awake() {
  if (since === null) return;
  since = null;
  clearInterval(ticking);
  $("banner").hidden = true;
}

// -- what a person does ------------------------------------------------------------------------

async function ask(content, at = null) {
  const here = id;
  if (here === null) {
    const made = await api.create(content);
    [id, turns, shown] = [made.id, [], []];
    history.pushState(null, "", `#${made.id}`);
    $("title").textContent = document.title = content.slice(0, 60);
    follow({ content, at }, made.reply);
    await refreshList();
  } else {
    const { reply } = await api.say(here, content, at);
    if (id === here) follow({ content, at }, reply);
  }
  announce("Waiting for the reply.");
  tabs.postMessage({ id });
}

async function send() {
  const field = $("message");
  const content = field.value.trim();
  if (!content || (live && !live.failed)) return;
  field.value = "";
  fit();
  const kept = () => {
    if (!field.value) field.value = content; // not sent: nothing that was typed is lost
    fit();
  };
  await guarded(async () => {
    try {
      await ask(content);
    } catch (error) {
      kept();
      if (error.status === 409) await open(id); // another tab has asked meanwhile: show that
      throw error;
    }
  });
}

const edit = (place, content) => guarded(() => ask(content, place));

const regenerate = () =>
  guarded(async () => {
    const { reply } = await api.regenerate(id);
    follow({ content: turns.at(-1).content, at: turns.length - 1 }, reply);
    tabs.postMessage({ id });
  });

const fork = (count) =>
  guarded(async () => {
    const made = await api.fork(id, count);
    location.hash = made.id;
    await refreshList();
    announce("A copy of the conversation is open.");
    $("message").focus();
  });

const stop = () => guarded(() => api.stop(id));

function startNew() {
  if (location.hash) location.hash = "";
  else openAddress();
  $("message").focus();
}

// -- the list ----------------------------------------------------------------------------------

async function refreshList() {
  const entries = await api.list();
  $("list").replaceChildren(
    ...entries.map((entry) =>
      node(
        "li",
        {},
        node("a", { href: `#${entry.id}`, "data-id": entry.id }, entry.title),
        node(
          "button",
          { type: "button", class: "quiet", "aria-label": `Delete ${entry.title}`, onclick: () => remove(entry) },
          "✕",
        ),
      ),
    ),
  );
  mark();
}

function mark() {
  for (const link of $("list").querySelectorAll("a")) {
    if (link.dataset.id === id) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

const remove = (entry) =>
  guarded(async () => {
    if (!confirm(`Delete “${entry.title}”?`)) return;
    await api.remove(entry.id);
    if (entry.id === id) startNew();
    await refreshList();
    $("new").focus();
  });

function drawer(opened) {
  document.body.classList.toggle("drawer", opened);
  $("menu").setAttribute("aria-expanded", opened);
  $("sidebar").inert = phone.matches && !opened; // off the screen: not for the keyboard either
}

// -- light and dark ----------------------------------------------------------------------------

function theme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  $("theme").setAttribute("aria-pressed", dark);
}

// -- begin -------------------------------------------------------------------------------------

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("message").addEventListener("input", fit);
$("message").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
$("stop").addEventListener("click", stop);
$("new").addEventListener("click", startNew);
$("menu").addEventListener("click", () => {
  const opened = !document.body.classList.contains("drawer");
  drawer(opened);
  if (opened) $("new").focus();
});
$("shade").addEventListener("click", () => drawer(false));
$("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme !== "dark";
  theme(dark);
  localStorage.setItem("theme", dark ? "dark" : "light");
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (document.body.classList.contains("drawer")) {
    drawer(false);
    $("menu").focus();
  } else if (live && !live.failed) stop();
});
phone.addEventListener("change", () => drawer(false));
addEventListener("hashchange", openAddress);
addEventListener("popstate", () => (location.hash.slice(1) || null) !== id && openAddress());

const catchUp = () => guarded(async () => {
  if (id !== null && (live === null || live.failed)) await open(id);
  await refreshList();
});
tabs.addEventListener("message", ({ data }) => (data.id === id ? catchUp() : guarded(refreshList)));

const chosen = localStorage.getItem("theme");
theme(chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
fit();
openAddress();
guarded(refreshList);
