// Elements, made of text and other elements alone: nothing that a build says is ever read as HTML.

export type Child = Node | string | number | null | undefined | false;

type Props = Record<string, string | number | boolean | ((event: never) => void) | undefined>;

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") made.addEventListener(name, value as EventListener);
    else if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== undefined) made.setAttribute(name, String(value));
  }
  return fill(made, ...children);
}

export function fill<E extends Element>(element: E, ...children: Child[]): E {
  for (const child of children) {
    if (child !== null && child !== undefined && child !== false) {
      element.append(child instanceof Node ? child : String(child));
    }
  }
  return element;
}

export function replace<E extends Element>(element: E, ...children: Child[]): E {
  element.replaceChildren();
  return fill(element, ...children);
}

// The same in place of what is there. The keyboard's focus stays on the same thing.
export function redraw<E extends Element>(element: E, ...children: Child[]): E {
  const focus = document.activeElement;
  const is = (one: Element) => `${one.tagName} ${one.id} ${one.getAttribute("href")} ${one.getAttribute("aria-label")} ${one.textContent}`;
  const name = focus && focus !== element && element.contains(focus) ? is(focus) : null;
  replace(element, ...children);
  if (name !== null) [...element.querySelectorAll<HTMLElement>("a, button, [tabindex]")].find((one) => is(one) === name)?.focus({ preventScroll: true });
  return element;
}

export function button(text: string, click: () => void, props: Props = {}): HTMLButtonElement {
  return el("button", { type: "button", click, ...props }, text);
}

// Told to those who do not see the page.
export function say(text: string): void {
  const said = document.getElementById("said");
  if (said && said.textContent !== text) said.textContent = text;
}
