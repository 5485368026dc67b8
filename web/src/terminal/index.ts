// The terminal's library, fetched when a terminal is opened.

import { FitAddon } from "@xterm/addon-fit";
import { SearchAddon } from "@xterm/addon-search";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { type ITheme, Terminal } from "@xterm/xterm";

declare global {
  // What the library makes its styles with (build.mjs).
  var runnerStyle: () => HTMLStyleElement;
}

globalThis.runnerStyle = () => {
  const style = document.createElement("style");
  style.nonce = document.querySelector<HTMLLinkElement>("link[nonce]")?.nonce ?? "";
  return style;
};

export interface Screen {
  terminal: Terminal;
  fit: FitAddon;
  search: SearchAddon;
}

export interface Options {
  isReader: boolean;
  isDark: boolean;
  readsScreen: boolean;
  open: (address: string) => void;
}

const DARK: ITheme = {
  background: "#0d1117", foreground: "#e6edf3", cursor: "#e6edf3", selectionBackground: "#264f78",
  black: "#484f58", red: "#ff7b72", green: "#3fb950", yellow: "#d29922", blue: "#58a6ff", magenta: "#bc8cff", cyan: "#39c5cf", white: "#b1bac4",
  brightBlack: "#8b949e", brightRed: "#ffa198", brightGreen: "#56d364", brightYellow: "#e3b341", brightBlue: "#79c0ff", brightMagenta: "#d2a8ff", brightCyan: "#56d4dd", brightWhite: "#f0f6fc",
};
const LIGHT: ITheme = {
  background: "#ffffff", foreground: "#1f2328", cursor: "#1f2328", selectionBackground: "#b6d7ff",
  black: "#24292f", red: "#b3211d", green: "#116329", yellow: "#7d4e00", blue: "#0550ae", magenta: "#7a2d9c", cyan: "#1b6571", white: "#57606a",
  brightBlack: "#57606a", brightRed: "#a40e26", brightGreen: "#1a6b33", brightYellow: "#633c01", brightBlue: "#0a5cc2", brightMagenta: "#8250df", brightCyan: "#146c78", brightWhite: "#24292f",
};

export function theme(isDark: boolean): ITheme {
  return isDark ? DARK : LIGHT;
}

// Makes a screen in an element.
export function screen(element: HTMLElement, options: Options): Screen {
  const terminal = new Terminal({
    theme: theme(options.isDark),
    fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace',
    fontSize: 14,
    scrollback: 5000,
    cursorBlink: false,
    disableStdin: options.isReader,
    screenReaderMode: options.readsScreen,
    // What a program prints may ask for sizes and titles; nothing is answered.
    windowOptions: {},
    linkHandler: {
      activate: (_event, text) => {
        if (/^https?:\/\//i.test(text)) options.open(text);
      },
      allowNonHttpProtocols: false,
    },
  });
  // Titles, colours of the page's own, and the clipboard are not a program's.
  for (const code of [0, 1, 2, 4, 10, 11, 12, 52, 104, 110, 111, 112]) terminal.parser.registerOscHandler(code, () => true);
  const [fit, search] = [new FitAddon(), new SearchAddon()];
  terminal.loadAddon(fit);
  terminal.loadAddon(search);
  terminal.loadAddon(new WebLinksAddon((_event, address) => options.open(address)));
  terminal.open(element);
  return { terminal, fit, search };
}
