// The log: heads of phases and commands, and rows below them. Only what is in view stands in the document.

import { type Look, type Piece, PLAIN, parse, show } from "./ansi.js";
import { type Hits, type News, type Rows, type Section, Failed, Lost, get } from "./api.js";
import { button, el, say } from "./dom.js";
import { clock, count, duration, elapsed, mark, word } from "./words.js";

const HEIGHT = 20;
// Higher elements are cut off by browsers; beyond that a place on the bar stands for more than one line.
const HIGHEST = 8_000_000;
const CHUNK = 200;
const CHUNKS = 60;
const MARGIN = 20;
// Lines that the first one in the document may be away from where those begin.
const FURTHEST = 400;

interface Shown {
  pieces: Piece[];
  time: number;
}

// Lines of one part that are in view if they are reached: its head, and its rows if they are not folded.
interface Run {
  at: number;
  line: number;
  rows: number;
  row: number;
}

type Times = "off" | "elapsed" | "clock";

export class LogView {
  readonly element = el("section", { class: "log", "aria-label": "Log" });
  private readonly bar = el("div", { class: "log-bar", role: "toolbar", "aria-label": "Log" });
  private readonly scroller = el("div", { class: "scroller", tabindex: 0, role: "log", "aria-live": "off", "aria-label": "Output of the build" });
  private readonly space = el("div", { class: "space" });
  private readonly lines = el("div", { class: "lines" });
  private readonly stuck = el("div", { class: "stuck", "aria-hidden": "true" });
  private readonly newer = button("", () => this.toEnd(), { class: "newer", hidden: true });
  private readonly found = el("span", { class: "found", role: "status" });
  private readonly search = el("input", { type: "search", placeholder: "Search", "aria-label": "Search the log", autocomplete: "off", spellcheck: "false" });
  sections: Section[] = [];
  private runs: Run[] = [];
  private total = 0;
  private rows = 0;
  private bytes = 0;
  private status: string | null = null;
  private started = 0;
  private chosen = new Map<number, boolean>();
  private chunks = new Map<number, Shown[]>();
  private asked = new Set<number>();
  private first = 0;
  private isFollowing = true;
  private seen = 0;
  private isWrapped = localStorage.getItem("wrap") === "on";
  private times: Times = (localStorage.getItem("times") as Times | null) ?? "off";
  private marked: [number, number] | null = null;
  private hits: { line: "row" | "section"; at: number }[] = [];
  private hit = -1;
  private query = "";
  private searching: AbortController | null = null;
  private frame = 0;
  // Lines that stand in the document, from which one on. Those that have only been scrolled stay as they are.
  private drawn: HTMLElement[] = [];
  private drawnFrom = 0;
  private isStale = true;
  // Where the document's lines begin: those that stay keep their places, so that nothing of them is painted again.
  private base = 0;
  private seenHeight = 0;
  private readonly missing = new WeakSet<HTMLElement>();
  private isPlaced = false;
  private dark = matchMedia("(prefers-color-scheme: dark)");
  private readonly resized = new ResizeObserver(() => {
    this.seenHeight = this.scroller.clientHeight;
    this.draw();
  });

