// The session at this bedside: how it stands, what a person may do with it, how the last one ended.
import { ask } from "./link.js";
import { $, change, clock, element, list } from "./parts.js";
import { number, say } from "./words.js";

const OLD_MS = 3000;
const SIGNS = { passed: "✓", failed: "✕", unknown: "?" };
const MODES = ["dual", "record", "feedback"];
const STEPS = ["stop", "acknowledge", "save_again", "release", "hand_over"];

// A text of a protocol or a check: in the page's words where it has some, else the box's own.
function spoken(text) {
  const own = say(text.key);
  return own ? { text: own, lang: "" } : { text: text.text, lang: "en" };
}

export class Session {
  constructor(on) {
    this.on = on; // refuse, did
    this.said = null;
    this.heardAt = -Infinity;
    this.protocols = [];
    this.devices = [];
    this.isViewer = true;
    this.hasAsked = false;
    this.state = "";
    for (const step of STEPS) $(`session-${step}`).addEventListener("click", () => this.step(step));
    $("emergency").addEventListener("click", () => this.step("emergency_stop"));
    $("begin").addEventListener("toggle", () => this.choose());
    $("agreed").addEventListener("change", () => this.consent());
    $("wearers").addEventListener("input", () => { $("agreed").checked = false; });
    $("look").addEventListener("click", () => this.look());
    $("wish").addEventListener("submit", (event) => { event.preventDefault(); this.start(); });
  }

  hear(said) {
    this.said = said;
    this.heardAt = performance.now();
  }

  // null while it is not known, or known no longer.
  get now() {
    return performance.now() - this.heardAt > OLD_MS ? null : this.said;
  }

  get goesOn() {
    return Boolean(this.now?.session) && this.now.state !== "failed" && this.now.state !== "idle";
  }

  enter(person, isViewer) {
    this.isViewer = isViewer;
    if (person?.name && !$("by").value) $("by").value = person.name;
    for (const id of ["emergency", "begin", "session-steps"]) $(id).hidden = isViewer;
    this.choose();
  }

  translate() {
    const choose = (select, pairs) => {
      const chosen = select.value;
      select.replaceChildren(...pairs.map(([value, words]) => new Option(words, value)));
      select.value = pairs.some(([value]) => value === chosen) ? chosen : (pairs[0]?.[0] ?? "");
    };
    choose($("mode"), MODES.map((mode) => [mode, say(`mode.${mode}`)]));
    choose($("protocol"), this.protocols.filter((each) => each.title).map((each) => [each.name, spoken(each.title).text]));
    this.wearers();
  }

  show(box) {
    const now = this.now;
    const state = now?.state ?? "unknown";
    if (state !== "unknown" && state !== this.state) { // what was told of a step belongs to the state before
      if (this.state) this.tell("");
      this.state = state;
    }
    const ended = state === "failed" && now.ended_by ? ` – ${say(`ended.${now.ended_by}`)}` : "";
    change("state", `${say(`state.${state}`)}${ended}`, (words) => { $("state").textContent = words; });
    $("session-card").dataset.state = state;
    list("flags", now ? this.flags(now) : [], flagCard, null);
    const phase = state === "recording" ? now.phase : null;
    const left = phase && say("phase", { number: phase.number + 1, name: phase.name, left: clock(phase.left_s) });
    change("phase", left ?? "", (words) => { $("phase").textContent = words; });
    const instruction = phase ? spoken(phase.instruction) : { text: "", lang: "" };
    change("instruction", instruction, ({ text, lang }) => { $("instruction").textContent = text; $("instruction").lang = lang || document.documentElement.lang; });
    const card = this.goesOn ? now.session : null;
    const plan = card && say("plan", { title: spoken(card.title).text, left: clock(now.left_s) });
    change("plan", plan ?? "", (words) => { $("plan").textContent = words; });
    const worn = Object.entries((card ? card.devices : now?.seats) ?? {}).map(([device, who]) => ({ device, who }));
    list("worn", worn, ({ device, who }) => element("li", say("wears", { who, device })), null);
    this.offer(now, state, worn);
    const names = (box.status.workers ?? []).filter((each) => each.name.startsWith("acquire:")).map((each) => each.name.slice(8));
    if (names.join() !== this.devices.join()) { this.devices = names; this.wearers(); }
    list("summary", now?.last && !this.goesOn ? [now.last] : [], summaryCard, null);
    $("summary-title").hidden = !now?.last || this.goesOn;
  }

  flags(now) {
    const found = [];
    if (now.latch) found.push({ level: "bad", what: say("flag.latch", { by: now.latch.by || "?" }), next: say("flag.latch.next"), id: "latch" });
    if (this.goesOn && now.session.mode === "feedback") found.push({ level: "bad", what: say("flag.not_recording"), id: "not_recording" });
    const reasons = now.lost_devices.map((device) => say("flag.lost", { device }));
    if (now.unsupervised_s > 0) reasons.push(say("flag.unsupervised", { n: number(now.unsupervised_s, 1) }));
    if (now.is_degraded) found.push({ level: "warn", what: say("flag.degraded"), why: reasons.join(" "), id: "degraded" });
    if (!now.is_watched) found.push({ level: "warn", what: say("flag.unwatched"), next: say("flag.unwatched.next"), id: "unwatched" });
    return found;
  }

  offer(now, state, worn) {
    const isOver = state === "idle" || state === "failed";
    const may = {
      stop: ["connecting", "flushing", "recording"].includes(state),
      acknowledge: state === "failed",
      save_again: state === "failed" && now.last === null,
      release: Boolean(now?.latch) && isOver,
      hand_over: isOver && worn.length > 0,
    };
    for (const step of STEPS) $(`session-${step}`).hidden = !may[step];
    $("by-line").hidden = this.isViewer || !(state === "idle" || Object.values(may).some(Boolean));
    $("begin").hidden = this.isViewer || state !== "idle";
  }

