// The page: who is here, and what the address names.

import { Failed, Lost, type Visitor, enter, forget, get, key, remember, remembered } from "./api.js";
import { BuildPage } from "./build.js";
import { el, replace } from "./dom.js";
import { ListPage } from "./list.js";

interface View {
  element: HTMLElement;
  close(): void;
  press?(key: string): boolean;
  moved?(rest: string[]): boolean;
}

const app = document.getElementById("app")!;
let view: View | null = null;
let shown = "";
let visitor: Visitor | null = null;

async function start(): Promise<void> {
  const link = new URLSearchParams(location.hash.slice(1));
  const token = link.get("t");
  if (token) {
    const build = link.get("b");
    // Neither history nor whoever looks over a shoulder keeps it.
    history.replaceState(null, "", build ? `#/b/${build}` : "/");
    try {
      await enter(token);
      view?.close();
      view = null;
    } catch (error) {
      if (!(error instanceof Failed) || !key()) return closed(error);
      // One that was used already leads where it says all the same.
      if (view) route();
    }
  }
  await look();
}

async function look(): Promise<void> {
  const known = remembered();
  if (known && !view) {
    visitor = known;
    route();
  }
  let is: Visitor;
  try {
    is = await get<Visitor>("session");
  } catch (error) {
    if (!(error instanceof Lost)) return closed(error);
    // A view says by itself that there is no connection.
    if (!view) message("No connection to the runner", "It is tried again every few seconds.");
    setTimeout(() => void look(), 3000);
    return;
  }
  const isOther = is.owner !== visitor?.owner || is.build !== visitor.build;
  visitor = is;
  remember(is);
  if (view && !isOther) return;
  view?.close();
  view = null;
  route();
}

// Called where the runner says that it does not know this browser any more.
export function closed(error: unknown): void {
  forget();
  view?.close();
  view = null;
  const why = error instanceof Error ? error.message : "";
  message("This page is closed", why, el("p", {}, "A fresh link, good once and for ten minutes: ", el("code", {}, "runner page")));
}

function message(title: string, text: string, ...more: Node[]): void {
  document.title = "runner";
  replace(app, el("main", { class: "message" }, el("h1", {}, title), el("p", {}, text), ...more));
}

// What the address names. One that was typed, or cut off, may be no text in this form.
function place(): string {
  const hash = location.hash.slice(1);
  try {
    return decodeURIComponent(hash);
  } catch {
    return hash;
  }
}

function route(): void {
  if (!visitor) return;
  const [, kind, build, ...rest] = place().split("/");
  const uuid = kind === "b" ? build : visitor.build;
  const name = uuid ? `b/${uuid}` : "list";
  if (view && name === shown && view.moved?.(rest)) return;
  view?.close();
  shown = name;
  view = uuid ? new BuildPage(uuid, rest, visitor) : new ListPage();
  replace(app, view.element);
}

document.addEventListener("keydown", (event) => {
  const target = event.target as HTMLElement;
  const hasIt = target.closest("input, select, textarea, .xterm, dialog, [contenteditable]");
  if (hasIt || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "?") help();
  else if (!view?.press?.(event.key)) return;
  event.preventDefault();
});
addEventListener("hashchange", () => {
  if (new URLSearchParams(location.hash.slice(1)).has("t")) void start();
  else route();
});

const KEYS: [string, string][] = [
  ["j k", "a line down, up"],
  ["[ ]", "the command before, behind"],
  ["{ }", "the phase before, behind"],
  ["f", "the first failure"],
  ["/", "search; n and N go through what was found"],
  ["g G", "the beginning, the end; at the end the log is followed"],
  ["o O", "open all, fold all"],
  ["t", "times: none, elapsed, time of day"],
  ["r", "the whole log as plain text, for the browser's own search and for screen readers"],
  ["1 2 3 …", "the tabs"],
  ["?", "these keys"],
];

function help(): void {
  const dialog = el("dialog", { class: "help", "aria-label": "Keys" }, el("h2", {}, "Keys"));
  const list = el("dl");
  for (const [keys, text] of KEYS) list.append(el("dt", {}, keys), el("dd", {}, text));
  const close = el("button", { type: "button", click: () => dialog.close() }, "Close");
  dialog.append(list, close);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

void start();
