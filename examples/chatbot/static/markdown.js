// Markdown to DOM nodes. Text becomes text nodes, never markup: there is no innerHTML here, so there is
// nothing to sanitise. Understood: headings, paragraphs, lists, quotes, fenced code, tables, rules; emphasis,
// code, links. Pictures become links: a page must not fetch what a model names. HTML is shown as it is typed.

const MAX_DEPTH = 8; // of quotes and lists in each other; deeper ones are shown as text
const LINK_REACH = 2000; // characters that a link's text or address may have

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([\w+#.-]*)[^`]*$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])([ \t]+|$)/;
const DELIMITERS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const BLANK = /^[ \t]*$/;

const sources = new WeakMap(); // which text a block's node was made of

/** Make `container` show `text`. Blocks that are as they were keep their nodes, so a growing text is cheap. */
export function show(container, text) {
  const blocks = split(text);
  blocks.forEach((source, place) => {
    const old = container.children[place];
    if (old && sources.get(old) === source) return;
    const node = block(source, 0);
    sources.set(node, source);
    if (old) old.replaceWith(node);
    else container.append(node);
  });
  while (container.children.length > blocks.length) container.lastElementChild.remove();
}

/** Cut a text into the sources of its blocks. */
export function split(text) {
  const blocks = [];
  let lines = [];
  let kind = "";
  let fence = "";
  const end = () => {
    while (lines.length && BLANK.test(lines.at(-1))) lines.pop();
    if (lines.length) blocks.push(lines.join("\n"));
    lines = [];
    kind = "";
  };
  for (const line of text.replace(/\r\n?/g, "\n").replace(/\u0000/g, "\ufffd").split("\n")) {
    if (kind === "fence") {
      lines.push(line);
      if (closes(line, fence)) {
        blocks.push(lines.join("\n"));
        lines = [];
        kind = "";
      }
      continue;
    }
    if (kind === "list") {
      const lazy = !/^\s*(?:`{3,}|~{3,})?\s*$/.test(lines.at(-1)) && plain(line); // text goes on, not indented
      if (BLANK.test(line) || ITEM.test(line) || /^(?: {2,}|\t)/.test(line) || lazy) {
        lines.push(line);
        continue;
      }
      end();
    }
    const opening = FENCE.exec(line);
    if (BLANK.test(line)) {
      end();
    } else if (opening) {
      end();
      [kind, fence] = ["fence", opening[1]];
      lines.push(line);
    } else if (HEADING.test(line) || RULE.test(line)) {
      end();
      lines.push(line);
      end();
    } else if (QUOTE.test(line)) {
      if (kind !== "quote") end();
      kind = "quote";
      lines.push(line);
    } else if (ITEM.test(line)) {
      end();
      kind = "list";
      lines.push(line);
    } else {
      if (kind === "quote") end();
      kind = "text";
      lines.push(line);
    }
  }
  if (kind === "fence") blocks.push(lines.join("\n")); // still being written
  else end();
  return blocks;
}

const plain = (line) => ![FENCE, HEADING, RULE, QUOTE].some((pattern) => pattern.test(line));

function closes(line, fence) {
  const trimmed = line.trim();
  return trimmed.length >= fence.length && trimmed === fence[0].repeat(trimmed.length);
}

function element(name, ...children) {
  const node = document.createElement(name);
  node.append(...children);
  return node;
}

function block(source, depth) {
  const lines = source.split("\n");
  const [first] = lines;
  if (depth > MAX_DEPTH) return element("p", source);
  if (FENCE.test(first)) return code(lines);
  const heading = HEADING.exec(first);
  if (heading) return inline(heading[2] ?? "", element(`h${Math.min(6, heading[1].length + 2)}`));
  if (RULE.test(first)) return element("hr");
  if (QUOTE.test(first)) return within(element("blockquote"), lines.map((line) => line.replace(QUOTE, "")), depth);
  if (ITEM.test(first)) return list(lines, depth);
  if (lines.length > 1 && first.includes("|") && DELIMITERS.test(lines[1])) return table(lines);
  return inline(lines.map((line) => line.trimStart()).join("\n"), element("p"));
}

function within(parent, lines, depth) {
  for (const source of split(lines.join("\n"))) parent.append(block(source, depth + 1));
  return parent;
}

function code(lines) {
  const [, fence, language] = FENCE.exec(lines[0]);
  const closed = lines.length > 1 && closes(lines.at(-1), fence);
  const pre = element("pre", element("code", lines.slice(1, closed ? -1 : undefined).join("\n")));
  pre.tabIndex = 0; // it may scroll, also for those without a mouse
  if (language) pre.dataset.language = language;
  return pre;
}

function list(lines, depth) {
  const [, margin, mark] = ITEM.exec(lines[0]);
  const ordered = /\d/.test(mark);
  const items = [];
  let inset = 0; // how far the current item's text stands in
  for (const line of lines) {
    const item = ITEM.exec(line);
    if (item && item[1].length < margin.length + 2) {
      inset = Math.max(margin.length + 2, item[0].length);
      items.push([line.slice(item[0].length)]);
    } else {
      const spaced = line.replace(/^\t/, "    ");
      items.at(-1).push(spaced.slice(Math.min(/^ */.exec(spaced)[0].length, inset)));
    }
  }
  const node = element(ordered ? "ol" : "ul");
  if (ordered) node.start = Number.parseInt(ITEM.exec(lines[0])[2], 10);
  for (const item of items) {
    const entry = within(element("li"), item, depth);
    const [only] = entry.children;
    // A tight list: its items' text is not a paragraph.
    if (only?.tagName === "P" && !item.some((line) => BLANK.test(line))) only.replaceWith(...only.childNodes);
    node.append(entry);
  }
  return node;
}

function table(lines) {
  const [head, , ...body] = lines.map(cells);
  const row = (tag, texts) => element("tr", ...head.map((_, place) => inline(texts[place] ?? "", element(tag))));
  const whole = element("table", element("thead", row("th", head)), element("tbody", ...body.map((one) => row("td", one))));
  const frame = element("div", whole);
  frame.className = "scrolls";
  frame.tabIndex = 0;
  return frame;
}

const cells = (line) =>
  line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "").split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));

// -- inside a line -----------------------------------------------------------------------------

const SPECIAL = /[\\`*_~[!<\n]|https?:\/\//g;
const MARKS = [["**", "strong"], ["__", "strong"], ["~~", "del"], ["*", "em"], ["_", "em"]];

/** Append `text` to `parent`, which is returned. */
export function inline(text, parent, depth = 0) {
  let done = 0;
  let place = 0;
  const hopeless = new Set(); // marks that nothing closes from here on: not looked for again
  while (place < text.length) {
    SPECIAL.lastIndex = place;
    const found = SPECIAL.exec(text);
    if (!found) break;
    place = found.index;
    const [node, after] = special(text, place, depth, hopeless) ?? [null, place + 1];
    if (node !== null) {
      if (done < place) parent.append(text.slice(done, place));
      parent.append(node);
      done = after;
    }
    place = after;
  }
  if (done < text.length) parent.append(text.slice(done));
  return parent;
}

function special(text, place, depth, hopeless) {
  const rest = (reach) => text.slice(place, place + reach);
  switch (text[place]) {
    case "\\": {
      if (text[place + 1] === "\n") return [element("br"), place + 2];
      return /[!-/:-@[-`{-~]/.test(text[place + 1] ?? "") ? [text[place + 1], place + 2] : null;
    }
    case "\n":
      return text.slice(Math.max(0, place - 2), place) === "  " ? [element("br"), place + 1] : null;
    case "`": {
      const [ticks] = /^`+/.exec(rest(100));
      if (hopeless.has(ticks)) return null;
      for (let end = place; (end = text.indexOf(ticks, end + ticks.length)) !== -1; ) {
        if (text[end + ticks.length] === "`") {
          while (text[end + ticks.length] === "`") end += 1;
          continue;
        }
        const inner = text.slice(place + ticks.length, end).replaceAll("\n", " ");
        const bare = /^ .*[^ ].* $/.test(inner) ? inner.slice(1, -1) : inner;
        return [element("code", bare), end + ticks.length];
      }
      hopeless.add(ticks);
      return [ticks, place + ticks.length];
    }
    case "<": {
      const match = /^<(https?:\/\/[^\s<>]+|mailto:[^\s<>]+)>/.exec(rest(LINK_REACH));
      return match && [anchor(match[1], match[1]), place + match[0].length];
    }
    case "!":
    case "[": {
      const match = /^!?\[((?:[^[\]\\]|\\.|\[[^[\]]*\])*)\]\(\s*<?([^\s<>()]*(?:\([^\s<>()]*\)[^\s<>()]*)*)>?(?:\s+["'][^"'\n]*["'])?\s*\)/s.exec(rest(LINK_REACH));
      if (!match || depth > MAX_DEPTH) return null;
      const picture = match[0][0] === "!";
      const node = picture
        ? anchor(match[2], match[1] || "picture")
        : anchor(match[2], inline(match[1], document.createDocumentFragment(), MAX_DEPTH)); // no links in links
      return [node, place + match[0].length];
    }
    case "h": {
      if (depth > MAX_DEPTH || /\w/.test(text[place - 1] ?? "")) return null;
      const [address] = /^https?:\/\/[^\s<>"']*/.exec(rest(LINK_REACH));
      const bare = address.replace(/[.,;:!?)\]*_~]+$/, "");
      return bare.length > 8 ? [anchor(bare, bare), place + bare.length] : null;
    }
    default:
      return emphasis(text, place, depth, hopeless);
  }
}

function emphasis(text, place, depth, hopeless) {
  const [mark, name] = MARKS.find(([one]) => text.startsWith(one, place)) ?? [];
  if (!mark || depth >= MAX_DEPTH || hopeless.has(mark)) return null;
  const letters = mark[0] === "_"; // snake_case is not emphasis
  if (/\s|^$/.test(text[place + mark.length] ?? "") || (letters && /\w/.test(text[place - 1] ?? ""))) return null;
  for (let end = place + mark.length; (end = text.indexOf(mark, end + 1)) !== -1; ) {
    const twice = mark.length === 1 && (text[end + 1] === mark || text[end - 1] === mark);
    const inWord = letters && /\w/.test(text[end + mark.length] ?? "");
    if (twice || inWord || /\s/.test(text[end - 1]) || text[end - 1] === "\\") continue;
    if (mark.length === 2 && text[end + 2] === mark[0]) end += 1; // of three, the inner one closes what is inside
    return [inline(text.slice(place + mark.length, end), element(name), depth + 1), end + mark.length];
  }
  hopeless.add(mark);
  return null;
}

/** A link, if the address is one that may be opened; else its text. */
function anchor(address, content) {
  let url = null;
  try {
    url = new URL(address);
  } catch {
    // relative, or nonsense: it would lead into this site
  }
  if (!["http:", "https:", "mailto:"].includes(url?.protocol)) return element("span", content);
  const node = element("a", content);
  node.href = url.href;
  node.rel = "noopener noreferrer nofollow";
  node.target = "_blank";
  return node;
}
