// The tabs beside the log.

import { type Section, Failed, get } from "./api.js";
import { Batch } from "./batch.js";
import type { BuildPage } from "./build.js";
import { type Child, button, el, redraw, replace } from "./dom.js";
import { firstLine } from "./log.js";
import { Player } from "./player.js";
import { Shell } from "./shell.js";
import { count, duration, mark, moment, word } from "./words.js";

export interface Tab {
  name: string;
  title: string;
  show(): HTMLElement;
  hide?(): void;
  news?(): void;
  close(): void;
  // Whether this build has it; without a word it does.
  isThere?(): boolean;
}

export function tabs(page: BuildPage): Tab[] {
  const still = (name: string, title: string, show: () => HTMLElement): Tab => ({ name, title, show, close: () => undefined });
  const all: Tab[] = [
    new Shell(page),
    new Phases(page),
    still("history", "History", () => late(() => history(page))),
    still("reports", "Reports", () => late(() => reports(page))),
    still("artifacts", "Artifacts", () => artifacts(page)),
    still("details", "Details", () => details(page)),
  ];
  if (page.visitor.owner) {
    all.splice(3, 0, still("environment", "Environment", () => late(() => environment(page))));
    all.splice(6, 0, new Player(page));
    all.push(new Batch(page));
  }
  return all;
}

// Something that is asked for when it is shown.
function late(make: () => Promise<Node>): HTMLElement {
  const place = el("div", {}, "…");
  make().then((made) => replace(place, made)).catch((error: Error) => replace(place, el("p", { class: "bad" }, error.message)));
  return place;
}

export function table(name: string, heads: string[], rows: Child[][]): HTMLElement {
  return el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": name },
    el("table", {}, el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map((cell) => el("td", {}, cell)))))));
}

export function state(status: string): HTMLElement {
  return el("span", { class: `state ${status.toLowerCase()}` }, `${mark(status)} ${word(status)}`);
}

// As the log has them, so that it goes along with it.
class Phases implements Tab {
  readonly name = "phases";
  readonly title = "Phases";
  private readonly element = el("div");

  constructor(private readonly page: BuildPage) {}

  show(): HTMLElement {
    this.news();
    return this.element;
  }

  news(): void {
    const all = this.page.sections.filter((section) => section?.kind === "phase");
    const isOver = !!this.page.latest?.status;
    const took = (phase: Section) => phase.durationMs ?? (isOver ? 0 : Date.now() - phase.time);
    const longest = Math.max(1, ...all.map(took));
    const rows = all.map((phase) => {
      const name = phase.phase ?? "";
      const why = (phase.contexts ?? []).filter((context) => context.message).map((context) => `${context.statusCode}: ${context.message}`).join("\n");
      return [name, state(phase.status ?? "IN_PROGRESS"), moment(phase.time), duration(took(phase)),
        el("meter", { min: 0, max: longest, value: took(phase), "aria-label": `${name} took ${duration(took(phase))}` }), why];
    });
    redraw(this.element, table("Phases", ["Phase", "Status", "Start", "Duration", "", "Context"], rows));
  }

  close(): void {
    // Nothing is held.
  }
}

interface Changes {
  run: number;
  isRun: boolean;
  count: number;
  changes: { op: string; path: string; from: string | null; size: number }[];
}

const OPS: Record<string, string> = { A: "added", M: "changed", D: "deleted", R: "renamed" };

async function history(page: BuildPage): Promise<Node> {
  const changes = await get<Changes[]>(`builds/${page.id}/changes`);
  const runs = page.sections.filter((section) => section?.kind === "command");
  if (runs.length === 0) return el("p", { class: "told" }, "No command has run yet.");
  const ofRun = new Map<number, Changes[]>();
  for (const one of changes) ofRun.set(one.run, [...(ofRun.get(one.run) ?? []), one]);
  const canRewind = page.visitor.owner && page.latest?.pauses[0]?.stop?.decisions.includes("rewind");
  const rows = runs.map((run) => {
    const ended = run.outcome ? (run.hasFailed ? "FAILED" : "SUCCEEDED") : "IN_PROGRESS";
    const go = canRewind ? button("Rewind to before", () => void page.act("decide", { decision: "rewind", to: String(run.command), then: "stop" })) : null;
    return [run.command ?? "", place(page, run), state(ended), run.durationMs == null ? "" : duration(run.durationMs),
      el("a", { href: `#/b/${page.id}/${run.command}` }, el("code", {}, firstLine(run.text).slice(0, 200))), files(ofRun.get(run.command ?? -1) ?? []), go];
  });
  return table("Runs", ["Run", "Place", "Outcome", "Duration", "Command", "Files", ""], rows);
}

function place(page: BuildPage, run: Section): string {
  const phase = page.sections.slice(0, run.at).reverse().find((section) => section?.kind === "phase");
  return `${phase?.phase ?? ""}${run.block === "finally" ? ":finally" : ""}${run.line ? ` line ${run.line}` : ""}`;
}

function files(changes: Changes[]): Node {
  const total = changes.reduce((sum, one) => sum + one.count, 0);
  if (total === 0) return document.createTextNode("");
  const list = el("ul", { class: "files" });
  for (const one of changes) {
    for (const change of one.changes) {
      list.append(el("li", {}, `${OPS[change.op] ?? change.op} `, el("code", {}, change.from ? `${change.from} → ${change.path}` : change.path), one.isRun ? null : " (at the stop before)"));
    }
    if (one.changes.length < one.count) list.append(el("li", {}, `and ${count(one.count - one.changes.length, "more file")}`));
  }
  return el("details", {}, el("summary", {}, count(total, "file")), list);
}

