/// Colours of series: Okabe and Ito's, which colour-blind people can tell apart, in a light and a dark variant; the same
/// name has the same colour in every panel and after every reload. https://jfly.uni-koeln.de/color/
import { createSignal } from "solid-js";

const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b58900", "#3a9bdc", "#7a5195", "#5b6770", "#9c3d0a", "#2f6f4f"];
const DARK = ["#56b4e9", "#e69f00", "#2fc79a", "#e39ac4", "#f0e442", "#5aa9e6", "#b79ae0", "#a9b7c4", "#ff9a62", "#8fd6a8"];

export type Theme = "light" | "dark" | "system";
const stored = localStorage.getItem("theme");
const [theme, setThemeSignal] = createSignal<Theme>(stored === "light" || stored === "dark" ? stored : "system");
const asked = window.matchMedia("(prefers-color-scheme: dark)");
const [system, setSystem] = createSignal(asked.matches);
asked.addEventListener("change", () => setSystem(asked.matches));
export { theme };
export const dark = () => (theme() === "system" ? system() : theme() === "dark");
export function setTheme(to: Theme): void {
  if (to === "system") localStorage.removeItem("theme");
  else localStorage.setItem("theme", to);
  setThemeSignal(to);
}

const hash = (text: string) => {
  let sum = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) sum = Math.imul(sum ^ text.charCodeAt(at), 0x01000193);
  return sum >>> 0;
};
export const palette = () => (dark() ? DARK : LIGHT);

/// Colours for names shown together: each has its own place by name, and the next free one where two would meet.
export function coloursOf(names: readonly string[]): string[] {
  const colours = palette();
  if (names.length === 1) return [colours[0]!];
  const taken = new Map<number, string>();
  const places = new Map<string, number>();
  for (const name of [...new Set(names)].sort()) {
    let place = hash(name) % colours.length;
    if (taken.size < colours.length) while (taken.has(place)) place = (place + 1) % colours.length;
    taken.set(place, name);
    places.set(name, place);
  }
  return names.map((name) => colours[places.get(name) ?? 0]!);
}

/// Colours of the style sheet that were looked up, for one look: each look-up has the page's styles computed anew.
const known = new Map<string, string>();
/// A colour of the style sheet, for canvases.
export function token(name: string): string {
  const key = `${dark()} ${document.documentElement.dataset.theme} ${name}`;
  const found = known.get(key);
  if (found !== undefined) return found;
  const value = getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  known.set(key, value);
  return value;
}
