// One build: how it stands, its log, and what can be done with it.

import { type Build, Failed, type Forward, Lost, type News, type Pause, type Section, type Visitor, get, getText, post, wait } from "./api.js";
import { button, el, redraw, replace, say } from "./dom.js";
import { LogView, firstLine } from "./log.js";
import { closed } from "./page.js";
import { type Tab, tabs } from "./tabs.js";
import { duration, mark, moment, word } from "./words.js";

const PACE = 200;
const AGAIN = 2000;
// The clock of a page that is looked at stands still for so long only where its machine sleeps.
const SLEPT = 10_000;
// How long what a build has said of itself is shown where its answers leave it out.
const KEPT = 10_000;

export class BuildPage {
  readonly element = el("main", { class: "build" });
  private readonly head = el("header");
  private readonly bar = el("section", { class: "pause-bar", hidden: true, "aria-label": "Paused" });
  private readonly lost = el("div", { class: "lost", hidden: true }, "No connection to the runner. It is tried again; what is here stays.");
  private readonly names = el("div", { class: "tabs", role: "tablist", "aria-label": "Build" });
  private readonly panel = el("div", { class: "panel", role: "tabpanel", id: "panel", "aria-label": "Log" });
  private readonly ports = el("p", { class: "ports", hidden: true });
  private readonly wrong = el("div", { class: "problem", role: "alert", hidden: true });
  private readonly log: LogView;
  private readonly all: Tab[];
  private tab = "log";
  private build: Build | null = null;
  private folder = "";
  private news: News | null = null;
  private version = 0;
  private isClosed = false;
  private readonly abort = new AbortController();
  private readonly clock = window.setInterval(() => this.tick(), 1000);
  private pauseEnds: number | null = null;
  private state = "";
  private poll = new AbortController();
  private ticked = Date.now();
  private drawn = "";
  private readonly took = el("span");
  private readonly facts = el("span", { class: "facts" });
  // Ports as they were last shown, and those of them where HTTP is served.
  private forwards: Forward[] = [];
  private serving = new Set<string>();
  // When the build was last asked how it is, and answered.
  private silentSince = 0;
  // The number of a tab that may be there once the record is.
  private awaited = "";
  private readonly resized = new ResizeObserver(() => this.revealTab());

  constructor(
    private readonly uuid: string,
    rest: string[],
    readonly visitor: Visitor,
  ) {
    const place = rest[0] ?? "";
    const lines = /^L(\d+)(?:-L?(\d+))?$/.exec(place);
    const command = /^(?:C)?(\d+)$/.exec(place);
    this.log = new LogView(uuid, (lines) => history.replaceState(null, "", `#/b/${uuid}/${lines}`), {
      raw: () => void this.raw(""),
      save: () => void this.raw("&save=1"),
      copy: (section) => void this.copy(section),
      lost: () => this.ended(),
    }, {
      lines: lines ? [Number(lines[1]), Number(lines[2] ?? lines[1])] : null,
      command: command ? Number(command[1]) : null,
    });
    this.all = [{ name: "log", title: "Log", show: () => this.log.element, close: () => undefined }, ...tabs(this)];
    replace(this.head, this.up(), el("h1", {}, uuid.slice(0, 8)));
    this.element.append(this.head, this.lost, this.wrong, this.bar, this.ports, this.names, this.panel);
    this.resized.observe(this.names);
    this.show(this.all.some((tab) => tab.name === place) ? place : "log");
    void this.follow();
  }

  get id(): string {
    return this.uuid;
  }

  get sections(): Section[] {
    return this.log.sections;
  }

  get record(): Build | null {
    return this.build;
  }

  get latest(): News | null {
    return this.news;
  }

  get place(): string {
    return this.folder;
  }

  close(): void {
    this.isClosed = true;
    this.abort.abort();
    this.resized.disconnect();
    clearInterval(this.clock);
    this.log.close();
    for (const tab of this.all) tab.close();
  }

  moved(rest: string[]): boolean {
    const place = rest[0] ?? "";
    const lines = /^L(\d+)(?:-L?(\d+))?$/.exec(place);
    if (lines) {
      this.show("log");
      this.log.goToRow(Number(lines[1]), [Number(lines[1]), Number(lines[2] ?? lines[1])]);
    } else if (/^C?\d+$/.test(place)) {
      this.show("log");
      this.log.goToCommand(Number(place.replace("C", "")));
    } else this.show(this.all.some((tab) => tab.name === place) ? place : "log");
    return true;
  }

  press(key: string): boolean {
    if (!/^[0-9]$/.test(key)) return this.tab === "log" && this.log.press(key);
    const tab = this.shown[(Number(key) + 9) % 10];
    if (tab) this.go(tab.name);
    else if (!this.build) this.awaited = key;
    else say(`there is no tab ${key}`);
    return true;
  }

