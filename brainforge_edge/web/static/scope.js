// The scrolling signals: a sweep of ten seconds, of which only the new columns are drawn.
const MAGIC = 0x314c4642; // "BFL1"
const HEAD = 48;
const SWEEP_S = 10;
const ERASE = 14; // columns kept clear before the newest
const STEPS = [1, 2, 5];
const MEASURED_S = 1; // of signal that the scale is taken from

export class Frame {
  constructor(buffer) {
    const view = new DataView(buffer);
    this.isOurs = buffer.byteLength >= HEAD && view.getUint32(0, true) === MAGIC;
    if (!this.isOurs) return;
    this.stream = view.getUint16(4, true);
    this.first = view.getUint16(6, true);
    this.channels = view.getUint16(8, true);
    this.rows = view.getUint32(12, true);
    this.seq = view.getFloat64(24, true);
    this.sfreq = view.getFloat64(40, true);
    this.values = new Float32Array(buffer, HEAD, this.rows * this.channels);
  }
}

export class Scope {
  constructor(canvas, told) {
    this.canvas = canvas;
    this.told = told;
    this.context = canvas.getContext("2d", { alpha: false });
    this.waiting = [];
    this.view = "lines";
    this.names = [];
    this.scale = 0; // SI units for a lane; 0 until it was measured
    this.drawn = 0; // columns, for tests
    new ResizeObserver(() => this.layout()).observe(canvas);
    this.draw = this.draw.bind(this);
    requestAnimationFrame(this.draw);
  }

  // Another stream, page or view: begin at the left edge.
  look(names, units, stream, fullRate) {
    this.names = names;
    this.unit = units.find((unit) => unit in { V: 1, T: 1, M: 1 }) ?? units[0];
    this.isMain = units.map((unit) => unit === this.unit);
    this.stream = stream;
    this.fullRate = fullRate;
    this.scale = 0;
    this.isChosen = false;
    this.restart();
  }

  restart() {
    this.waiting.length = 0;
    this.layout();
  }

  take(frame) {
    if (frame.stream !== this.stream || frame.channels !== this.names.length) return;
    this.waiting.push(frame);
    if (this.waiting.length > 64) this.waiting.shift(); // a page that is not looked at
  }

  zoom(by) {
    if (!this.scale) return;
    const power = 10 ** Math.floor(Math.log10(this.scale) + 1e-9);
    const i = STEPS.findIndex((step) => Math.abs(this.scale / power - step) < 0.2);
    const at = Math.max(i, 0) + by;
    this.isChosen = true;
    this.scale = at < 0 ? (5 * power) / 10 : at > 2 ? 10 * power : STEPS[at] * power;
    this.told();
  }

  layout() {
    const { canvas } = this;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    this.ratio = ratio;
    const style = getComputedStyle(canvas);
    const colour = (name) => style.getPropertyValue(name).trim();
    this.colours = { back: colour("--card"), trace: colour("--trace"), text: colour("--soft"), grid: colour("--grid") };
    this.letters = 0.72 * ratio * parseFloat(getComputedStyle(document.documentElement).fontSize);
    this.margin = Math.round(this.view === "lines" ? 5.8 * this.letters : 8 * ratio);
    this.width = Math.max(1, canvas.width - this.margin);
    this.seq = null;
    const n = this.names.length;
    this.low = new Float32Array(n);
    this.high = new Float32Array(n);
    this.squares = new Float64Array(n);
    this.measured = 0; // rows
    this.reset();
    this.blank();
  }

  // Begin at the left edge again.
  blank() {
    this.at = 0; // position in the sweep, in columns
    this.column = -1;
    this.last = null; // where the line of each channel ended
    this.context.fillStyle = this.colours.back;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    if (this.view === "lines") this.label();
  }

  label() {
    const { context, canvas, names, ratio } = this;
    const lane = canvas.height / Math.max(names.length, 1);
    const size = this.letters;
    const every = Math.max(1, Math.ceil((size * 1.1) / lane));
    context.font = `${size}px system-ui, sans-serif`;
    context.fillStyle = this.colours.text;
    context.textBaseline = "middle";
    names.forEach((name, i) => {
      if (i % every === 0) context.fillText(name, 6 * ratio, (i + 0.5) * lane, this.margin - 10 * ratio);
    });
  }

  draw() {
    requestAnimationFrame(this.draw);
    for (const frame of this.waiting.splice(0)) this.sweep(frame);
  }

