// Turns as nodes.

import { show } from "./markdown.js";

export function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** One turn: what was asked, the reply, and what can be done with it. `act` has the functions. */
export function turnNode(turn, place, act) {
  const number = place + 1;
  const asked = node("div", { class: "asked" }, turn.content);
  const reply = replyNode();
  reply.set({ text: turn.text, reasoning: turn.reasoning });
  const button = (label, what, act) =>
    node("button", { type: "button", class: "quiet", "aria-label": `${label} ${what} ${number}`, onclick: act }, label);
  const question = node(
    "article",
    { class: "user", "aria-label": `You, message ${number}` },
    asked,
    node("div", { class: "actions" }, button("Edit", "message", () => editor(question, turn, place, act))),
  );
  const answer = node(
    "article",
    { class: "assistant", "aria-label": `Reply ${number}` },
    reply.node,
    badges(turn),
    node(
      "div",
      { class: "actions" },
      turn.last ? button("Regenerate", "reply", () => act.regenerate()) : null,
      button("Fork", "after reply", () => act.fork(place + 1)),
    ),
  );
  return [question, answer];
}

function editor(question, turn, place, act) {
  const before = [...question.childNodes];
  const field = node("textarea", { rows: "3", maxlength: "32000", "aria-label": `Edit message ${place + 1}` });
  field.value = turn.content;
  const leave = () => {
    question.replaceChildren(...before);
    question.querySelector("button").focus();
  };
  const save = () => {
    const text = field.value.trim();
    if (text) act.edit(place, text);
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      leave();
    } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      save();
    }
  });
  const buttons = node(
    "div",
    { class: "actions" },
    node("button", { type: "button", onclick: save }, "Save and ask"),
    node("button", { type: "button", class: "quiet", onclick: leave }, "Cancel"),
  );
  question.replaceChildren(field, buttons);
  field.focus();
}

/** The text of a reply, which may grow: `set` takes what there is. Drawn at most once a frame. */
export function replyNode() {
  const thoughts = node("div");
  const details = node("details", { class: "reasoning", hidden: true }, node("summary", {}, "Reasoning"), thoughts);
  const text = node("div", { class: "text" });
  const body = node("div", { class: "reply" }, details, text);
  let wanted = null;
  const draw = () => {
    if (wanted === null) return;
    const { text: words, reasoning } = wanted;
    wanted = null;
    details.hidden = !reasoning;
    show(thoughts, reasoning);
    show(text, words);
  };
  return {
    node: body,
    set(content) {
      wanted = content;
      draw();
    },
    soon(content, drawn) {
      const waits = wanted !== null;
      wanted = content;
      if (!waits) requestAnimationFrame(() => (draw(), drawn()));
    },
  };
}

const seconds = (time) => (time < 1 ? `${Math.round(time * 1000)} ms` : `${time.toFixed(1)} s`);

/** What the cache gave, and how long the first token took. Unknown is not zero, and says so. */
export function badges({ telemetry: told, finish_reason: reason }) {
  const { prompt_tokens: prompt, cached_tokens: cached } = told;
  const all = [];
  if (prompt !== null) {
    const share = cached === null ? "cache unknown" : `${cached} of ${prompt} prompt tokens cached`;
    all.push([told.verdict, `${told.verdict.replace("_", " ")}: ${share}`, "cache"]);
  }
  if (told.time_to_first_token !== null) all.push(["time", `first token after ${seconds(told.time_to_first_token)}`, "first-token"]);
  if (told.waited > 0.05) all.push(["cold", `waited ${seconds(told.waited)} for a replica`, "waited"]);
  if (told.replica !== null) all.push(["time", told.replica, "replica"]);
  if (told.resumes) all.push(["moved", "broke off and was resumed", "resumed"]);
  if (reason === "interrupted") all.push(["cold", "stopped", "stopped"]);
  if (reason === "length") all.push(["cold", "cut at the token limit", "cut"]);
  return node(
    "ul",
    { class: "badges", "aria-label": "About this reply" },
    ...all.map(([look, text, name]) => node("li", { class: look, "data-badge": name }, text)),
  );
}
