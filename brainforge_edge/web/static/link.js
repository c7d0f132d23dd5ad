// The way to the box: a WebSocket that is opened again for ever, and requests that tell why they failed.
import { say } from "./words.js";

export class Link {
  constructor(on) {
    this.on = on; // status, streams, session, feedback, frame, closed
    this.wait = 250;
    this.looks = null;
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { this.wait = 250; if (this.looks) socket.send(this.looks); };
    socket.onmessage = ({ data }) => {
      if (typeof data !== "string") { this.on.frame(data); return; }
      const told = JSON.parse(data);
      if (told.kind === "status") this.on.status(told.said);
      else if (told.kind === "streams") this.on.streams(told.streams);
      else if (told.kind === "session") this.on.session(told.said);
      else if (told.kind === "feedback_update") this.on.feedback(told);
    };
    socket.onclose = () => {
      this.on.closed();
      this.timer = setTimeout(() => this.open(), this.wait);
      this.wait = Math.min(this.wait * 2, 4000);
    };
    this.socket = socket;
  }

  // What stood in the way is gone: try again at once.
  hurry() {
    if (this.socket.readyState !== WebSocket.CLOSED) return;
    clearTimeout(this.timer);
    this.wait = 250;
    this.open();
  }

  look(stream, first, count) {
    this.looks = JSON.stringify({ stream, first, count });
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(this.looks);
  }
}

// What the box answered, or {fix} with what to do.
export async function ask(path, body) {
  try {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    const said = await answer.json();
    return answer.ok ? said : { isRefused: true, ...said };
  } catch {
    return { isRefused: true, title: say("refused"), detail: say("offline"), fix: say("offline.next"), own: true };
  }
}