  private go(name: string): void {
    this.awaited = "";
    history.replaceState(null, "", name === "log" ? `#/b/${this.uuid}` : `#/b/${this.uuid}/${name}`);
    this.show(name);
  }

  // Opens a tab.
  show(name: string): void {
    if (this.tab !== name) this.all.find((tab) => tab.name === this.tab)?.hide?.();
    this.tab = name;
    this.drawNames();
    const tab = this.all.find((tab) => tab.name === name)!;
    this.panel.setAttribute("aria-label", tab.title);
    replace(this.panel, tab.show());
    if (name === "log") this.log.tick();
  }

  // The record says which tabs there are.
  private known(build: Build): void {
    this.build = build;
    if (this.names.childElementCount !== this.shown.length) this.drawNames();
    const awaited = this.awaited;
    this.awaited = "";
    if (awaited) this.press(awaited);
  }

  private get shown(): Tab[] {
    return this.all.filter((tab) => tab.isThere?.() !== false || tab.name === this.tab);
  }

  private drawNames(): void {
    redraw(this.names, ...this.shown.map((tab) => el("button", {
      type: "button",
      role: "tab",
      id: `tab-${tab.name}`,
      "aria-selected": String(tab.name === this.tab),
      "aria-controls": "panel",
      tabindex: tab.name === this.tab ? 0 : -1,
      click: () => this.go(tab.name),
      keydown: (event: KeyboardEvent) => this.beside(event),
    }, tab.title)));
    this.revealTab();
  }

  // Where the row is longer than the window is wide, what is chosen stands in its middle.
  private revealTab(): void {
    const chosen = this.names.querySelector<HTMLElement>("[aria-selected=true]");
    if (chosen) this.names.scrollLeft = chosen.offsetLeft - (this.names.clientWidth - chosen.offsetWidth) / 2;
  }

  private beside(event: KeyboardEvent): void {
    const step = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
    if (!step) return;
    event.preventDefault();
    const all = this.shown;
    const at = all.findIndex((tab) => tab.name === this.tab);
    const next = all[(at + step + all.length) % all.length]!;
    this.go(next.name);
    document.getElementById(`tab-${next.name}`)?.focus();
  }

  private async follow(): Promise<void> {
    let isFirst = true;
    while (!this.isClosed) {
      try {
        this.poll = new AbortController();
        const what = isFirst ? `since=0&first=${this.log.firstRow ?? "end"}` : `since=${this.version}&wait=1`;
        const news = await wait<News>(`builds/${this.uuid}/log?${what}`, AbortSignal.any([this.abort.signal, this.poll.signal]));
        isFirst = false;
        this.keep(news);
        const isNew = news.version !== this.version || this.news === null;
        this.version = news.version;
        this.news = news;
        const wasLost = !this.lost.hidden;
        this.lost.hidden = true;
        if (wasLost) say("connected again");
        if (isNew) {
          this.log.take(news);
          if (news.folder) this.folder = news.folder;
          if (news.record) this.known(news.record);
          if (!this.folder || (!news.record && news.sections.some((section) => section.kind === "phase"))) {
            await this.read().catch((error: unknown) => {
              if (!this.build) throw error;
            });
          }
          for (const tab of this.all) tab.news?.();
        }
        this.draw();
        this.listForwards(news.forwards ?? []);
        if (news.status !== null) return;
        await pause(PACE);
      } catch (error) {
        if (this.isClosed) return;
        if (this.poll.signal.aborted) continue;
        if (error instanceof Failed && error.status === 425) {
          this.queued(error.message);
          await pause(AGAIN);
          continue;
        }
        if (error instanceof Failed && error.status === 401) return this.unknown(error);
        if (error instanceof Failed && error.status < 500 && error.status !== 429) return this.gone(error.message);
        if (this.lost.hidden) say("no connection to the runner");
        if (error instanceof Lost) this.lost.hidden = false;
        // The runner may be another one now, with the log read anew.
        isFirst = true;
        this.version = 0;
        await pause(AGAIN);
      }
    }
  }

  // An endpoint of a build's own ends with it.
  private ended(): void {
    if (this.news?.status === null) return;
    this.lost.hidden = false;
    replace(this.lost, "The build has ended, and what has served this page with it. The rest of its log: ", el("code", {}, `runner logs ${this.uuid.slice(0, 8)}`), ", or the page of ", el("code", {}, "runner serve"));
  }

  // One that has not begun has no log yet.
  private queued(why: string): void {
    if (this.drawn === why) return;
    this.drawn = why;
    say(why);
    document.title = `· ${why}`;
    replace(this.head, this.up(), el("h1", {}, this.uuid.slice(0, 8)), el("span", { class: "state pending" }, why));
  }

