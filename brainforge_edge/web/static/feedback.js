// Three bars for each participant: alpha over beta in the last 1, 2 and 4 seconds. A ratio, and no state of a person.
import { $, change, element } from "./parts.js";
import { number, say } from "./words.js";

const STALE_MS = 500;
const WINDOWS = ["1s", "2s", "4s"];
const KEPT = 150; // half a minute of a trend
const SVG = "http://www.w3.org/2000/svg";

// 1 stands in the middle, and nothing runs off the end.
const share = (ratio) => ratio / (ratio + 1);

export class Feedback {
  constructor() {
    this.told = null;
    this.heardAt = -Infinity;
    this.trends = new Map(); // device and window → shares, null where there was none
    this.shown = new Map();
  }

  hear(told) {
    if (told.session_id !== this.told?.session_id) this.trends.clear();
    this.told = told;
    this.heardAt = performance.now();
    for (const [device, { relaxation }] of Object.entries(told.devices)) {
      for (const window of WINDOWS) {
        const key = `${device} ${window}`;
        const trend = this.trends.get(key) ?? [];
        const ratio = relaxation[window] ?? null;
        this.trends.set(key, [...trend, ratio === null ? null : share(ratio)].slice(-KEPT));
      }
    }
    this.draw();
  }

  // Only while the session shows some.
  show(session) {
    const isOn = Boolean(this.told) && session?.state === "recording" && session.session_id === this.told.session_id
      && session.session?.mode !== "record" && Boolean(session.phase?.feedback) && !session.emergency_stop;
    $("feedback").hidden = !isOn;
    if (isOn) this.draw();
  }

  draw() {
    const { devices, timescale_s: timescale } = this.told;
    const names = Object.entries(devices).map(([device, { subject }]) => ({ device, subject }));
    change("feedback", names, () => {
      this.shown.clear();
      $("bars").replaceChildren(...names.map((each) => this.made(each)));
    });
    for (const [device, said] of Object.entries(devices)) this.fill(this.shown.get(device), device, said, `${timescale}s`);
  }

  made({ device, subject }) {
    const group = element("div", "", { kind: "person" });
    const age = element("p", "", { kind: "age" });
    group.append(element("h3", say("feedback.of", { who: subject, device })), age);
    const rows = new Map();
    for (const window of WINDOWS) {
      const row = element("div", "", { kind: "bar" });
      const track = element("span", "", { kind: "track" });
      const level = element("span", "", { kind: "level" });
      const value = element("span", "", { kind: "value" });
      const svg = document.createElementNS(SVG, "svg");
      svg.setAttribute("viewBox", `0 0 ${KEPT} 100`);
      svg.setAttribute("preserveAspectRatio", "none");
      svg.setAttribute("aria-hidden", "true");
      const line = document.createElementNS(SVG, "path");
      svg.append(line);
      track.append(level);
      row.append(element("span", say("unit.s", { n: parseInt(window, 10) }), { kind: "window" }), track, value, svg);
      group.append(row);
      rows.set(window, { row, level, value, line });
    }
    this.shown.set(device, { group, age, rows });
    return group;
  }

  fill(shown, device, { relaxation, missing, quality }, timescale) {
    if (!shown) return;
    const known = quality.data_age_ms;
    const ms = known === null ? null : known + performance.now() - this.heardAt;
    const isStale = ms !== null && ms > STALE_MS;
    const words = ms === null ? say("feedback.none") : say(isStale ? "feedback.stale" : "feedback.age", { n: number(Math.round(ms / 50) * 50) });
    if (shown.age.textContent !== words) shown.age.textContent = words;
    shown.group.classList.toggle("stale", isStale);
    for (const [window, { row, level, value, line }] of shown.rows) {
      const ratio = relaxation[window] ?? null;
      row.classList.toggle("chosen", window === timescale);
      level.style.width = `${ratio === null ? 0 : share(ratio) * 100}%`;
      value.textContent = ratio === null ? say(`missing.${missing[window] ?? "start"}`) : number(ratio, 2);
      value.classList.toggle("missing", ratio === null);
      line.setAttribute("d", path(this.trends.get(`${device} ${window}`) ?? []));
    }
  }
}

// Holes stay empty.
function path(trend) {
  const from = KEPT - trend.length;
  let isDown = false;
  return trend.map((value, i) => {
    const step = value === null ? "" : `${isDown ? "L" : "M"}${from + i} ${(100 - value * 100).toFixed(1)}`;
    isDown = value !== null;
    return step;
  }).join("");
}
