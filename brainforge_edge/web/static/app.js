// The bedside page. What it says of a recording is what the box confirmed; it never guesses.
import { alarmsOf, isMeant } from "./alarms.js";
import { Link, ask } from "./link.js";
import { Feedback } from "./feedback.js";
import { $, alarmCard, change, element, list } from "./parts.js";
import { Session } from "./session.js";
import { Frame, Scope } from "./scope.js";
import { LANGUAGES, bytes, language, number, say, speak } from "./words.js";

const OLD_MS = 2000; // older news are no news
const SURE_MS = 5000;
const SYMBOLS = { idle: "○", starting: "◔", recording: "●", partly: "◐", stalled: "✕", unknown: "?", outside: "–" };
const PREFIXES = [[1, ""], [1e-3, "m"], [1e-6, "µ"], [1e-9, "n"], [1e-12, "p"], [1e-15, "f"]];

let said = null; // the newest status
let heardAt = 0; // when it came, less its age
let heardOn = 0; // … by the wall clock, which runs on while a machine sleeps
let streams = [];
let page = { stream: "", first: 0, count: 16 };
let frameAt = 0;
let stopUntil = 0;
let hasWords = false;

const session = new Session({ refuse, did: (words) => { $("done").textContent = words; } });
const feedback = new Feedback();
const scope = new Scope($("canvas"), showScale);
const link = new Link({
  status(news) { said = news; heardAt = performance.now() - news.age_ms; heardOn = Date.now() - news.age_ms; show(); },
  session(news) { session.hear(news); show(); },
  feedback(news) { feedback.hear(news); },
  closed() { who(); },
  streams(news) { streams = news; chooseStreams(); },
  frame(data) {
    const frame = new Frame(data);
    if (!frame.isOurs) return;
    frameAt = performance.now();
    scope.take(frame);
  },
});

function shown() {
  if (document.body.classList.contains("outside")) return { verdict: "outside", status: {}, devices: {} };
  const isOld = !said || performance.now() - heardAt > OLD_MS || Date.now() - heardOn > OLD_MS;
  return { verdict: isOld ? "unknown" : said.verdict, status: said?.status ?? {}, devices: said?.devices ?? {} };
}

function show() {
  if (!hasWords) return;
  const now = shown();
  const name = now.status.recording ?? "";
  change("verdict", now.verdict, () => {
    $("banner").dataset.verdict = now.verdict;
    $("symbol").textContent = SYMBOLS[now.verdict];
    $("verdict").textContent = say(`verdict.${now.verdict}`);
  }, name);
  const isIdleViewer = now.verdict === "idle" && ($("start").closest("section").hidden || session.goesOn);
  change("hint", isIdleViewer ? "" : say(`hint.${now.verdict}`, { name }), (text) => { $("hint").textContent = text; });
  // Not what it does: a title is read where nothing keeps it true, in a tab that sleeps.
  change("node", now.status.node ?? "", (node) => {
    $("node").textContent = node || "brainforge-edge";
    document.title = node || "brainforge-edge";
  });
  const isKnown = now.verdict !== "unknown" && now.verdict !== "outside";
  const isOfSession = session.goesOn; // then its recording is not a person's to open or close
  $("start").disabled = !isKnown || Boolean(name) || isOfSession;
  $("stop").disabled = !isKnown || !name || isOfSession;
  for (const button of document.querySelectorAll("#marker button, #quick button")) button.disabled = !isKnown || !name;
  if (stopUntil && performance.now() > stopUntil) armed(false);
  list("alarms", alarmsOf(now), alarmCard, { level: "ok", id: "none", what: say("alarms.none") });
  session.show(now);
  feedback.show(session.now);
  list("devices", devicesOf(now), deviceCard, { id: "none", name: say("devices.none"), lines: [], level: "" });
  facts(now);
  const isStill = performance.now() - frameAt > OLD_MS;
  const still = streams.length ? "still.stopped" : "still.none";
  change("still", isStill ? say(still) : "", (text) => { $("still").textContent = text; });
}

function devicesOf({ verdict, status, devices }) {
  const workers = (status.workers ?? []).filter((worker) => worker.name.startsWith("acquire:"));
  return workers.map((worker) => {
    const name = worker.name.slice(8);
    const state = worker.link ?? "down";
    const lines = [`${say(`link.${state}`)}, ${say("since", { time: time((worker.since_ms ?? 0) / 1000) })}`];
    for (const stream of (status.streams ?? []).filter((each) => each.device === name)) {
      const figures = say("figures", { n: stream.n_channels, hz: number(stream.sfreq, 1) });
      const gaps = stream.gaps ? `; ${say("gaps", { n: stream.gaps, samples: number(stream.gap_samples) })}` : "";
      lines.push(`${stream.stream_id}: ${figures}${gaps}`);
    }
    const isOpen = isMeant(status, name) && verdict !== "unknown"; // of old news nothing is claimed
    const isSaved = Boolean(devices[name]);
    const saved = isOpen ? (isSaved ? `✓ ${say("saved.yes")}` : `✕ ${say("saved.no")}`) : "";
    const isMissing = isOpen && !isSaved && verdict !== "starting";
    const level = isMissing ? "bad" : state === "streaming" ? "ok" : "warn";
    return { id: name, name, saved, lines, level };
  });
}

