// A row of output as pieces with their looks. Written by nodes, never as HTML: what a build prints is hostile.

export interface Look {
  fg: string | null;
  bg: string | null;
  bold: boolean;
  dim: boolean;
  italic: boolean;
  underline: boolean;
  inverse: boolean;
  link: string | null;
}

export interface Piece {
  text: string;
  look: Look;
}

export const PLAIN: Look = {
  fg: null,
  bg: null,
  bold: false,
  dim: false,
  italic: false,
  underline: false,
  inverse: false,
  link: null,
};

// Characters that turn the direction of text around, and could make it read as something else.
const TURNING = /[\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]/g;
// Controls that a row does not act on.
// eslint-disable-next-line no-control-regex
const CONTROLS = /[\u0000-\u0008\u000b-\u001a\u001c-\u001f\u007f-\u009f]/g;

// Reads a row; the looks that the next one begins with come back, too.
export function parse(row: string, from: Look): { pieces: Piece[]; look: Look } {
  let look = from;
  const line = new Line();
  let at = 0;
  while (at < row.length) {
    const next = findControl(row, at);
    if (next > at) line.write(row.slice(at, next), look);
    if (next >= row.length) break;
    const c = row[next]!;
    if (c === "\r") {
      line.home();
      at = next + 1;
    } else if (c === "\b") {
      line.back();
      at = next + 1;
    } else {
      const found = sequence(row, next);
      at = found.end;
      if (found.kind === "sgr") look = applied(look, found.text);
      else if (found.kind === "erase") line.erase(found.text);
      else if (found.kind === "link") look = { ...look, link: address(found.text) };
    }
  }
  return { pieces: line.pieces(), look };
}

function findControl(row: string, from: number): number {
  for (let at = from; at < row.length; at++) {
    const code = row.charCodeAt(at);
    if (code === 0x1b || code === 0x0d || code === 0x08) return at;
  }
  return row.length;
}

// What a row comes to. As long as it only grows it is a list of pieces; once it is overwritten, as progress bars do, it is a
// list of characters, so that each character costs the same however often it is gone back to.
class Line {
  private parts: Piece[] = [];
  // With holes where nothing was written.
  private cells: Cell[] | null = null;
  private column = 0;
  private isBack = false;

  write(raw: string, look: Look): void {
    const text = raw.replace(CONTROLS, "").replace(TURNING, "\ufffd");
    if (!text) return;
    if (!this.cells && !this.isBack) {
      this.parts.push({ text, look });
      return;
    }
    const cells = this.spread();
    for (const c of text) cells[this.column++] = { c, look };
  }

  // To the beginning; most rows that end so are never written to again.
  home(): void {
    this.isBack = true;
    this.column = 0;
  }

  back(): void {
    this.spread();
    this.column = Math.max(0, this.column - 1);
  }

  erase(how: string): void {
    if (how === "" || how === "0") {
      const cells = this.spread();
      cells.length = Math.min(cells.length, this.column);
    } else if (how === "2") {
      this.spread();
      this.cells = [];
    }
  }

  private spread(): Cell[] {
    if (this.cells) return this.cells;
    const cells: Cell[] = [];
    for (const { text, look } of this.parts) for (const c of text) cells.push({ c, look });
    if (!this.isBack) this.column = cells.length;
    this.parts = [];
    return (this.cells = cells);
  }

  pieces(): Piece[] {
    if (!this.cells) return this.parts;
    const pieces: Piece[] = [];
    for (let at = 0; at < this.cells.length; at++) {
      const { c, look } = this.cells[at] ?? BLANK;
      const last = pieces.at(-1);
      if (last?.look === look) last.text += c;
      else pieces.push({ text: c, look });
    }
    return pieces;
  }
}

interface Cell {
  c: string;
  look: Look;
}

const BLANK: Cell = { c: " ", look: PLAIN };

interface Sequence {
  kind: "sgr" | "erase" | "link" | "other";
  text: string;
  end: number;
}

// A sequence that begins here. One that is no whole one is dropped to the end of the row.
function sequence(row: string, at: number): Sequence {
  const other = (end: number): Sequence => ({ kind: "other", text: "", end });
  const second = row[at + 1];
  if (second === "[") {
    let end = at + 2;
    while (end < row.length && !(row[end]! >= "@" && row[end]! <= "~")) end++;
    if (end >= row.length) return other(row.length);
    const text = row.slice(at + 2, end);
    if (row[end] === "m" && /^[0-9;:]*$/.test(text)) return { kind: "sgr", text, end: end + 1 };
    if (row[end] === "K") return { kind: "erase", text, end: end + 1 };
    return other(end + 1);
  }
  if (second !== undefined && "]P^_X".includes(second)) {
    let end = at + 2;
    while (end < row.length && row[end] !== "\u0007" && row[end] !== "\u001b") end++;
    const text = row.slice(at + 2, end);
    const after = row[end] === "\u001b" ? end + 2 : end + 1;
    return { kind: second === "]" && text.startsWith("8;") ? "link" : "other", text, end: after };
  }
  return other(at + 2);
}