  sweep(frame) {
    const { rows, channels, values } = frame;
    if (Number.isFinite(this.measured)) this.measure(frame);
    const perRow = this.width / (SWEEP_S * frame.sfreq);
    const step = Math.max(1, Math.round(this.fullRate / frame.sfreq));
    if (this.seq !== null) {
      const missing = (frame.seq - this.seq) / step - rows;
      if (missing < -1 || missing > SWEEP_S * frame.sfreq) this.jump(0);
      else if (missing > 2) this.jump(missing * perRow);
    }
    this.seq = frame.seq;
    this.begin();
    for (let row = 0; row < rows; row += 1) {
      this.at += perRow;
      const base = row * channels;
      for (let i = 0; i < channels; i += 1) {
        const value = values[base + i];
        if (value < this.low[i]) this.low[i] = value;
        if (value > this.high[i]) this.high[i] = value;
      }
      if (Math.floor(this.at) !== this.column) this.flush(values, base);
    }
    this.context.stroke();
  }

  // A hole: the line ends here and goes on behind it.
  jump(columns) {
    this.at += columns;
    this.last = null;
  }

  // The middle channel fills an eighth of its lane; channels in another unit each have a scale of their own.
  measure(frame) {
    const { rows, channels, values } = frame;
    for (let i = 0; i < channels; i += 1) {
      for (let row = 0; row < rows; row += 1) this.squares[i] += values[row * channels + i] ** 2;
    }
    const isFirst = this.measured === 0;
    this.measured += rows;
    const isDone = this.measured >= MEASURED_S * frame.sfreq;
    if (!isFirst && !isDone) return;
    if (isDone) this.measured = Infinity;
    const n = isFirst ? rows : Math.round(MEASURED_S * frame.sfreq);
    const spreads = [...this.squares].map((sum) => Math.sqrt(sum / n));
    this.own = spreads.map((spread) => 8 * spread);
    if (this.isChosen) return;
    const main = spreads.filter((spread, i) => this.isMain[i] && spread > 0).sort((a, b) => a - b);
    const scale = main.length ? rounded(8 * main[main.length >> 1]) : 0;
    if (scale === this.scale) return;
    this.scale = scale;
    this.told();
    if (isDone) this.blank();
  }

  reset() {
    this.low.fill(Infinity);
    this.high.fill(-Infinity);
  }

  begin() {
    const { context } = this;
    context.strokeStyle = this.colours.trace;
    context.lineWidth = this.view === "butterfly" ? 0.6 * this.ratio : this.ratio;
    context.beginPath();
  }

  flush(values, base) {
    if (this.at >= this.width) {
      this.context.stroke();
      this.at %= this.width;
      this.last = null;
      this.begin();
    }
    this.column = Math.floor(this.at);
    this.drawn += 1;
    this.canvas.dataset.drawn = this.drawn;
    const x = this.margin + this.column;
    this.clear(x);
    if (this.view === "raster") this.raster(x);
    else this.lines(x, values, base);
    this.reset();
  }

  clear(x) {
    const { context, canvas } = this;
    const wide = Math.min(ERASE * this.ratio, canvas.width - x);
    context.fillStyle = this.colours.back;
    context.fillRect(x + 1, 0, wide, canvas.height);
  }

  lines(x, values, base) {
    const { context, canvas, names } = this;
    const n = names.length;
    const isApart = this.view === "lines";
    const lane = isApart ? canvas.height / n : canvas.height;
    const room = isApart ? lane : canvas.height / 4;
    const last = this.last ?? new Float32Array(n).fill(NaN);
    for (let i = 0; i < n; i += 1) {
      const zero = isApart ? (i + 0.5) * lane : canvas.height / 2;
      const scale = this.isMain[i] ? this.scale : this.own[i];
      const factor = scale ? room / scale : 0;
      // A quarter of a lane beyond its own at most: what is larger is cut, and never covers the others.
      const y = (value) => zero - Math.max(-0.75 * lane, Math.min(0.75 * lane, value * factor));
      if (!Number.isFinite(this.low[i])) { last[i] = NaN; continue; }
      const high = y(this.high[i]);
      const low = y(this.low[i]);
      if (Number.isFinite(last[i])) context.moveTo(x - 1, last[i]);
      else context.moveTo(x, high);
      context.lineTo(x, high);
      context.lineTo(x, low);
      last[i] = y(values[base + i]);
    }
    this.last = last;
  }

  raster(x) {
    const { context, canvas, names } = this;
    const n = names.length;
    for (let i = 0; i < n; i += 1) {
      const top = Math.round((i * canvas.height) / n);
      const height = Math.max(1, Math.round(((i + 1) * canvas.height) / n) - top);
      const scale = this.isMain[i] ? this.scale : this.own[i];
      const part = scale ? Math.min(1, (2 * Math.max(this.high[i], -this.low[i])) / scale) : 0;
      if (!(part >= 0)) continue;
      const light = Math.round(12 + 76 * part);
      context.fillStyle = `hsl(${Math.round(250 - 200 * part)} 70% ${light}%)`;
      context.fillRect(x, top, 1, height);
    }
  }
}

// The next of 1, 2, 5, 10, …
function rounded(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return (STEPS.find((step) => step * power >= value) ?? 10) * power;
}
