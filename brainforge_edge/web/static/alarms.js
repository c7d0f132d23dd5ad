// What a person has to know now, most urgent first: what, why, and the next step.
import { say } from "./words.js";

// The box's own sentences are English: they are used where this page has none of its own.
function sentence(key, values, otherwise) {
  const own = say(key, values);
  if (own || !otherwise) return { text: own, lang: "" };
  return { text: otherwise, lang: "en" };
}

export function alarmsOf(shown) {
  const { verdict, status, devices } = shown;
  if (verdict === "outside") return [];
  if (verdict === "unknown") {
    return [{ level: "bad", id: "contact", what: say("alarm.contact"), why: { text: say("why.contact") }, next: { text: say("next.contact") } }];
  }
  const found = [];
  if (verdict === "stalled") {
    found.push({ level: "bad", id: "stalled", what: say("alarm.stalled"), why: { text: say("why.stalled") }, next: { text: say("next.stalled") } });
  }
  for (const worker of status.workers ?? []) {
    const device = worker.name.startsWith("acquire:") ? worker.name.slice(8) : "";
    if (device) found.push(...ofDevice(worker, device, shown));
    else if (worker.state !== "running" && worker.fault) found.push(ofFault(worker.name, worker.fault, "warn"));
    else if (worker.error) found.push(ofFault(worker.name, worker.error, "warn"));
  }
  const pressure = status.disk?.pressure ?? "none";
  if (pressure !== "none") {
    const level = pressure === "no_recording" || pressure === "full" ? "bad" : "warn";
    found.push({ level, id: `disk:${pressure}`, what: say("alarm.disk"), why: { text: say(`why.disk.${pressure}`) }, next: { text: say("next.disk") } });
  }
  return found.sort((a, b) => (a.level === "bad" ? 0 : 1) - (b.level === "bad" ? 0 : 1));
}

// A session's recording is for its own devices alone.
export function isMeant(status, device) {
  return Boolean(status.recording) && (status.recording_devices ?? [device]).includes(device);
}

function ofDevice(worker, device, { verdict, status, devices }) {
  const link = worker.link ?? "down";
  const isOpen = isMeant(status, device);
  const own = worker.recording ?? {};
  const fault = own.fault ?? own.error;
  if (fault) return [{ ...ofFault(device, fault, "bad"), what: say("alarm.unsaved", { device }) }];
  if (link === "streaming") {
    if (!isOpen || devices[device] || verdict === "starting") return [];
    return [{ level: "bad", id: `unsaved:${device}`, what: say("alarm.unsaved", { device }), why: { text: say("why.unsaved") }, next: { text: say("next.unsaved") } }];
  }
  const reason = String(worker.reason ?? "").replace(/^device\./, "");
  if (link === "connecting" && !isOpen) return [];
  const error = worker.error ?? {};
  const next = sentence(`next.${reason}`, { device }, error.remedy && `${error.remedy}.`);
  return [{
    level: isOpen ? "bad" : "warn",
    id: `link:${device}:${link}:${reason}`,
    what: say(`alarm.link.${link}`, { device }) || say("alarm.link.lost", { device }),
    why: sentence(`why.${reason}`, { device }, error.why && `${error.why}.`),
    next: next.text ? next : { text: say("next.link", { device }) },
  }];
}

function ofFault(name, error, level) {
  return {
    level,
    id: `fault:${name}:${error.code}`,
    what: say("alarm.fault", { name }),
    why: sentence(`why.${error.code}`, {}, `${error.what}: ${error.why}.`),
    next: sentence(`next.${error.code}`, {}, `${error.remedy}.`),
  };
}
