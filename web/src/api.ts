// What is asked of the runner. The cookie goes out by itself; the key does not, so that no other port of this machine
// ever gets both.

const KEY = "runner-key";
const VISITOR = "runner-visitor";
// The runner answers a request that waits within 25 seconds. A connection that is dead without a word, as after a sleep, is
// one that is lost.
const LONGEST = 40_000;

export class Failed extends Error {
  constructor(
    readonly status: number,
    text: string,
  ) {
    super(text);
  }
}

// No answer at all.
export class Lost extends Error {}

export interface Visitor {
  owner: boolean;
  build: string | null;
}

export async function enter(token: string): Promise<void> {
  const answer = await send("POST", "/ui/session", { token });
  const { key, ...visitor } = (await answer.json()) as Visitor & { key: string };
  localStorage.setItem(KEY, key);
  remember(visitor);
}

// Who this browser was last. The page is drawn for them at once; what they may see is decided at the runner.
export function remembered(): Visitor | null {
  try {
    const kept = JSON.parse(localStorage.getItem(VISITOR) ?? "null") as Visitor | null;
    return key() ? kept : null;
  } catch {
    return null;
  }
}

export function remember({ owner, build }: Visitor): void {
  localStorage.setItem(VISITOR, JSON.stringify({ owner, build }));
}

export function forget(): void {
  localStorage.removeItem(VISITOR);
}

export function key(): string {
  return localStorage.getItem(KEY) ?? "";
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  const answer = await send("GET", `/ui/${path}`, undefined, signal);
  try {
    return (await answer.json()) as T;
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Lost("no connection to the runner");
  }
}

// Asks for something that may take until there is news.
export function wait<T>(path: string, signal: AbortSignal): Promise<T> {
  return get<T>(path, AbortSignal.any([signal, AbortSignal.timeout(LONGEST)])).catch((error: unknown) => {
    throw error instanceof DOMException && error.name === "TimeoutError" ? new Lost("no connection to the runner") : error;
  });
}

export async function getText(path: string): Promise<string> {
  return (await send("GET", `/ui/${path}`)).text();
}

export async function post<T>(path: string, body: unknown = {}): Promise<T | null> {
  const answer = await send("POST", `/ui/${path}`, body);
  return answer.status === 204 ? null : ((await answer.json()) as T);
}

async function send(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, {
      method,
      headers: { "X-Runner-Key": key(), ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ?? null,
      credentials: "same-origin",
      cache: "no-store",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Lost("no connection to the runner");
  }
  if (!answer.ok) throw new Failed(answer.status, (await answer.text()).trim());
  return answer;
}

export interface Brief {
  id: string;
  buildNumber: number;
  startTime: number;
  endTime?: number;
  buildStatus: string;
  currentPhase: string;
  projectName: string;
  initiator?: string;
  buildBatchArn?: string;
}

export interface Phase {
  phaseType: string;
  phaseStatus?: string;
  startTime: number;
  endTime?: number;
  durationInSeconds?: number;
  contexts?: { statusCode: string; message: string }[];
}

export interface Artifacts {
  location: string;
  sha256sum?: string;
  artifactIdentifier?: string;
}

export interface Build extends Brief {
  arn: string;
  buildComplete: boolean;
  resolvedSourceVersion?: string;
  phases: Phase[];
  source: { location: string; buildspec: string };
  environment: { image: string; environmentVariables: { name: string; value: string; type?: string }[] };
  exportedEnvironmentVariables: { name: string; value: string }[];
  artifacts: Artifacts;
  secondaryArtifacts?: Artifacts[];
  reports?: unknown[];
  debugSession: { sessionEnabled: boolean };
  interventions?: unknown[];
}

export interface Section {
  at: number;
  row: number;
  time: number;
  kind: "phase" | "command" | "note";
  phase?: string;
  status?: string;
  durationMs?: number | null;
  contexts?: { statusCode: string; message: string }[];
  command?: number;
  block?: string;
  text?: string;
  line?: number | null;
  outcome?: string | null;
  hasFailed?: boolean;
  code?: number | null;
  level?: string;
  hint?: string | null;
}

export interface Stop {
  kind: string;
  run: number;
  text: string;
  decisions: string[];
  line?: number;
  scene?: { failure?: string; output?: string };
}

export interface Pause {
  time: number;
  command: number;
  text: string;
  directory: string;
  stuck?: { reason: string; hasShell: boolean } | null;
  stop?: Stop | null;
}

// A port of this machine that leads into the build.
export interface Forward {
  local: string;
  remote: string;
  address: string;
}

export interface News {
  version: number;
  rows: number;
  bytes: number;
  sections: Section[];
  count: number;
  pauses: Pause[];
  sessions: number;
  started: number | null;
  last: number;
  status: string | null;
  reason: string | null;
  left?: number | null;
  pauseLeft?: number | null;
  hasContainer?: boolean;
  sessionsEnabled?: boolean;
  forwards?: Forward[];
  // With the first answer, and once the build has ended.
  record?: Build;
  folder?: string;
  // With the first answer: rows that are looked at first.
  first?: Rows | null;
}

export interface Rows {
  from: number;
  style: string;
  rows: { text: string; time: number }[];
}

export interface Hits {
  count: number;
  rows: number[];
  sections: number[];
}