  async choose() {
    if (!$("begin").open || this.isViewer || this.hasAsked) return;
    this.hasAsked = true;
    const answer = await ask("/sessions/protocols", {});
    this.hasAsked = !answer.isRefused;
    if (answer.isRefused) { this.on.refuse(answer); return; }
    this.protocols = answer.protocols;
    this.translate();
  }

  wearers() {
    const given = this.worn();
    $("wearers").replaceChildren(...this.devices.map((device) => {
      const line = element("label", "", { kind: "grow" });
      const input = element("input", "");
      Object.assign(input, { maxLength: 64, autocomplete: "off", spellcheck: false, value: given[device] ?? "" });
      input.autocapitalize = "none";
      input.dataset.device = device;
      line.append(element("span", say("wearer", { device })), input);
      return line;
    }));
  }

  worn() {
    const filled = [...$("wearers").querySelectorAll("input")].filter((input) => input.value.trim());
    return Object.fromEntries(filled.map((input) => [input.dataset.device, input.value.trim()]));
  }

  tell(words) {
    change("told", { words, at: performance.now() }, () => { $("told").textContent = words; });
  }

  // What cannot be asked without a name of who asks is not asked.
  by() {
    const by = $("by").value.trim();
    if (!by) { this.tell(say("by.missing")); $("by").focus(); }
    return by;
  }

  wish() {
    const by = this.by();
    if (!by) return null;
    const devices = this.worn();
    if (!Object.keys(devices).length) { this.tell(say("begin.nobody")); return null; }
    return { by, devices, protocol: $("protocol").value, mode: $("mode").value };
  }

  async order(path, body, words) {
    $("refused").replaceChildren();
    const answer = await ask(path, body);
    if (answer.isRefused) { this.tell(""); this.on.refuse(answer); return null; }
    if (answer.state) this.hear(answer);
    this.tell(words);
    return answer;
  }

  // The emergency stop waits for nothing, not for a name either.
  async step(step) {
    const by = step === "emergency_stop" ? $("by").value.trim() || "bedside page" : this.by();
    if (by) await this.order(`/sessions/${step}`, { by }, say(`did.${step}`));
  }

  // The tick is the step: the box notes it before anything starts.
  async consent() {
    if (!$("agreed").checked) return;
    $("agreed").checked = false;
    const wish = this.wish();
    if (!wish) return;
    for (const who of new Set(Object.values(wish.devices))) {
      if (!await this.order("/sessions/consent", { by: wish.by, participant: who }, say("did.consent", { who }))) return;
    }
    $("agreed").checked = true;
  }

  async look() {
    const wish = this.wish();
    if (!wish) return false;
    const answer = await this.order("/sessions/look", wish, "");
    list("checks", answer ? answer.checks : [], checkCard, null);
    if (answer) this.tell(say(answer.may_start ? "begin.yes" : "begin.no"));
    return answer?.may_start ?? false;
  }

  async start() {
    const wish = this.wish();
    if (!wish || !await this.look()) return;
    if (!await this.order("/sessions", wish, say("did.start"))) return;
    list("checks", [], checkCard, null);
    $("agreed").checked = false;
    $("begin").open = false;
    $("session-card").scrollIntoView({ block: "nearest" });
  }
}

function flagCard(flag) {
  const item = element("li", "", { kind: `card ${flag.level}` });
  item.dataset.flag = flag.id;
  item.append(element("strong", `⚠ ${flag.what}`));
  if (flag.why) item.append(element("p", flag.why));
  if (flag.next) item.append(element("p", flag.next, { kind: "next" }));
  return item;
}

function checkCard(check) {
  const isBad = check.outcome !== "passed";
  const level = isBad ? (check.is_needed ? "bad" : "warn") : "ok";
  const item = element("li", "", { kind: `card ${level}` });
  item.dataset.check = check.name;
  item.append(element("strong", `${SIGNS[check.outcome]} ${say(`check.${check.name}`)}: ${say(`outcome.${check.outcome}`)}`));
  const reason = spoken(check.reason);
  item.append(element("p", reason.text, { lang: reason.lang }));
  if (isBad && check.remedy) {
    const remedy = spoken(check.remedy);
    item.append(element("p", remedy.text, { kind: "next", lang: remedy.lang }));
  }
  if (isBad && !check.is_needed) item.append(element("p", say("optional"), { kind: "soft" }));
  return item;
}

function summaryCard(last) {
  const whole = last.summary;
  const item = element("li", "", { kind: `card ${whole && !whole.lost.length ? "ok" : "warn"}` });
  item.append(element("strong", say(`ended.${last.outcome}`) || last.outcome));
  if (!whole) {
    item.append(element("p", say("summary.unsaved")));
    return item;
  }
  const rows = whole.streams.reduce((sum, each) => sum + (each.n_samples ?? 0), 0);
  const figures = { rows: number(rows), streams: number(whole.streams.length), markers: number(whole.markers) };
  if (whole.streams.length || !whole.lost.length) item.append(element("p", whole.streams.length ? say("summary.figures", figures) : say("summary.none")));
  if (whole.streams.length && !whole.lost.length) item.append(element("p", say("summary.whole")));
  for (const each of whole.lost) item.append(element("p", each, { lang: "en" }));
  for (const each of whole.phases) item.append(element("p", say("summary.phase", { name: each.name, lasted: clock(each.lasted_s), planned: clock(each.planned_s) }), { kind: "soft" }));
  return item;
}
