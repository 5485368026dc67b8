// Terminals in the build. A terminal goes on while nobody is connected; who comes back is shown what it has shown last.

import { Failed, get, key, post } from "./api.js";
import type { BuildPage } from "./build.js";
import { button, el, replace, say } from "./dom.js";
import type { Tab } from "./tabs.js";
import type { Screen } from "./terminal/index.js";
import { count } from "./words.js";

type Library = typeof import("./terminal/index.js");

interface State {
  drives: boolean;
  hasAsked: boolean;
  hasDriver: boolean;
  viewers: number;
  asking: number[];
  rows: number;
  cols: number;
}

type Said = Partial<State> & { replay?: number; ended?: string; notice?: string; elsewhere?: boolean };

interface Listed {
  id: string;
  viewers: number;
}

// What this tab calls itself at every terminal.
function seat(): string {
  let name = sessionStorage.getItem("seat");
  if (!name) {
    name = crypto.randomUUID();
    sessionStorage.setItem("seat", name);
  }
  return name;
}

let library: Promise<Library> | null = null;

// The library is a file of its own beside this one.
export function load(): Promise<Library> {
  library ??= (async () => {
    const style = document.querySelector<HTMLLinkElement>("link[rel=stylesheet]")!;
    const link = el("link", { rel: "stylesheet", href: style.href.replace("page.css", "terminal.css") });
    document.head.append(link);
    const name = "./terminal.js";
    return (await import(name)) as Library;
  })();
  library.catch(() => (library = null));
  return library;
}

export class Shell implements Tab {
  readonly name = "terminal";
  readonly title = "Terminal";
  private readonly element = el("section", { class: "shell", "aria-label": "Terminal" });
  private readonly bar = el("div", { class: "log-bar" });
  private readonly told = el("p", { class: "told", role: "status" });
  private readonly frame = el("div", { class: "screen" });
  private screen: Screen | null = null;
  private socket: WebSocket | null = null;
  private id: string | null;
  private state: State | null = null;
  private listed: Listed[] = [];
  private isClosed = false;
  private isShown = false;
  private replaying = 0;
  // The terminal has said how it stands since this tab has come to it.
  private isJoined = false;
  private again = 0;
  private wait = 500;
  private find = "";
  private readonly dark = matchMedia("(prefers-color-scheme: dark)");
  private readonly resized = new ResizeObserver(() => this.fit());

  constructor(private readonly page: BuildPage) {
    this.id = sessionStorage.getItem(this.place);
    this.element.append(this.bar, this.told, this.frame);
    this.resized.observe(this.frame);
    this.dark.addEventListener("change", this.recolor);
    addEventListener("online", this.retry);
    document.addEventListener("visibilitychange", this.retry);
  }

  private get place(): string {
    return `terminal ${this.page.id}`;
  }

  private recolor = (): void => {
    void load().then(({ theme }) => this.screen && (this.screen.terminal.options.theme = theme(this.dark.matches)));
  };

  show(): HTMLElement {
    this.isShown = true;
    this.draw();
    void this.begin();
    requestAnimationFrame(() => {
      this.fit();
      this.screen?.terminal.focus();
    });
    return this.element;
  }

  hide(): void {
    this.isShown = false;
  }

  news(): void {
    if (this.page.latest?.status && !this.socket) this.draw();
  }

  close(): void {
    this.isClosed = true;
    clearTimeout(this.again);
    removeEventListener("online", this.retry);
    document.removeEventListener("visibilitychange", this.retry);
    this.dark.removeEventListener("change", this.recolor);
    this.resized.disconnect();
    this.socket?.close();
    this.screen?.terminal.dispose();
  }

  // Where there is a terminal that this tab has had, it goes on; where there is one of another's, it is looked at.
  private async begin(): Promise<void> {
    if (this.socket || this.isClosed) return;
    try {
      this.listed = await get<Listed[]>(`builds/${this.page.id}/terminals`);
    } catch (error) {
      this.tell((error as Error).message);
      return;
    }
    const known = this.listed.find((one) => one.id === this.id) ?? (this.page.visitor.owner ? undefined : this.listed[0]);
    if (known) return this.join(known.id);
    this.id = null;
    if (this.page.visitor.owner && this.listed.length === 0 && this.page.latest?.pauses.length) return this.start();
    this.draw();
  }

  private async relist(): Promise<void> {
    this.listed = await get<Listed[]>(`builds/${this.page.id}/terminals`).catch(() => []);
    this.draw();
  }

