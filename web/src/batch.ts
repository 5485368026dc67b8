// The batch of a build: how it stands, and its builds below those that they wait for.

import { type Brief, Failed, get } from "./api.js";
import type { BuildPage } from "./build.js";
import { button, el, redraw, replace } from "./dom.js";
import { type Tab, state, table } from "./tabs.js";
import { count, duration, moment } from "./words.js";

const PACE = 2000;

interface Child {
  identifier: string;
  dependsOn: string[] | null;
  mayFail: boolean;
  status: string;
  uuid: string | null;
  build: Brief | null;
  earlier: { uuid: string; status: string }[];
}

interface BatchNow {
  buildBatchNumber: number;
  projectName: string;
  initiator: string;
  startTime: number;
  endTime?: number;
  buildBatchStatus: string;
  complete: boolean;
  phases: { contexts?: { statusCode: string; message: string }[] }[];
  builds: Child[];
  isOfService: boolean;
}

export class Batch implements Tab {
  readonly name = "batch";
  readonly title = "Batch";
  private readonly element = el("section", { class: "text", "aria-label": "Batch" }, "…");
  private timer = 0;
  private isShown = false;

  constructor(private readonly page: BuildPage) {}

  isThere(): boolean {
    return !!this.page.record?.buildBatchArn;
  }

  show(): HTMLElement {
    this.isShown = true;
    void this.look();
    return this.element;
  }

  hide(): void {
    this.isShown = false;
    clearTimeout(this.timer);
  }

  close(): void {
    this.hide();
  }

  private async look(): Promise<void> {
    clearTimeout(this.timer);
    try {
      const batch = await get<BatchNow>(`builds/${this.page.id}/batch`);
      this.draw(batch);
      if (batch.complete) return;
    } catch (error) {
      const passes = !(error instanceof Failed) || error.status >= 500 || error.status === 429;
      if (!passes) return void replace(this.element, el("p", { class: "told" }, error.message));
      // What is here stays until the connection, or the runner, is back.
    }
    if (this.isShown) this.timer = window.setTimeout(() => void this.look(), PACE);
  }

  private draw(batch: BatchNow): void {
    const ended = batch.builds.filter(({ status }) => status !== "PENDING" && status !== "IN_PROGRESS").length;
    const took = (batch.endTime ?? Date.now() / 1000) - batch.startTime;
    const reasons = batch.phases.flatMap(({ contexts }) => contexts ?? []).filter(({ message }) => message);
    redraw(this.element,
      el("header", {}, el("h2", {}, `${batch.projectName} batch #${batch.buildBatchNumber}`), state(batch.buildBatchStatus),
        el("span", { class: "facts" }, `${moment(batch.startTime * 1000)} · ${duration(took * 1000)} · ${ended} of ${count(batch.builds.length, "build")} ended · ${batch.initiator}`),
        ...this.deeds(batch)),
      ...reasons.map(({ statusCode, message }) => el("p", { class: "bad" }, `${statusCode}: ${message}`)),
      table("Builds of the batch", ["Build", "Status", "Phase", "Duration", "Waits for", ""], inOrder(batch.builds).map(({ child, depth }) => this.row(child, depth))));
  }

  // A batch of `runner batch` is stopped where it was begun.
  private deeds(batch: BatchNow): HTMLElement[] {
    if (!batch.isOfService) return [];
    const act = async (what: string, body: unknown = {}) => {
      if (await this.page.act(what, body)) await this.look();
    };
    if (!batch.complete) return [button("Stop batch", () => void act("stop-batch"), { class: "stop" })];
    const deeds = [button("Retry all", () => void act("retry-batch", { retryType: "RETRY_ALL_BUILDS" }))];
    if (batch.buildBatchStatus !== "SUCCEEDED") deeds.unshift(button("Retry failed", () => void act("retry-batch", { retryType: "RETRY_FAILED_BUILDS" })));
    return deeds;
  }

  private row(child: Child, depth: number): (Node | string)[] {
    const { build, uuid } = child;
    const isThis = uuid === this.page.id;
    const name = el("span", { class: "member" }, isThis ? el("strong", { "aria-current": "true" }, child.identifier)
      : build ? el("a", { href: `#/b/${uuid}` }, child.identifier) : child.identifier);
    name.style.paddingLeft = `${depth * 20}px`;
    const took = build ? (build.endTime ?? Date.now() / 1000) - build.startTime : null;
    const notes = el("span", { class: "facts" }, isThis ? "this build " : null, child.mayFail ? "may fail " : null);
    child.earlier.forEach((run, i) => notes.append(el("a", { href: `#/b/${run.uuid}` }, `run ${i + 1}`), " "));
    return [name, state(child.status), child.status === "IN_PROGRESS" ? (build?.currentPhase ?? "") : "", took === null ? "" : duration(took * 1000),
      (child.dependsOn ?? []).join(", "), notes];
  }
}

// Each build below the last of those that it waits for, and as deep as the way to it is long.
function inOrder(all: Child[]): { child: Child; depth: number }[] {
  const known = new Map(all.map((child) => [child.identifier, child]));
  const depths = new Map<string, number>();
  const depth = (child: Child): number => {
    let found = depths.get(child.identifier);
    if (found === undefined) {
      // A circle cannot be; if it were, it would end here.
      depths.set(child.identifier, 0);
      found = Math.max(0, ...waited(child).map((other) => depth(other) + 1));
      depths.set(child.identifier, found);
    }
    return found;
  };
  const waited = (child: Child) => (child.dependsOn ?? []).flatMap((name) => known.get(name) ?? []);
  const below = new Map<Child | null, Child[]>();
  for (const child of all) {
    const above = waited(child).reduce<Child | null>((last, other) => (last && depth(last) > depth(other) ? last : other), null);
    below.set(above, [...(below.get(above) ?? []), child]);
  }
  const ordered: { child: Child; depth: number }[] = [];
  const put = (children: Child[]) => {
    for (const child of children) {
      ordered.push({ child, depth: depth(child) });
      put(below.get(child) ?? []);
    }
  };
  put(below.get(null) ?? []);
  return ordered;
}