function deviceCard(device) {
  const item = element("li", "", { kind: `card ${device.level}` });
  item.dataset.device = device.id;
  item.append(element("strong", device.name));
  if (device.saved) item.append(element("p", device.saved));
  for (const line of device.lines) item.append(element("p", line, { kind: "soft" }));
  return item;
}

function facts({ status }) {
  const disk = status.disk ?? {};
  const free = bytes(disk.free_bytes ?? 0);
  const room = disk.hours_left ? say("disk.room", { free, hours: number(disk.hours_left) }) : say("disk.free", { free });
  const age = said ? Math.max(0, Math.round((performance.now() - heardAt) / 1000)) : 0;
  const rows = [[say("disk"), said ? room : "–"], [say("uplink"), said ? uplink(status.uplink ?? {}) : "–"], [say("age"), said ? say("age.s", { n: age }) : "–"]];
  change("box", rows, () => $("box").replaceChildren(...rows.flatMap(([key, value]) => [element("dt", key), element("dd", value)])));
}

function uplink(figures) {
  if (!("state" in figures) && !("connected" in figures)) return say("uplink.off");
  if (!figures.connected) return say("uplink.broken");
  const n = figures.lag_chunks ?? 0;
  if (!n) return say("uplink.done");
  return say("uplink.waiting", { n: number(n), size: bytes(figures.lag_bytes ?? 0), time: time(figures.lag_s ?? 0) });
}

function time(seconds) {
  if (seconds < 60) return say("unit.s", { n: Math.round(seconds / 10) * 10 || Math.round(seconds) });
  if (seconds < 5400) return say("unit.min", { n: Math.round(seconds / 60) });
  return say("unit.h", { n: Math.round(seconds / 3600) });
}

// ---- logins: only where the box is served to others

// Asked at the start, when the box hangs up, and now and then while a person is active: it keeps the login.
async function who() {
  try {
    const answer = await fetch("/login");
    if (answer.ok) enter(await answer.json());
    else if (answer.status === 401) enter(null);
  } catch {
    return; // the box is not there: the banner says so
  }
}

function enter(person) {
  const isOutside = person === null;
  document.body.classList.toggle("outside", isOutside);
  $("login").hidden = !isOutside;
  $("logout").hidden = isOutside || !person.needed;
  const isViewer = isOutside || person.role === "viewer";
  document.querySelector(".controls").hidden = isViewer;
  session.enter(person, isViewer);
  for (const part of ["session", "alarms", "signals", "devices", "box"]) document.querySelector(`section.${part}`).hidden = isOutside;
  show();
}

$("credentials").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await ask("/login", { name: $("name").value, password: $("password").value });
  $("password").value = "";
  if (answer.isRefused) {
    const why = say(`why.${answer.code}`) || `${answer.detail}. ${answer.fix}.`;
    $("denied").replaceChildren(alarmCard({ level: "bad", id: answer.code ?? "denied", what: say("denied"), why: { text: why } }));
    return;
  }
  $("denied").replaceChildren();
  enter(answer);
  link.hurry();
});
$("logout").addEventListener("click", async () => { await ask("/logout", {}); location.reload(); });
let activeAt = performance.now();
for (const kind of ["pointerdown", "keydown"]) {
  addEventListener(kind, () => {
    if ($("logout").hidden || performance.now() - activeAt < 60_000) return;
    activeAt = performance.now();
    who();
  });
}

// ---- signals

function chooseStreams() {
  const waves = streams.filter((stream) => stream.sfreq >= 5);
  document.querySelector(".tools").hidden = waves.length === 0;
  $("stream").replaceChildren(...waves.map((stream) => new Option(stream.stream_id, stream.stream_id)));
  if (!waves.some((stream) => stream.stream_id === page.stream)) page = { ...page, stream: waves[0]?.stream_id ?? "", first: 0 };
  $("stream").value = page.stream;
  look();
}

function look() {
  const stream = streams.find((each) => each.stream_id === page.stream);
  if (!stream) return;
  const n = stream.channels.length;
  const count = page.count || n;
  page.first = Math.min(Math.max(0, page.first), Math.max(0, Math.floor((n - 1) / count) * count));
  const part = stream.channels.slice(page.first, page.first + count);
  scope.look(part.map(([name]) => name), part.map(([, , unit]) => unit), stream.number, stream.sfreq);
  link.look(page.stream, page.first, count);
  const to = page.first + part.length;
  $("page").textContent = say("page", { from: page.first + 1, to, n });
  $("back").disabled = page.first === 0;
  $("next").disabled = to >= n;
  showScale();
}