  private up(): HTMLElement | null {
    return this.visitor.owner ? el("a", { href: "#", class: "up" }, "Builds") : null;
  }

  // The endpoint has been started anew, or this browser has been silent for long. What is here stays.
  private unknown(error: Failed): void {
    if (!this.news) return closed(error);
    this.lost.hidden = false;
    replace(this.lost, "The runner does not know this browser any more. A fresh link: ", el("code", {}, `runner page ${this.uuid.slice(0, 8)}`));
    say("the runner does not know this browser any more");
  }

  private gone(why: string): void {
    replace(this.element, el("div", { class: "message" }, el("h1", {}, "No build"), el("p", {}, why), el("a", { href: "#" }, "All builds")));
  }

  private async read(): Promise<void> {
    const got = await get<{ record: Build; folder: string }>(`builds/${this.uuid}`, this.abort.signal);
    this.folder = got.folder;
    this.known(got.record);
  }

  // A build that was too busy to say how it is has not lost its ports, nor its container.
  private keep(news: News): void {
    if (news.hasContainer === undefined && news.status === null && this.news) {
      this.silentSince ||= Date.now();
      if (Date.now() - this.silentSince < KEPT) {
        const { hasContainer, sessionsEnabled, forwards } = this.news;
        Object.assign(news, { hasContainer, sessionsEnabled, forwards });
        if (!news.pauses.length) this.pauseEnds = null;
        return;
      }
    } else this.silentSince = 0;
    this.pauseEnds = typeof news.pauseLeft === "number" ? Date.now() + news.pauseLeft * 1000 : null;
  }

  private tick(): void {
    // This machine has slept: what was asked before may never be answered.
    if (Date.now() - this.ticked > SLEPT) this.poll.abort();
    this.ticked = Date.now();
    if (this.news && this.news.status === null) {
      this.draw();
      if (this.tab === "log") this.log.tick();
    }
  }

  private draw(): void {
    const [news, build] = [this.news, this.build];
    if (!news || !build) return;
    const state = news.status ?? (news.pauses.length ? "PAUSED" : "IN_PROGRESS");
    if (state !== this.state) {
      say(`build ${word(state)}`);
      this.state = state;
      icon(state);
    }
    document.title = `${mark(state)} ${build.projectName} #${build.buildNumber} ${word(state)}`;
    const took = (news.status ? (build.endTime ?? news.last / 1000) : Date.now() / 1000) - build.startTime;
    this.took.textContent = duration(took * 1000);
    const paused = news.pauses[0];
    if (paused) this.facts.textContent = this.factsOf(paused, news);
    // What only counts seconds is the same otherwise: it is neither read out anew nor taken from under a hand.
    const drawn = JSON.stringify([state, news.sessions, news.reason, news.pauses, news.hasContainer, build.buildNumber, build.startTime]);
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    redraw(this.head,
      this.up(),
      el("h1", {}, `${build.projectName} `, el("small", {}, `#${build.buildNumber}`)),
      el("span", { class: `state ${state.toLowerCase()}` }, el("span", { "aria-hidden": "true" }, `${mark(state)} `), word(state)),
      el("span", { class: "facts" }, `${moment(build.startTime * 1000)} · `, this.took, news.sessions ? ` · ${news.sessions} connected` : ""),
      this.visitor.owner ? null : el("span", { class: "facts" }, "looking only"),
      this.visitor.owner && !news.status && !news.pauses.length ? button("Stop", () => void this.act("stop"), { class: "stop" }) : null,
      news.status && news.reason ? el("p", { class: "reason" }, news.reason) : null);
    this.drawPaused(news);
  }

  private drawPaused(news: News): void {
    const paused = news.pauses[0];
    this.bar.hidden = !paused;
    this.element.classList.toggle("is-paused", !!paused);
    if (!paused) return;
    redraw(this.bar,
      el("div", { class: "why" }, el("strong", {}, "Paused "), el("code", {}, firstLine(paused.text)), this.facts),
      this.visitor.owner ? el("div", { class: "deeds" }, ...this.deeds(paused, news)) : null);
  }

  private listForwards(forwards: Forward[]): void {
    if (JSON.stringify(forwards) === JSON.stringify(this.forwards)) return;
    this.forwards = forwards;
    this.drawForwards();
    if (forwards.length) void this.lookForHttp();
  }

  private async lookForHttp(): Promise<void> {
    const serving = await get<string[]>(`builds/${this.uuid}/forwards`, this.abort.signal).catch(() => []);
    this.serving = new Set(serving);
    this.drawForwards();
  }

