// The builds of this machine, the newest first.

import { type Brief, Failed, Lost, get } from "./api.js";
import { button, el, replace } from "./dom.js";
import { closed } from "./page.js";
import { duration, mark, moment, word } from "./words.js";

const PACE = 5000;

export class ListPage {
  readonly element = el("main", { class: "list" });
  private readonly body = el("tbody");
  private readonly told = el("p", { class: "told" });
  private readonly more = button("Older builds", () => void this.older(), { hidden: true });
  private readonly project = el("input", { type: "search", placeholder: "Project", "aria-label": "Project", autocomplete: "off", spellcheck: "false" });
  private readonly status = el("select", { "aria-label": "Status" });
  private builds = new Map<string, Brief>();
  private next: string | null = null;
  private hasOlder = false;
  private timer = 0;

  constructor() {
    document.title = "Builds · runner";
    for (const [value, text] of [["", "all"], ["IN_PROGRESS", "in progress"], ["SUCCEEDED", "succeeded"], ["FAILED", "failed"], ["FAULT", "fault"], ["TIMED_OUT", "timed out"], ["STOPPED", "stopped"]]) {
      this.status.append(el("option", { value: value! }, text));
    }
    this.project.addEventListener("input", () => this.draw());
    this.status.addEventListener("change", () => this.draw());
    const heads = ["Status", "Build", "Number", "Started", "Duration", "Initiator"];
    const table = el("table", {}, el("caption", { class: "hidden" }, "Builds"),
      el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)))), this.body);
    this.element.append(el("header", {}, el("h1", {}, "Builds"), el("span", { class: "filters" }, this.project, this.status)),
      this.told, el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Builds" }, table), this.more);
    document.addEventListener("visibilitychange", this.look);
    void this.look();
  }

  close(): void {
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.look);
  }

  private look = async (): Promise<void> => {
    clearTimeout(this.timer);
    if (document.hidden) return;
    try {
      const got = await get<{ builds: Brief[]; next: string | null }>("builds");
      for (const build of got.builds) this.builds.set(build.id, build);
      if (!this.hasOlder) this.next = got.next;
      this.told.textContent = "";
      this.draw();
    } catch (error) {
      if (error instanceof Failed && error.status === 401) return closed(error);
      this.told.textContent = error instanceof Lost ? "No connection to the runner; it is tried again." : String((error as Error).message);
      this.told.className = "told bad";
    }
    this.timer = window.setTimeout(() => void this.look(), PACE);
  };

  private async older(): Promise<void> {
    const got = await get<{ builds: Brief[]; next: string | null }>(`builds?after=${encodeURIComponent(this.next ?? "")}`).catch((error: Error) => {
      this.told.className = "told bad";
      this.told.textContent = error.message;
    });
    if (!got) return;
    this.hasOlder = true;
    this.next = got.next;
    for (const build of got.builds) this.builds.set(build.id, build);
    this.draw();
  }

  private draw(): void {
    const project = this.project.value.toLowerCase();
    const builds = [...this.builds.values()].filter((build) =>
      build.projectName.toLowerCase().includes(project) && (!this.status.value || build.buildStatus === this.status.value));
    builds.sort((a, b) => b.startTime - a.startTime);
    const focus = document.activeElement?.getAttribute("href");
    replace(this.body, ...builds.map(row));
    if (focus) this.body.querySelector<HTMLElement>(`[href="${CSS.escape(focus)}"]`)?.focus();
    this.more.hidden = !this.next;
    if (builds.length === 0) {
      this.told.className = "told";
      replace(this.told, this.builds.size ? "No build fits." : "There are no builds yet. ", this.builds.size ? null : el("code", {}, "runner run --enable-session"));
    }
  }
}

function row(build: Brief): HTMLElement {
  const uuid = build.id.slice(build.id.lastIndexOf(":") + 1);
  const took = (build.endTime ?? Date.now() / 1000) - build.startTime;
  const state = build.buildStatus;
  return el("tr", {},
    el("td", {}, el("span", { class: `state ${state.toLowerCase()}` }, el("span", { "aria-hidden": "true" }, `${mark(state)} `), word(state === "IN_PROGRESS" ? build.currentPhase : state))),
    el("td", {}, el("a", { href: `#/b/${uuid}` }, `${build.projectName}:${uuid.slice(0, 8)}`),
      build.buildBatchArn ? el("a", { class: "of-batch", href: `#/b/${uuid}/batch` }, "batch") : null),
    el("td", {}, build.buildNumber), el("td", {}, moment(build.startTime * 1000)), el("td", {}, duration(took * 1000)), el("td", {}, build.initiator ?? ""));
}