function showScale() {
  const { scale, unit } = scope;
  const [size, prefix] = PREFIXES.find(([least]) => scale >= least * 0.999) ?? [1, ""];
  const value = number(scale / size, 3);
  $("scale").textContent = scale ? say("scale", { value, unit: unit === "1" ? "" : prefix + unit }) : "";
}

function turn(by) {
  const stream = streams.find((each) => each.stream_id === page.stream);
  page.first += by * (page.count || stream?.channels.length || 0);
  look();
}

function viewAs(view) {
  scope.view = view;
  $("view").value = view;
  scope.restart();
}

// ---- controls

function armed(isSure) {
  stopUntil = isSure ? performance.now() + SURE_MS : 0;
  $("stop").classList.toggle("sure", isSure);
  $("stop").textContent = say(isSure ? "stop.sure" : "stop");
}

async function order(path, body, done) {
  $("refused").replaceChildren();
  const answer = await ask(path, body);
  if (answer.isRefused) {
    refuse(answer);
    return;
  }
  $("done").textContent = done(answer);
}

function refuse(answer) {
  if (answer.status === 401) who();
  const lang = answer.own ? "" : "en";
  $("refused").replaceChildren(alarmCard({ level: "bad", id: answer.code ?? "refused", what: say("refused"), why: { text: `${answer.title}: ${answer.detail}.`, lang }, next: { text: answer.fix, lang } }));
}

function mark(words) {
  return order("/markers", { description: words }, () => say("marked", { words }));
}

$("start").addEventListener("click", () => order("/record", {}, (answer) => say("started", { name: answer.recording })));
$("stop").addEventListener("click", () => {
  if (!stopUntil) { armed(true); return; }
  armed(false);
  order("/stop", {}, (answer) => say("stopped", { name: answer.recording }));
});
$("marker").addEventListener("submit", (event) => {
  event.preventDefault();
  mark($("words").value);
  $("words").value = "";
});
$("stream").addEventListener("change", ({ target }) => { page = { ...page, stream: target.value, first: 0 }; look(); });
$("view").addEventListener("change", ({ target }) => viewAs(target.value));
$("count").addEventListener("change", ({ target }) => { page.count = Number(target.value); look(); });
$("back").addEventListener("click", () => turn(-1));
$("next").addEventListener("click", () => turn(1));
$("smaller").addEventListener("click", () => scope.zoom(1));
$("larger").addEventListener("click", () => scope.zoom(-1));
$("canvas").addEventListener("keydown", (event) => {
  const views = [...$("view").options].map((option) => option.value);
  const keys = {
    "+": () => scope.zoom(-1),
    "-": () => scope.zoom(1),
    PageUp: () => turn(-1),
    PageDown: () => turn(1),
    v: () => viewAs(views[(views.indexOf(scope.view) + 1) % views.length]),
  };
  if (!(event.key in keys) || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  keys[event.key]();
});
$("theme").addEventListener("click", () => {
  const isDark = $("theme").getAttribute("aria-pressed") !== "true";
  paint(isDark);
});
$("language").addEventListener("change", ({ target }) => speaks(target.value));

function paint(isDark) {
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  $("theme").setAttribute("aria-pressed", String(isDark));
  scope.restart();
}

function options(select, pairs, chosen) {
  select.replaceChildren(...pairs.map(([value, words]) => new Option(words, value)));
  select.value = chosen;
}

async function speaks(wanted) {
  await speak(wanted);
  hasWords = true;
  options($("language"), Object.entries(LANGUAGES), language);
  options($("view"), ["lines", "butterfly", "raster"].map((view) => [view, say(`view.${view}`)]), scope.view);
  options($("count"), [4, 8, 16, 32, 64].map((n) => [n, String(n)]).concat([[0, say("all")]]), page.count);
  $("quick").replaceChildren(...[1, 2, 3, 4].map((n) => {
    const words = say(`quick.${n}`);
    const button = element("button", words);
    button.type = "button";
    button.addEventListener("click", () => mark(words));
    return button;
  }));
  armed(false);
  session.translate();
  look();
  show();
}

const asked = new URLSearchParams(location.search).get("lang");
const isNight = matchMedia("(prefers-color-scheme: dark)").matches;
$("theme").setAttribute("aria-pressed", String(isNight));
await who();
await speaks(asked ?? navigator.language.slice(0, 2));
setInterval(show, 250);
document.addEventListener("visibilitychange", show);
addEventListener("pageshow", show);
document.documentElement.dataset.ready = "true";