// The address of a link, if a browser may follow it.
function address(text: string): string | null {
  const target = text.slice(text.indexOf(";", 2) + 1);
  if (!target || target.length > 2000) return null;
  try {
    const url = new URL(target);
    return url.protocol === "http:" || url.protocol === "https:" ? url.href : null;
  } catch {
    return null;
  }
}

function applied(look: Look, text: string): Look {
  const codes = text.split(/[;:]/).map((code) => (code === "" ? 0 : Number(code)));
  const next = { ...look };
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i]!;
    if (code === 0) Object.assign(next, PLAIN, { link: look.link });
    else if (code === 1) next.bold = true;
    else if (code === 2) next.dim = true;
    else if (code === 3) next.italic = true;
    else if (code === 4) next.underline = true;
    else if (code === 7) next.inverse = true;
    else if (code === 22) next.bold = next.dim = false;
    else if (code === 23) next.italic = false;
    else if (code === 24) next.underline = false;
    else if (code === 27) next.inverse = false;
    else if (code >= 30 && code <= 37) next.fg = `c${code - 30}`;
    else if (code === 39) next.fg = null;
    else if (code >= 40 && code <= 47) next.bg = `c${code - 40}`;
    else if (code === 49) next.bg = null;
    else if (code >= 90 && code <= 97) next.fg = `c${code - 82}`;
    else if (code >= 100 && code <= 107) next.bg = `c${code - 92}`;
    else if (code === 38 || code === 48) {
      const found = color(codes, i);
      if (code === 38) next.fg = found.color;
      else next.bg = found.color;
      i = found.at;
    }
  }
  return next;
}

function color(codes: number[], at: number): { color: string | null; at: number } {
  if (codes[at + 1] === 5) return { color: indexed(codes[at + 2] ?? 0), at: at + 2 };
  if (codes[at + 1] === 2) {
    const [r, g, b] = [codes[at + 2] ?? 0, codes[at + 3] ?? 0, codes[at + 4] ?? 0];
    return { color: rgb(r, g, b), at: at + 4 };
  }
  return { color: null, at: at + 1 };
}

function rgb(...parts: number[]): string {
  return "#" + parts.map((part) => Math.min(255, Math.max(0, part | 0)).toString(16).padStart(2, "0")).join("");
}

function indexed(code: number): string {
  if (code < 16) return `c${Math.max(0, code | 0)}`;
  if (code < 232) {
    const step = (part: number) => (part === 0 ? 0 : 55 + 40 * part);
    const cube = code - 16;
    return rgb(step(Math.floor(cube / 36)), step(Math.floor(cube / 6) % 6), step(cube % 6));
  }
  const grey = 8 + 10 * (Math.min(255, code) - 232);
  return rgb(grey, grey, grey);
}

// A colour as it can be read on a background: at least 3 to 1.
export function readable(color: string, isDark: boolean): string {
  const parts = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  const back = isDark ? 0.012 : 1;
  for (let step = 0; step < 20; step++) {
    const light = luminance(parts);
    const contrast = (Math.max(light, back) + 0.05) / (Math.min(light, back) + 0.05);
    if (contrast >= 3) break;
    for (let i = 0; i < 3; i++) parts[i] = isDark ? parts[i]! + (255 - parts[i]!) * 0.15 + 1 : parts[i]! * 0.85;
  }
  return rgb(...parts);
}

function luminance(parts: number[]): number {
  const [r, g, b] = parts.map((part) => {
    const value = part / 255;
    return value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r! + 0.7152 * g! + 0.0722 * b!;
}

// Puts pieces into an element.
export function show(element: HTMLElement, pieces: Piece[], isDark: boolean): void {
  for (const { text, look } of pieces) {
    if (look === PLAIN) {
      element.append(text);
      continue;
    }
    const span = document.createElement("span");
    span.textContent = text;
    const [fg, bg] = look.inverse ? [look.bg ?? "back", look.fg ?? "fore"] : [look.fg, look.bg];
    paint(span, fg, "f", isDark);
    paint(span, bg, "b", isDark);
    for (const name of ["bold", "dim", "italic", "underline"] as const) {
      if (look[name]) span.classList.add(name);
    }
    if (look.link) {
      const link = document.createElement("a");
      link.href = look.link;
      link.rel = "noopener noreferrer nofollow";
      link.target = "_blank";
      link.append(span);
      const target = document.createElement("span");
      target.className = "target";
      target.textContent = ` <${look.link}>`;
      element.append(link, target);
    } else element.append(span);
  }
}

function paint(span: HTMLElement, color: string | null, place: "f" | "b", isDark: boolean): void {
  if (!color) return;
  if (!color.startsWith("#")) span.classList.add(place + color);
  else if (place === "f") span.style.color = readable(color, isDark);
  else span.style.backgroundColor = color;
}