  constructor(
    private readonly uuid: string,
    private readonly tell: (lines: string) => void,
    private readonly actions: { raw: () => void; save: () => void; copy: (section: number) => void; lost: () => void },
    private wanted: { lines: [number, number] | null; command: number | null },
  ) {
    const times = el("select", { "aria-label": "Times", change: () => this.setTimes(times.value as Times) });
    for (const [value, text] of [["off", "no times"], ["elapsed", "elapsed"], ["clock", "time of day"]]) {
      times.append(el("option", { value: value!, selected: value === this.times }, text));
    }
    const wrap = button("Wrap", () => {
      this.isWrapped = !this.isWrapped;
      localStorage.setItem("wrap", this.isWrapped ? "on" : "off");
      wrap.setAttribute("aria-pressed", String(this.isWrapped));
      this.draw();
    }, { "aria-pressed": String(this.isWrapped) });
    this.search.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.next(event.shiftKey ? -1 : 1);
      if (event.key === "Escape") this.scroller.focus();
    });
    const form = el("span", { class: "search" }, this.search, button("↑", () => this.next(-1), { "aria-label": "Previous hit" }),
      button("↓", () => this.next(1), { "aria-label": "Next hit" }), this.found);
    this.bar.append(form, times, wrap, button("Open all", () => this.foldAll(false)), button("Fold all", () => this.foldAll(true)),
      button("Plain text", actions.raw), button("Download", actions.save));
    this.space.append(this.lines);
    this.scroller.append(this.space);
    this.element.append(this.bar, el("div", { class: "frame" }, this.stuck, this.scroller, this.newer));
    this.scroller.addEventListener("scroll", () => this.scrolled(), { passive: true });
    this.scroller.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.resized.observe(this.scroller);
    this.dark.addEventListener("change", this.redraw);
  }

  close(): void {
    this.resized.disconnect();
    this.dark.removeEventListener("change", this.redraw);
    this.searching?.abort();
    cancelAnimationFrame(this.frame);
  }

  private redraw = (): void => this.draw();

  focus(): void {
    this.scroller.focus({ preventScroll: true });
  }

  // The row that an address names.
  get firstRow(): number | null {
    return this.wanted.lines ? this.wanted.lines[0] - 1 : null;
  }

  // What has come.
  take(news: News): void {
    const wasEnd = this.isFollowing;
    for (const section of news.sections) this.sections[section.at] = section;
    this.sections.length = news.count;
    if (news.rows !== this.rows || news.bytes !== this.bytes) {
      // The last row may have grown; chunks behind it were short.
      const from = Math.floor(Math.max(0, this.rows - 1) / CHUNK);
      for (const chunk of this.chunks.keys()) if (chunk >= from) this.chunks.delete(chunk);
    }
    this.rows = news.rows;
    this.bytes = news.bytes;
    this.started = news.started ?? 0;
    this.status = news.status;
    if (news.first) this.store(news.first);
    const before = this.total;
    this.layOut();
    if (!this.isPlaced && this.sections.length > 0) {
      this.isPlaced = true;
      if (this.place()) return;
    }
    if (wasEnd) this.toEnd();
    else {
      this.seen += Math.max(0, this.total - before);
      this.newer.textContent = `${count(this.seen, "new line")} ↓`;
      this.newer.hidden = this.seen === 0;
      this.draw();
    }
  }

  // The place that an address names.
  goToCommand(command: number): void {
    const at = this.sections.findIndex((section) => section.command === command);
    if (at >= 0) this.goToSection(at);
  }

  // Where a link leads, or what has failed.
  private place(): boolean {
    if (this.wanted.lines) {
      this.goToRow(this.wanted.lines[0], this.wanted.lines);
      return true;
    }
    if (this.wanted.command !== null) {
      const at = this.sections.findIndex((section) => section.command === this.wanted.command);
      if (at >= 0) {
        this.goToSection(at);
        return true;
      }
    }
    if (this.status !== null && this.status !== "SUCCEEDED" && this.toFailure()) return true;
    if (this.status !== null) {
      this.isFollowing = false;
      this.scrollTo(0);
      return true;
    }
    return false;
  }

  private end(at: number): number {
    return this.sections[at + 1]?.row ?? this.rows;
  }

  private hasFailed(section: Section): boolean {
    if (section.kind === "phase") return section.status !== undefined && section.status !== null && section.status !== "SUCCEEDED";
    return section.hasFailed === true;
  }

  private runsNow(section: Section): boolean {
    if (this.status !== null) return false;
    return section.kind === "phase" ? !section.status : section.kind === "command" && !section.outcome;
  }

  private isFolded(at: number): boolean {
    const chosen = this.chosen.get(at);
    if (chosen !== undefined) return chosen;
    const section = this.sections[at]!;
    if (section.kind === "note") return false;
    return !this.hasFailed(section) && !this.runsNow(section);
  }

  private layOut(): void {
    this.runs = [];
    let line = 0;
    let phase = false;
    let command = false;
    this.sections.forEach((section, at) => {
      if (section.kind === "phase") {
        phase = this.isFolded(at);
        command = false;
      } else if (phase) return;
      else if (section.kind === "command") command = this.isFolded(at);
      else if (command && section.level === "agent") return;
      const isClosed = phase || command;
      const rows = isClosed ? 0 : this.end(at) - section.row;
      this.runs.push({ at, line, rows, row: section.row });
      line += 1 + rows;
    });
    this.total = line;
    this.isStale = true;
    this.stretch();
  }

  private stretch(): void {
    const extra = this.isWrapped ? this.scroller.clientHeight : 0;
    const height = `${Math.min(HIGHEST, this.total * HEIGHT) + extra}px`;
    if (this.space.style.height !== height) this.space.style.height = height;
  }

  private get inView(): number {
    return Math.max(1, Math.floor((this.seenHeight || this.scroller.clientHeight) / HEIGHT));
  }

  // How many lines may be above the first in view.
  private get most(): number {
    return Math.max(0, this.total - (this.isWrapped ? 1 : this.inView));
  }

  private get isScaled(): boolean {
    return this.total * HEIGHT > HIGHEST;
  }

  private scrolled(): void {
    const room = this.scroller.scrollHeight - this.scroller.clientHeight;
    const top = this.scroller.scrollTop;
    if (this.isScaled) {
      const at = room > 0 ? top / room : 0;
      const line = Math.round(at * this.most);
      // The bar is coarse: what keys and wheels have set holds until it is moved.
      if (Math.abs(this.topOf(this.first) - top) > 1) this.first = line;
    } else this.first = Math.min(this.most, Math.floor(top / HEIGHT));
    this.isFollowing = this.first >= this.most - 1 || top >= room - HEIGHT;
    if (this.isFollowing) {
      this.seen = 0;
      this.newer.hidden = true;
    }
    this.glide();
  }

  private topOf(line: number): number {
    const room = this.scroller.scrollHeight - this.scroller.clientHeight;
    return this.isScaled ? Math.round((line / Math.max(1, this.most)) * room) : line * HEIGHT;
  }

  private wheel(event: WheelEvent): void {
    if (!this.isScaled || event.ctrlKey || event.deltaY === 0) return;
    event.preventDefault();
    const lines = event.deltaMode === 1 ? event.deltaY : event.deltaY / HEIGHT;
    this.scrollTo(this.first + (Math.abs(lines) < 1 ? Math.sign(lines) : Math.round(lines)));
  }

  private scrollTo(line: number): void {
    this.first = Math.max(0, Math.min(this.most, Math.round(line)));
    this.isFollowing = this.first >= this.most;
    this.scroller.scrollTop = this.topOf(this.first);
    this.glide();
  }

  toEnd(): void {
    this.seen = 0;
    this.newer.hidden = true;
    this.first = this.most;
    this.isFollowing = true;
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.draw();
  }

  private draw(): void {
    this.isStale = true;
    this.glide();
  }

  // The same where lines are what they were, and others are in view.
  private glide(): void {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.paint();
    });
  }

  private runOf(line: number): number {
    let [low, high] = [0, this.runs.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.runs[middle]!.line <= line) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  private paint(): void {
    const scrolled = this.scroller.scrollTop;
    this.stretch();
    this.element.classList.toggle("wrapped", this.isWrapped);
    const from = Math.max(0, this.first - (this.isWrapped ? 0 : MARGIN));
    const to = Math.min(this.total, this.first + this.inView + MARGIN);
    const made: HTMLElement[] = [];
    let run = this.runOf(from);
    for (let line = from; line < to; line++) {
      const before = this.isStale ? undefined : this.drawn[line - this.drawnFrom];
      if (before && !this.missing.has(before)) {
        made.push(before);
        continue;
      }
      while (run + 1 < this.runs.length && this.runs[run + 1]!.line <= line) run++;
      const { at, line: head, row } = this.runs[run] ?? { at: 0, line: 0, row: 0 };
      if (!this.sections[at]) break;
      made.push(line === head ? this.head(at) : this.row(row + line - head - 1));
    }
    this.exchange(made);
    this.drawnFrom = from;
    this.isStale = false;
    if (this.isWrapped || from < this.base || from > this.base + FURTHEST) this.base = this.isWrapped ? from : Math.max(0, from - MARGIN);
    this.lines.style.paddingTop = `${(from - this.base) * HEIGHT}px`;
    const top = this.isScaled || this.isWrapped ? scrolled - (this.first - this.base) * HEIGHT : this.base * HEIGHT;
    this.lines.style.transform = `translateY(${top}px)`;
    this.drawStuck();
  }

  // Puts lines into the document in place of those that are there; which are the same stay untouched.
  private exchange(made: HTMLElement[]): void {
    const stay = new Set(made);
    const focus = document.activeElement instanceof HTMLElement ? document.activeElement.dataset["section"] : undefined;
    for (const line of this.drawn) if (!stay.has(line)) line.remove();
    let next = this.lines.firstElementChild;
    for (const line of made) {
      if (line === next) next = next.nextElementSibling;
      else this.lines.insertBefore(line, next);
    }
    this.drawn = made;
    if (focus !== undefined) this.lines.querySelector<HTMLElement>(`[data-section="${focus}"]`)?.focus({ preventScroll: true });
  }

  // Which phase and command the first line in view is of, where their heads are above it.
  private drawStuck(): void {
    const run = this.runs[this.runOf(this.first)];
    const parts: string[] = [];
    if (run && this.first > run.line) {
      const command = this.outer(run.at, "command");
      const phase = this.outer(run.at, "phase");
      if (phase) parts.push(phase.phase!);
      if (command && (!phase || command.at > phase.at)) parts.push(firstLine(command.text));
    }
    this.stuck.textContent = parts.join("  ›  ");
    this.stuck.hidden = parts.length === 0;
  }

  private outer(at: number, kind: string): Section | null {
    for (let i = at; i >= 0; i--) {
      if (this.sections[i]?.kind === kind) return this.sections[i]!;
      if (kind === "command" && this.sections[i]?.kind === "phase") return null;
    }
    return null;
  }

  private head(at: number): HTMLElement {
    const section = this.sections[at]!;
    if (section.kind === "note") return this.note(section);
    const isFolded = this.isFolded(at);
    const failed = this.hasFailed(section);
    const isPhase = section.kind === "phase";
    const name = isPhase ? section.phase! : firstLine(section.text);
    const state = isPhase ? (section.status ?? "IN_PROGRESS") : section.outcome ? (failed ? "FAILED" : section.outcome === "stopped" ? "STOPPED" : "SUCCEEDED") : this.status === null ? "IN_PROGRESS" : "STOPPED";
    const took = section.durationMs ?? (this.runsNow(section) ? Date.now() - section.time : null);
    const code = !isPhase && failed ? ` ${section.outcome}` : "";
    const toggle = el("button", {
      type: "button",
      class: `head ${section.kind} ${state.toLowerCase()}`,
      "aria-expanded": String(!isFolded),
      "data-section": at,
      click: () => this.fold(at, !isFolded),
      title: section.text && section.text.length > 200 ? section.text.slice(0, 2000) : undefined,
    }, el("span", { class: "arrow", "aria-hidden": "true" }, isFolded ? "▸" : "▾"),
      el("span", { class: "mark", "aria-hidden": "true" }, mark(state)),
      el("span", { class: "name" }, isPhase ? name : `${section.block === "finally" ? "finally: " : ""}${name}`),
      el("span", { class: "hidden" }, `, ${word(state)}`),
      el("span", { class: "facts" }, `${code}${took === null ? "" : `  ${duration(took)}`}`));
    const line = el("div", { class: "line" }, this.time(section.time), toggle);
    if (!isPhase && this.end(at) > section.row) line.append(button("Copy", () => this.actions.copy(at), { class: "copy", "aria-label": `Copy the output of ${name}` }));
    const context = section.contexts?.find((context) => context.message);
    if (isPhase && context) toggle.querySelector(".facts")!.prepend(`${context.statusCode}  `);
    return line;
  }

  private note(section: Section): HTMLElement {
    const level = section.level ?? "note";
    const text = firstLine(section.text) + (section.hint ? `  hint: ${firstLine(section.hint)}` : "");
    return el("div", { class: `line note ${level}`, title: (section.text?.length ?? 0) > 100 ? section.text!.slice(0, 2000) : undefined }, this.time(section.time),
      el("span", { class: "text" }, level === "warning" || level === "error" ? `${level}: ${text}` : text));
  }

  private time(ms: number): HTMLElement | null {
    if (this.times === "off" || !ms) return null;
    return el("span", { class: "time" }, this.times === "clock" ? clock(ms) : elapsed(ms - this.started));
  }

  private row(row: number): HTMLElement {
    const shown = this.chunks.get(Math.floor(row / CHUNK))?.[row % CHUNK];
    if (!shown) void this.fetch(Math.floor(row / CHUNK));
    const isMarked = this.marked !== null && row + 1 >= this.marked[0] && row + 1 <= this.marked[1];
    const isHit = this.hits[this.hit]?.line === "row" && this.hits[this.hit]?.at === row;
    const number = el("a", { class: "number", href: `#/b/${this.uuid}/L${row + 1}`, click: (event: MouseEvent) => this.point(event, row + 1), "aria-label": `Line ${row + 1}`, tabindex: -1 }, row + 1);
    const text = el("span", { class: "text" });
    if (shown) show(text, shown.pieces, this.dark.matches);
    else text.append("…");
    if (this.query) highlight(text, this.query);
    const line = el("div", { class: `line row${isMarked ? " marked" : ""}${isHit ? " hit" : ""}` }, this.time(shown?.time ?? 0), number, text);
    if (!shown) this.missing.add(line);
    return line;
  }

  private point(event: MouseEvent, line: number): void {
    event.preventDefault();
    const from = event.shiftKey && this.marked ? Math.min(this.marked[0], line) : line;
    const to = event.shiftKey && this.marked ? Math.max(this.marked[1], line) : line;
    this.marked = [from, to];
    this.tell(from === to ? `L${from}` : `L${from}-L${to}`);
    this.draw();
  }

  private async fetch(chunk: number): Promise<void> {
    if (this.asked.has(chunk)) return;
    this.asked.add(chunk);
    const bytes = this.bytes;
    try {
      const from = chunk * CHUNK;
      const got: Rows = { from, style: "", rows: [] };
      const count = Math.min(CHUNK, this.rows - from);
      while (got.rows.length < count) {
        const have = got.rows.length;
        const more = await get<Rows>(`builds/${this.uuid}/rows?from=${from + have}&n=${count - have}`);
        if (more.rows.length === 0) break;
        if (have === 0) got.style = more.style;
        got.rows.push(...more.rows);
      }
      if (got.rows.length > 0) {
        if (this.chunks.size >= CHUNKS) this.forget(chunk);
        this.chunks.set(chunk, this.looks(got));
      }
    } catch (error) {
      if (error instanceof Lost) this.actions.lost();
      // It is asked again when it is drawn again.
      setTimeout(() => this.glide(), 2000);
    } finally {
      this.asked.delete(chunk);
    }
    // More has come meanwhile.
    if (bytes !== this.bytes && chunk >= Math.floor(Math.max(0, this.rows - 1) / CHUNK)) this.chunks.delete(chunk);
    // Rows that were missing are there.
    this.glide();
  }

  // Keeps rows that begin with a chunk and are whole chunks, or the log's last.
  private store(got: Rows): void {
    const all = this.looks(got);
    for (let at = 0; at < all.length && got.from % CHUNK === 0; at += CHUNK) {
      const part = all.slice(at, at + CHUNK);
      if (part.length === CHUNK || got.from + at + part.length === this.rows) this.chunks.set((got.from + at) / CHUNK, part);
    }
  }

  private forget(near: number): void {
    let far = near;
    for (const chunk of this.chunks.keys()) if (Math.abs(chunk - near) > Math.abs(far - near)) far = chunk;
    this.chunks.delete(far);
  }

  private looks(got: Rows): Shown[] {
    const begins = new Set(this.sections.filter((section) => section?.kind === "command").map((section) => section.row));
    let look: Look = parse(got.style, PLAIN).look;
    return got.rows.map(({ text, time }, i) => {
      if (begins.has(got.from + i)) look = PLAIN;
      const parsed = parse(text, look);
      look = parsed.look;
      return { pieces: parsed.pieces, time };
    });
  }

  private fold(at: number, isFolded: boolean): void {
    this.chosen.set(at, isFolded);
    this.isFollowing = false;
    this.layOut();
    this.draw();
  }

  foldAll(isFolded: boolean): void {
    this.sections.forEach((section, at) => {
      if (section.kind !== "note") this.chosen.set(at, isFolded);
    });
    this.layOut();
    this.scrollTo(this.first);
  }

  private unfold(at: number): void {
    for (const kind of ["phase", "command"]) {
      const outer = this.outer(at, kind);
      if (outer) this.chosen.set(outer.at, false);
    }
    this.layOut();
  }

  goToSection(at: number): void {
    this.unfold(at);
    const run = this.runs.find((run) => run.at === at);
    if (run) this.scrollTo(run.line - 2);
    this.isFollowing = false;
    this.lines.querySelector<HTMLElement>(`[data-section="${at}"]`)?.focus({ preventScroll: true });
  }

  // Shows a row, counted from 1.
  goToRow(line: number, marked: [number, number] | null = null): void {
    const row = Math.min(line - 1, this.rows - 1);
    let at = 0;
    this.sections.forEach((section, i) => {
      if (section.row <= row) at = i;
    });
    this.unfold(at);
    this.marked = marked ?? this.marked;
    const run = this.runs.find((run) => run.at === at);
    if (run) this.scrollTo(run.line + 1 + row - run.row - Math.floor(this.inView / 3));
    this.isFollowing = false;
  }

  // The first command that has failed, or phase where no command has.
  toFailure(): boolean {
    let at = this.sections.findIndex((section) => section.kind === "command" && section.hasFailed);
    if (at < 0) at = this.sections.findIndex((section) => this.hasFailed(section));
    if (at < 0) return false;
    this.unfold(at);
    const run = this.runs.find((run) => run.at === at);
    if (run) {
      // Its last rows are in view: they say why. If all of it fits, its head is, too.
      const end = run.line + run.rows + 2;
      this.scrollTo(run.rows + 2 > this.inView ? end - this.inView : run.line - 1);
    }
    this.isFollowing = false;
    return true;
  }

  setTimes(times: Times): void {
    this.times = times;
    localStorage.setItem("times", times);
    this.draw();
  }

  async next(step: 1 | -1): Promise<void> {
    const text = this.search.value;
    if (text !== this.query) {
      if (!(await this.ask(text))) return;
    } else this.hit = this.hits.length ? (this.hit + step + this.hits.length) % this.hits.length : -1;
    this.showHit();
  }

  private async ask(text: string): Promise<boolean> {
    this.searching?.abort();
    this.query = text;
    this.hits = [];
    this.hit = -1;
    this.found.textContent = text ? "searching…" : "";
    this.draw();
    if (!text) return false;
    this.searching = new AbortController();
    const isRegex = text.length > 2 && text.startsWith("/") && text.endsWith("/");
    const query = isRegex ? `q=${encodeURIComponent(text.slice(1, -1))}&regex=1` : `q=${encodeURIComponent(text)}`;
    try {
      const hits = await get<Hits>(`builds/${this.uuid}/search?${query}`, this.searching.signal);
      this.hits = this.inOrder(hits);
      this.hit = this.hits.length ? 0 : -1;
      this.total_hits = hits.count;
      return true;
    } catch (error) {
      if (error instanceof Failed) this.found.textContent = error.message;
      return false;
    }
  }

  private total_hits = 0;

  private inOrder(hits: Hits): { line: "row" | "section"; at: number }[] {
    const rows = hits.rows.map((at) => ({ line: "row" as const, at, order: at }));
    const heads = hits.sections.map((at) => ({ line: "section" as const, at, order: (this.sections[at]?.row ?? 0) - 0.5 }));
    return [...rows, ...heads].sort((a, b) => a.order - b.order);
  }

  private showHit(): void {
    const hit = this.hits[this.hit];
    this.found.textContent = hit ? `${this.hit + 1} of ${this.total_hits}` : "not found";
    say(this.found.textContent);
    if (hit?.line === "row") this.goToRow(hit.at + 1);
    else if (hit) this.goToSection(hit.at);
    this.draw();
  }

  // Keys, where no field has them. Whether it was one.
  press(key: string): boolean {
    const moves: Record<string, () => void> = {
      j: () => this.scrollTo(this.first + 1),
      k: () => this.scrollTo(this.first - 1),
      "[": () => this.step(-1, "command"),
      "]": () => this.step(1, "command"),
      "{": () => this.step(-1, "phase"),
      "}": () => this.step(1, "phase"),
      f: () => void (this.toFailure() || say("nothing has failed")),
      g: () => this.scrollTo(0),
      G: () => this.toEnd(),
      "/": () => this.search.focus(),
      n: () => void this.next(1),
      N: () => void this.next(-1),
      t: () => this.setTimes(this.times === "off" ? "elapsed" : this.times === "elapsed" ? "clock" : "off"),
      o: () => this.foldAll(false),
      O: () => this.foldAll(true),
      r: () => this.actions.raw(),
    };
    const move = moves[key];
    if (move) move();
    return move !== undefined;
  }

  private step(step: 1 | -1, kind: string): void {
    const now = this.runs[this.runOf(this.first + (step > 0 ? 2 : 1))]?.at ?? 0;
    for (let at = now + step; at >= 0 && at < this.sections.length; at += step) {
      if (this.sections[at]?.kind === kind) {
        const phase = this.outer(at, "phase");
        if (kind === "command" && phase) this.chosen.set(phase.at, false);
        this.layOut();
        const run = this.runs.find((run) => run.at === at);
        if (run) this.scrollTo(run.line - 1);
        this.isFollowing = false;
        requestAnimationFrame(() => requestAnimationFrame(() =>
          this.lines.querySelector<HTMLElement>(`[data-section="${at}"]`)?.focus({ preventScroll: true })));
        return;
      }
    }
  }

  // Ages of what runs.
  tick(): void {
    if (this.status === null) this.draw();
  }
}

export function firstLine(text: string | undefined): string {
  const trimmed = (text ?? "").trim();
  const end = trimmed.indexOf("\n");
  // eslint-disable-next-line no-control-regex
  return (end < 0 ? trimmed : `${trimmed.slice(0, end)} …`).replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
}

// Marks what is searched for, in texts alone.
function highlight(element: HTMLElement, query: string): void {
  const isLower = query === query.toLowerCase();
  const walker = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  const texts: Text[] = [];
  while (walker.nextNode()) texts.push(walker.currentNode as Text);
  for (const text of texts) {
    let rest = text;
    for (;;) {
      const lower = rest.data.toLowerCase();
      const at = (isLower && lower.length === rest.data.length ? lower : rest.data).indexOf(query);
      if (at < 0) break;
      const found = rest.splitText(at);
      rest = found.splitText(query.length);
      const mark = document.createElement("mark");
      found.replaceWith(mark);
      mark.append(found);
    }
  }
}