  // Ports of this machine that lead into the build, as links where HTTP is served there.
  private drawForwards(): void {
    this.ports.hidden = this.forwards.length === 0;
    const isServed = ({ local }: Forward) => this.serving.has(local);
    redraw(this.ports, "Forwarded", ...this.forwards.map((one) => el("span", {},
      isServed(one) ? el("a", { href: `http://${one.address}/`, target: "_blank", rel: "noopener noreferrer" }, `http://${one.address}/`) : el("code", {}, one.address),
      el("span", { class: "facts" }, ` → ${one.remote}`))),
      this.forwards.every(isServed) ? null : button("Look for HTTP again", () => void this.lookForHttp()));
  }

  private factsOf(paused: Pause, news: News): string {
    const parts = [`in ${paused.directory}`];
    const failure = paused.stop?.scene?.failure;
    if (failure) parts.push(firstLine(failure));
    if (paused.stuck) parts.push(paused.stuck.reason);
    parts.push(news.sessions ? `${news.sessions} connected` : "nobody connected");
    if (this.pauseEnds !== null) parts.push(`goes on by itself in ${duration(Math.max(0, this.pauseEnds - Date.now()))}`);
    return ` ${parts.join(" · ")}`;
  }

  private deeds(paused: Pause, news: News): HTMLElement[] {
    const deeds: HTMLElement[] = [];
    if (news.hasContainer && this.all.some((tab) => tab.name === "terminal")) deeds.push(button("Open shell", () => this.go("terminal"), { class: "first" }));
    const can = (decision: string) => paused.stop?.decisions.includes(decision);
    const decide = (text: string, decision: unknown) => deeds.push(button(text, () => void this.act("decide", decision)));
    if (can("retry")) decide("Retry", { decision: "retry" });
    if (can("edit")) deeds.push(button("Edit…", () => this.edit(paused)));
    if (can("skip")) decide("Skip", { decision: "skip" });
    if (can("step")) decide("Step", { decision: "step" });
    if (can("rewind")) decide("Rewind", { decision: "rewind", then: "stop" });
    if (can("clean")) decide("Retry clean", { decision: "rewind", then: { retry: {} } });
    deeds.push(button("Resume", () => void this.act("resume"), { class: deeds.length ? "" : "first" }));
    if (can("abort")) decide("Abort", { decision: "abort" });
    deeds.push(button("Stop", () => void this.act("stop"), { class: "stop" }));
    return deeds;
  }

  // The command at hand with another text. The buildspec stays as it is.
  private edit(paused: Pause): void {
    const text = el("textarea", { rows: 10, "aria-label": "The command", spellcheck: "false" });
    text.value = paused.stop?.text ?? paused.text;
    const dialog = el("dialog", { class: "edit", "aria-label": "Edit the command" }, el("h2", {}, "Run this text in the command's place"), text,
      el("div", { class: "deeds" }, button("Run", () => {
        dialog.close();
        void this.act("decide", { decision: "retry", text: text.value });
      }, { class: "first" }), button("Cancel", () => dialog.close())));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    text.focus();
  }

  // Asks for something; what is wrong with it is shown.
  async act(what: string, body: unknown = {}): Promise<boolean> {
    this.wrong.hidden = true;
    try {
      await post(`builds/${this.uuid}/${what}`, body);
      return true;
    } catch (error) {
      if (error instanceof Failed && error.status === 401) closed(error);
      this.problem((error as Error).message);
      return false;
    }
  }

  // Shows what has not been done, and why.
  problem(text: string): void {
    this.wrong.hidden = false;
    replace(this.wrong, text, button("×", () => (this.wrong.hidden = true), { "aria-label": "Close" }));
  }

  private async raw(how: string): Promise<void> {
    const tab = how ? null : window.open("about:blank", "_blank");
    const got = await post<{ ticket: string }>(`builds/${this.uuid}/ticket`).catch(() => null);
    if (!got) return tab?.close();
    const address = `/ui/builds/${this.uuid}/raw?ticket=${got.ticket}${how || "&plain=1"}`;
    if (tab) tab.location.replace(address);
    else el("a", { href: address, download: "" }).click();
  }

  private async copy(section: number): Promise<void> {
    try {
      await navigator.clipboard.writeText(await getText(`builds/${this.uuid}/raw?section=${section}&plain=1`));
      say("copied");
    } catch (error) {
      say(`not copied: ${(error as Error).message}`);
    }
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

const COLORS: Record<string, string> = { SUCCEEDED: "#1a7f37", FAILED: "#c5221f", FAULT: "#c5221f", TIMED_OUT: "#c5221f", STOPPED: "#6e7781", PAUSED: "#9a6700", IN_PROGRESS: "#0969da" };

function icon(state: string): void {
  const image = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="${COLORS[state] ?? "#6e7781"}"/></svg>`;
  document.querySelector<HTMLLinkElement>("link[rel=icon]")!.href = `data:image/svg+xml,${encodeURIComponent(image)}`;
}
