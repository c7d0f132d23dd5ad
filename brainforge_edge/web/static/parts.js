// What the page is built of.
import { language } from "./words.js";

export const $ = (id) => document.getElementById(id);
const written = new Map(); // what stands where, so that only changes touch the page

// Call `write` only when `value` is another, in another language too.
export function change(key, value, write, more = "") {
  const whole = JSON.stringify([language, value, more]);
  if (written.get(key) === whole) return;
  written.set(key, whole);
  write(value);
}

export function list(id, items, card, none) {
  const all = items.length || !none ? items : [none];
  change(id, all, () => $(id).replaceChildren(...all.map(card)));
}

export function element(name, words, { kind = "", lang = "" } = {}) {
  const made = document.createElement(name);
  made.textContent = words;
  if (kind) made.className = kind;
  if (lang) made.lang = lang;
  return made;
}

export function alarmCard(alarm) {
  const item = element("li", "", { kind: `card ${alarm.level}` });
  item.dataset.alarm = alarm.id;
  item.append(element("strong", `${alarm.level === "ok" ? "✓" : "⚠"} ${alarm.what}`));
  if (alarm.why?.text) item.append(element("p", alarm.why.text, { lang: alarm.why.lang }));
  if (alarm.next?.text) item.append(element("p", alarm.next.text, { kind: "next", lang: alarm.next.lang }));
  return item;
}

export function clock(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const two = (n) => String(n).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${two(whole % 60)}` : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}