  private async start(): Promise<void> {
    this.tell("");
    try {
      const begun = await post<{ id: string }>(`builds/${this.page.id}/terminals`, { rows: 24, cols: 80 });
      await this.join(begun!.id);
    } catch (error) {
      this.tell((error as Error).message);
      this.draw();
    }
  }

  private async join(id: string): Promise<void> {
    this.id = id;
    sessionStorage.setItem(this.place, id);
    const { screen } = await load();
    if (this.isClosed) return;
    if (!this.screen) {
      this.screen = screen(this.frame, {
        isReader: !this.page.visitor.owner,
        isDark: this.dark.matches,
        readsScreen: localStorage.getItem("reads-screen") === "on",
        open: (address) => this.follow(address),
      });
      const { terminal } = this.screen;
      terminal.onData((data) => this.type(data));
      terminal.onBinary((data) => this.type(Uint8Array.from(data, (c) => c.charCodeAt(0))));
      terminal.textarea?.addEventListener("paste", (event) => this.paste(event), true);
    }
    this.connect(id);
    if (this.isShown) this.screen.terminal.focus();
  }

  private connect(id: string): void {
    clearTimeout(this.again);
    this.socket?.close();
    const address = `ws://${location.host}/ui/builds/${this.page.id}/terminals/${id}?seat=${seat()}`;
    const socket = new WebSocket(address, ["runner", `key.${key()}`]);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.isJoined = false;
    this.tellBusy();
    socket.onopen = () => {
      this.wait = 500;
      this.tell("");
    };
    socket.onmessage = ({ data }) => {
      if (this.socket !== socket) return;
      if (typeof data === "string") this.said(JSON.parse(data) as Said);
      else this.shown(new Uint8Array(data as ArrayBuffer));
    };
    socket.onclose = () => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.tellBusy();
      if (this.isClosed || this.id === null) return;
      this.tell("No connection. The shell goes on; it is tried again.");
      this.again = window.setTimeout(() => void this.reconnect(), this.wait);
      this.wait = Math.min(10_000, this.wait * 2);
    };
  }

  private retry = (): void => {
    if (!document.hidden && this.id && !this.socket) void this.reconnect();
  };

  private async reconnect(): Promise<void> {
    clearTimeout(this.again);
    if (this.isClosed || this.socket || !this.id) return;
    try {
      this.listed = await get<Listed[]>(`builds/${this.page.id}/terminals`);
    } catch (error) {
      if (error instanceof Failed) return this.ended(error.message);
      this.again = window.setTimeout(() => void this.reconnect(), this.wait);
      this.wait = Math.min(10_000, this.wait * 2);
      return;
    }
    if (this.listed.some((one) => one.id === this.id)) this.connect(this.id);
    else this.ended("the terminal has ended");
  }

  private shown(bytes: Uint8Array): void {
    if (this.replaying > 0) {
      // Answers to questions that were asked long ago are not typed.
      this.screen?.terminal.write(bytes, () => {
        this.replaying = Math.max(0, this.replaying - bytes.length);
        this.tellBusy();
      });
    } else this.screen?.terminal.write(bytes);
  }

  private said(what: Said): void {
    if (what.replay !== undefined) {
      this.screen?.terminal.reset();
      this.replaying = what.replay;
    } else if (what.elsewhere) {
      // This tab was made as a copy of another one: it is a viewer of its own from now on.
      sessionStorage.removeItem("seat");
      this.ended("Another tab has this shell now; it can be joined from here, too.");
      void this.relist();
    } else if (what.ended !== undefined) this.ended(what.ended);
    else if (what.notice !== undefined) this.tell(what.notice);
    else {
      const before = this.state;
      this.state = what as State;
      this.isJoined = true;
      this.tellBusy();
      if (before && before.drives !== this.state.drives) say(this.state.drives ? "you drive" : "somebody else drives");
      if (this.state.asking.length > (before?.asking.length ?? 0)) say("somebody asks to drive");
      this.draw();
      this.fit();
    }
  }

  private ended(why: string): void {
    sessionStorage.removeItem(this.place);
    this.id = null;
    this.state = null;
    const socket = this.socket;
    this.socket = null;
    socket?.close();
    this.frame.removeAttribute("aria-busy");
    this.tell(why);
    this.listed = [];
    this.draw();
  }

  // Until all that was shown before is shown again, keys are not taken.
  private tellBusy(): void {
    this.frame.setAttribute("aria-busy", String(!this.socket || !this.isJoined || this.replaying > 0));
  }

  private tell(text: string): void {
    this.told.textContent = text;
    this.told.hidden = !text;
  }

  private type(data: string | Uint8Array): void {
    if (this.replaying > 0 || !this.state?.drives || this.socket?.readyState !== WebSocket.OPEN) return;
    this.socket.send(typeof data === "string" ? new TextEncoder().encode(data) : data);
  }

  private paste(event: ClipboardEvent): void {
    const text = event.clipboardData?.getData("text") ?? "";
    const lines = text.trimEnd().split(/\r\n|\r|\n/).length;
    if (lines > 1 && !confirm(`Paste ${count(lines, "line")} into the shell?`)) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  }

  private follow(address: string): void {
    if (confirm(`Open ${address} ?`)) window.open(address, "_blank", "noopener,noreferrer");
  }

  private send(what: unknown): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(what));
  }

  // The driver's window sets the size; whoever looks on has it smaller.
  private fit(): void {
    const { screen, state } = this;
    if (!screen || !state || !this.isShown || !this.frame.clientWidth) return;
    if (state.drives) {
      screen.terminal.options.fontSize = 14;
      const wanted = screen.fit.proposeDimensions();
      if (!wanted || !(wanted.cols > 1 && wanted.rows > 1)) return;
      screen.terminal.resize(wanted.cols, wanted.rows);
      if (wanted.cols !== state.cols || wanted.rows !== state.rows) {
        state.cols = wanted.cols;
        state.rows = wanted.rows;
        this.send({ size: { rows: wanted.rows, cols: wanted.cols } });
      }
      return;
    }
    screen.terminal.resize(state.cols, state.rows);
    screen.terminal.options.fontSize = 14;
    const fits = screen.fit.proposeDimensions();
    if (fits) screen.terminal.options.fontSize = Math.max(6, Math.min(14, Math.floor(14 * Math.min(fits.cols / state.cols, fits.rows / state.rows))));
  }

  private draw(): void {
    const { state, page } = this;
    const isOver = page.latest?.status !== null && page.latest !== null;
    const parts: (Node | string | null)[] = [];
    if (state) {
      parts.push(el("span", { class: "facts" }, state.drives ? "you drive" : state.hasDriver ? "somebody else drives" : "nobody drives", ` · ${count(state.viewers, "viewer")}`));
      if (page.visitor.owner && !state.drives) parts.push(button(state.hasAsked ? "Asked…" : state.hasDriver ? "Ask for control" : "Take control", () => this.send("ask"), { disabled: state.hasAsked }));
      for (const who of state.asking) {
        parts.push(el("span", { class: "asks" }, "Somebody asks to drive ", button("Let them", () => this.send({ grant: who })), button("Refuse", () => this.send({ refuse: who }))));
      }
      const find = el("input", { type: "search", placeholder: "Search", "aria-label": "Search the terminal", value: this.find });
      find.addEventListener("keydown", (event) => {
        this.find = find.value;
        if (event.key === "Enter") event.shiftKey ? this.screen?.search.findPrevious(find.value) : this.screen?.search.findNext(find.value);
      });
      parts.push(find);
      const reads = localStorage.getItem("reads-screen") === "on";
      parts.push(button("Screen reader", () => this.readScreen(!reads), { "aria-pressed": String(reads) }));
      if (state.drives) parts.push(button("End shell", () => this.send("end"), { class: "stop" }));
    } else if (isOver) parts.push(el("span", { class: "facts" }, "The build has ended."));
    else if (page.visitor.owner) {
      parts.push(button("New shell", () => void this.start(), { class: "first" }));
      this.listed.forEach((one, i) => parts.push(button(`Join shell ${i + 1} (${count(one.viewers, "viewer")})`, () => void this.join(one.id))));
    } else parts.push(el("span", { class: "facts" }, "No shell is open. "), button("Look again", () => void this.begin()));
    const focus = document.activeElement instanceof HTMLElement && this.bar.contains(document.activeElement) ? document.activeElement.textContent : null;
    replace(this.bar, ...parts);
    if (focus) [...this.bar.querySelectorAll("button")].find((one) => one.textContent === focus)?.focus();
    this.frame.classList.toggle("empty", !this.screen);
  }

  private readScreen(on: boolean): void {
    localStorage.setItem("reads-screen", on ? "on" : "off");
    if (this.screen) this.screen.terminal.options.screenReaderMode = on;
    this.draw();
  }
}
