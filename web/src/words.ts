// Times and states in words.

export function duration(ms: number): string {
  const s = Math.round(ms / 1000);
  if (ms < 1000) return `${Math.max(0, Math.round(ms))}\u00a0ms`;
  if (s < 60) return `${(ms / 1000).toFixed(1)}\u00a0s`;
  if (s < 3600) return `${Math.floor(s / 60)}\u00a0m\u00a0${s % 60}\u00a0s`;
  return `${Math.floor(s / 3600)}\u00a0h\u00a0${Math.floor(s / 60) % 60}\u00a0m`;
}

export function clock(ms: number): string {
  return new Date(ms).toLocaleTimeString(undefined, { hour12: false });
}

export function moment(ms: number): string {
  return new Date(ms).toLocaleString(undefined, { hour12: false });
}

export function elapsed(ms: number): string {
  const s = Math.max(0, ms) / 1000;
  const minutes = Math.floor(s / 60);
  return `${String(minutes).padStart(2, "0")}:${(s % 60).toFixed(1).padStart(4, "0")}`;
}

const MARKS: Record<string, string> = {
  SUCCEEDED: "✓",
  FAILED: "✗",
  FAULT: "✗",
  TIMED_OUT: "⏱",
  STOPPED: "■",
  IN_PROGRESS: "●",
  PAUSED: "‖",
  PENDING: "○",
};

// A state as a mark and a word, so that its colour is not needed.
export function mark(status: string): string {
  return MARKS[status] ?? "·";
}

export function word(status: string): string {
  return status.toLowerCase().replace(/_/g, " ");
}

export function count(number: number, what: string): string {
  return `${number.toLocaleString()} ${what}${number === 1 ? "" : "s"}`;
}
