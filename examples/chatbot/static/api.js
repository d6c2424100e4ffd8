// The backend, as functions.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function call(method, path, body) {
  let response;
  try {
    response = await fetch(`/api/conversations${path}`, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, "The chatbot cannot be reached. Are you connected?");
  }
  const text = await response.text();
  const answer = text && response.headers.get("content-type")?.includes("json") ? JSON.parse(text) : null;
  if (response.ok) return answer;
  const detail = answer?.error?.message ?? (typeof answer?.detail === "string" ? answer.detail : null);
  throw new Refused(response.status, detail ?? `The chatbot answered ${response.status}.`);
}

export const list = () => call("GET", "");
export const create = (content) => call("POST", "", { content });
export const load = (id) => call("GET", `/${id}`);
export const remove = (id) => call("DELETE", `/${id}`);
export const say = (id, content, at = null) => call("POST", `/${id}/turns`, { content, at });
export const regenerate = (id) => call("POST", `/${id}/regenerate`);
export const stop = (id) => call("POST", `/${id}/stop`);
export const fork = (id, turns) => call("POST", `/${id}/fork`, { turns });

/** Follow a reply. `on` has a function for each kind of event, and `lost` for when it cannot be followed. */
export function follow(id, reply, on) {
  const source = new EventSource(`/api/conversations/${id}/replies/${reply}`);
  for (const kind of ["waiting", "reasoning", "delta", "refusal", "tool", "resumed", "done", "failed"]) {
    source.addEventListener(kind, (event) => {
      if (kind === "done" || kind === "failed") source.close();
      on[kind]?.(JSON.parse(event.data));
    });
  }
  // A connection that breaks is opened again by the browser, which says what came last. Closed is: for good.
  source.addEventListener("error", () => source.readyState === EventSource.CLOSED && on.lost());
  return () => source.close();
}