interface Variable {
  name: string;
  value: string | null;
  before?: string | null;
  isChanged?: boolean;
}

async function environment(page: BuildPage): Promise<Node> {
  const exported = (page.record?.exportedEnvironmentVariables ?? []).map((one): Child[] => [el("code", {}, one.name), el("code", {}, one.value)]);
  const parts: Node[] = [];
  if (page.latest && page.latest.status === null) {
    try {
      const all = await get<Variable[]>(`builds/${page.id}/variables`);
      const rows = all.filter((one) => one.value !== null || one.isChanged).map((one): Child[] =>
        [el("code", {}, one.name), el("code", {}, one.value ?? "(unset)"), one.isChanged ? `changed by the last command${one.before == null ? "" : `, was ${one.before}`}` : ""]);
      parts.push(el("h2", {}, "Of the next command"), table("Variables of the next command", ["Name", "Value", ""], rows));
    } catch (error) {
      if (!(error instanceof Failed)) throw error;
      parts.push(el("p", { class: "told" }, `Of the next command: ${error.message}`));
    }
  }
  if (exported.length) parts.push(el("h2", {}, "Exported"), table("Exported variables", ["Name", "Value"], exported));
  if (parts.length === 0) parts.push(el("p", { class: "told" }, "The build has exported no variables; those of its commands have gone with it."));
  return el("div", {}, el("p", { class: "told" }, "Secrets are shown as ***."), ...parts);
}

interface Report {
  report: { name: string; type: string; status: string; truncated: boolean; testSummary?: { total: number; statusCounts: Record<string, number>; durationInNanoSeconds: number };
    codeCoverageSummary?: { lineCoveragePercentage: number; linesCovered: number; linesMissed: number; branchCoveragePercentage: number } };
  problems: string[];
  failures: { title: string; place: { file: string; line?: number } | null; message: string }[];
}

async function reports(page: BuildPage): Promise<Node> {
  const all = await get<Report[]>(`builds/${page.id}/reports`);
  if (all.length === 0) return el("p", { class: "told" }, "This build has no reports.");
  const filter = el("input", { type: "search", placeholder: "Filter failed cases", "aria-label": "Filter failed cases", autocomplete: "off" });
  const list = el("div");
  const draw = () => replace(list, ...all.map((one) => report(one, filter.value.toLowerCase())));
  filter.addEventListener("input", draw);
  draw();
  return el("div", {}, filter, list);
}

function report(one: Report, wanted: string): Node {
  const { report, failures, problems } = one;
  const facts: string[] = [];
  if (report.testSummary) {
    facts.push(count(report.testSummary.total, "case"));
    for (const [status, number] of Object.entries(report.testSummary.statusCounts)) if (number) facts.push(`${number} ${word(status)}`);
    facts.push(duration(report.testSummary.durationInNanoSeconds / 1e6));
  }
  if (report.codeCoverageSummary) {
    const { lineCoveragePercentage: lines, linesCovered, linesMissed, branchCoveragePercentage: branches } = report.codeCoverageSummary;
    facts.push(`lines ${lines.toFixed(1)} % (${linesCovered} of ${linesCovered + linesMissed})`, `branches ${branches.toFixed(1)} %`);
  }
  if (report.truncated) facts.push("cut to AWS's limit");
  const fits = failures.filter(({ title, message }) => `${title} ${message}`.toLowerCase().includes(wanted));
  const cases = fits.map(({ title, place, message }) => el("details", { open: fits.length <= 5 }, el("summary", {}, title, place ? el("small", {}, `  ${place.file}${place.line ? `:${place.line}` : ""}`) : null), el("pre", { tabindex: 0 }, message)));
  return el("section", {}, el("h2", {}, report.name, " ", state(report.status)), el("p", { class: "facts" }, facts.join(" · ")),
    ...problems.map((text) => el("p", { class: "bad" }, text)), ...cases);
}

function artifacts(page: BuildPage): HTMLElement {
  const build = page.record;
  const all = [build?.artifacts, ...(build?.secondaryArtifacts ?? [])].filter((one) => one?.location);
  if (all.length === 0) return el("p", { class: "told" }, "This build has left no artifacts.");
  return table("Artifacts", ["Identifier", "Place", "SHA-256"], all.map((one) => [one!.artifactIdentifier ?? "", el("code", {}, one!.location), el("code", {}, one!.sha256sum ?? "")]));
}

function details(page: BuildPage): HTMLElement {
  const build = page.record;
  if (!build) return el("p", {}, "…");
  const uuid = page.id;
  const facts: [string, string][] = [
    ["ARN", build.arn], ["Source", build.source.location], ["Buildspec", firstLine(build.source.buildspec)], ["Source version", build.resolvedSourceVersion ?? ""],
    ["Image", build.environment.image], ["Initiator", build.initiator ?? ""], ["Batch", build.buildBatchArn ?? ""], ["Folder", page.place],
  ];
  const list = el("dl", { class: "details" });
  for (const [name, value] of facts) if (value) list.append(el("dt", {}, name), el("dd", {}, value));
  const lines = [`runner logs ${uuid}`, `runner history ${uuid}`, `aws codebuild batch-get-builds --ids ${build.id}`];
  if (!build.buildComplete) lines.push(`runner attach ${uuid}`, `runner stop ${uuid}`);
  return el("div", { class: "text" }, list, el("h2", {}, "The same in a terminal"), el("pre", { tabindex: 0 }, lines.join("\n")),
    el("h2", {}, "Record, as BatchGetBuilds has it"), el("pre", { class: "record", tabindex: 0 }, JSON.stringify(build, null, 2)));
}
