// Recorded sessions of a build, played as they were: a recording is fed to the same screen, by its times.

import { get, getText } from "./api.js";
import type { BuildPage } from "./build.js";
import { button, el, replace, say } from "./dom.js";
import { load } from "./shell.js";
import type { Tab } from "./tabs.js";
import type { Screen } from "./terminal/index.js";
import { duration, elapsed, moment } from "./words.js";

interface Kept {
  name: string;
  program: string | null;
  began: number | null;
  length: number | null;
  how: string | null;
}

interface Moment {
  at: number;
  output: string | null;
  size: [number, number] | null;
}

const SPEEDS = [0.5, 1, 2, 4, 16];

export class Player implements Tab {
  readonly name = "recordings";
  readonly title = "Recordings";
  private readonly element = el("section", { class: "shell", "aria-label": "Recordings" });
  private readonly list = el("div", { class: "log-bar" });
  private readonly bar = el("div", { class: "log-bar", hidden: true });
  private readonly frame = el("div", { class: "screen empty" });
  private readonly range = el("input", { type: "range", min: 0, max: 0, value: 0, step: 10, "aria-label": "Place in the recording" });
  private readonly time = el("span", { class: "facts" });
  private readonly start = button("Play", () => (this.timer ? this.stop() : this.play()));
  private readonly find = el("input", { type: "search", placeholder: "Search", "aria-label": "Search the recording" });
  private screen: Screen | null = null;
  private moments: Moment[] = [];
  private next = 0;
  private at = 0;
  private last = 0;
  private timer = 0;
  private speed = 1;
  private readonly dark = matchMedia("(prefers-color-scheme: dark)");

  constructor(private readonly page: BuildPage) {
    const speed = el("select", { "aria-label": "Speed", change: () => (this.speed = Number(speed.value)) });
    for (const one of SPEEDS) speed.append(el("option", { value: one, selected: one === 1 }, `${one} ×`));
    this.range.addEventListener("input", () => this.seek(Number(this.range.value)));
    this.find.addEventListener("keydown", (event) => event.key === "Enter" && this.search());
    this.bar.append(this.start, speed, this.range, this.time, this.find);
    this.element.append(this.list, this.bar, this.frame);
  }

  show(): HTMLElement {
    void this.look();
    return this.element;
  }

  hide(): void {
    this.stop();
  }

  close(): void {
    this.stop();
    this.screen?.terminal.dispose();
  }

  private async look(): Promise<void> {
    try {
      const kept = await get<Kept[]>(`builds/${this.page.id}/recordings`);
      if (kept.length === 0) return void replace(this.list, el("p", { class: "told" }, "No session of this build was recorded. ", el("code", {}, "runner run --session-log DIR"), " keeps them."));
      replace(this.list, ...kept.map((one) => button(`${one.program ?? one.name}${one.began ? ` · ${moment(one.began)}` : ""}${one.length ? ` · ${duration(one.length)}` : ""}`, () => void this.open(one))));
    } catch (error) {
      replace(this.list, el("p", { class: "bad" }, (error as Error).message));
    }
  }

  private async open(one: Kept): Promise<void> {
    this.stop();
    const text = await getText(`builds/${this.page.id}/recordings/${encodeURIComponent(one.name)}`).catch((error: Error) => this.page.problem(error.message));
    if (text === undefined) return;
    this.moments = read(text);
    this.last = this.moments.at(-1)?.at ?? 0;
    this.range.max = String(this.last);
    const { screen } = await load();
    this.screen ??= screen(this.frame, { isReader: true, isDark: this.dark.matches, readsScreen: false, open: () => undefined });
    this.frame.classList.remove("empty");
    this.bar.hidden = false;
    this.seek(0);
    this.play();
  }

  private seek(to: number): void {
    if (to < this.at) {
      this.screen?.terminal.reset();
      this.next = 0;
    }
    this.at = to;
    let shown = "";
    while (this.next < this.moments.length && this.moments[this.next]!.at <= to) {
      const { output, size } = this.moments[this.next++]!;
      if (output !== null) shown += output;
      else if (size) {
        this.screen?.terminal.write(shown);
        shown = "";
        this.screen?.terminal.resize(size[0], size[1]);
      }
    }
    if (shown) this.screen?.terminal.write(shown);
    this.range.value = String(to);
    this.time.textContent = `${elapsed(to)} of ${elapsed(this.last)}`;
  }

  private play(): void {
    if (this.at >= this.last) {
      this.at = this.last + 1;
      this.seek(0);
    }
    this.start.textContent = "Pause";
    let before = performance.now();
    const step = () => {
      const now = performance.now();
      this.seek(Math.min(this.last, this.at + (now - before) * this.speed));
      before = now;
      if (this.at >= this.last) this.stop();
      else this.timer = requestAnimationFrame(step);
    };
    this.timer = requestAnimationFrame(step);
  }

  private stop(): void {
    cancelAnimationFrame(this.timer);
    this.timer = 0;
    this.start.textContent = "Play";
  }

  // The next moment at which a text was shown.
  private search(): void {
    const text = this.find.value.toLowerCase();
    const from = this.moments.findIndex(({ at }) => at > this.at);
    const found = this.moments.slice(Math.max(0, from)).find(({ output, at }) => at > this.at && output?.toLowerCase().includes(text));
    const first = found ?? this.moments.find(({ output }) => output?.toLowerCase().includes(text));
    if (!text || !first) return say("not found");
    this.stop();
    this.seek(first.at);
    this.screen?.search.findPrevious(this.find.value);
  }
}

// An asciicast of version 2. A line that is none is left out: the last may have been cut off.
function read(text: string): Moment[] {
  const moments: Moment[] = [];
  text.split("\n").forEach((line, i) => {
    try {
      const found: unknown = JSON.parse(line);
      if (i === 0) {
        const { width, height } = found as { width: number; height: number };
        moments.push({ at: 0, output: null, size: size(width, height) });
      } else if (Array.isArray(found)) {
        const [at, kind, what] = found as [number, string, string];
        const [width, height] = String(what).split("x").map(Number);
        if (kind === "o") moments.push({ at: at * 1000, output: String(what), size: null });
        else if (kind === "r") moments.push({ at: at * 1000, output: null, size: size(width, height) });
      }
    } catch {
      // Nothing is lost that could be shown.
    }
  });
  return moments;
}

function size(width: number | undefined, height: number | undefined): [number, number] {
  const within = (value: number | undefined, or: number) => (Number.isInteger(value) && value! > 0 && value! <= 500 ? value! : or);
  return [within(width, 80), within(height, 24)];
}
