// The page's words. A language is a file here and a line in LANGUAGES.
export const LANGUAGES = { en: "English", de: "Deutsch", fr: "Français", es: "Español" };

let table = {};
let asked = 0;
export let language = "en";

// Words and their language change at once, and the last wish counts: nothing is ever written in two.
export async function speak(wanted) {
  const chosen = wanted in LANGUAGES ? wanted : "en";
  asked += 1;
  const mine = asked;
  const words = await (await fetch(`/static/${chosen}.json`)).json();
  if (mine !== asked) return;
  table = words;
  language = chosen;
  document.documentElement.lang = language;
  for (const each of document.querySelectorAll("[data-word]")) each.textContent = say(each.dataset.word);
  for (const each of document.querySelectorAll("[data-label]")) each.setAttribute("aria-label", say(each.dataset.label));
}

// A sentence of the table with {names} filled in; "" for one that it does not have.
export function say(key, values = {}) {
  return (table[key] ?? "").replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

export function number(value, digits = 0) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
}

export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  while (n >= 1000 && i < units.length - 1) { n /= 1000; i += 1; }
  return `${number(n, i ? 1 : 0)} ${units[i]}`;
}
