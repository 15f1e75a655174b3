"use strict";
// Line charts on a canvas: linear or logarithmic axes, a marker, and the values under the pointer.

const DASHES = { solid: [], dashed: [7, 4], dotted: [2, 3] };
const MARGIN = { left: 56, right: 10, top: 10, bottom: 34 };

function cssColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function shortNumber(value) {
  if (Number.isNaN(value)) return "no value";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
  return text.replace("-", "−").replace("e-", "e−").replace("e+", "e");
}

function axisNumber(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(0).replace("e+", "e").replace("-", "−").replace("e-", "e−");
  return String(Number(value.toPrecision(3))).replace("-", "−");
}

// Ticks of a logarithmic axis: decades, or 1, 2 and 5 where there are few of them.
function logTicks(low, high) {
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high)), ticks = [];
  const stride = Math.max(1, Math.ceil((last - first) / 6));
  for (let e = first; e <= last; e += stride) {
    for (const m of last - first <= 2 ? [1, 2, 5] : [1]) {
      const value = m * 10 ** e;
      if (value >= low && value <= high) ticks.push(value);
    }
  }
  return ticks.length ? ticks : [low];
}

function linearTicks(low, high, most) {
  if (!(high > low)) return [low];
  const rough = (high - low) / most, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const ticks = [];
  for (let t = Math.ceil(low / step) * step; t <= high + 1e-9 * step; t += step) ticks.push(t);
  return ticks;
}

// The vertical limits of positive values: floor and ceiling keep what blows up or is rounding
// noise from taking the whole chart.
function limits(series, floor, ceiling) {
  const values = series.flatMap((line) => [...line.values]).filter((value) => Number.isFinite(value) && value > 0);
  const shown = values.filter((value) => value <= ceiling);
  let high = shown.reduce((a, b) => Math.max(a, b), 0);
  if (high <= 0) high = values.length ? ceiling : 1;
  let low = Math.max(floor, values.reduce((a, b) => Math.min(a, b), Infinity));
  if (!(low < high)) low = high / 10;
  return [low / 1.3, high * 1.4];
}

class Chart {
  // options: xLabel, yLabel, logX, onPick(index), describe(index) -> text
  constructor(name, options) {
    this.canvas = document.getElementById(name);
    this.keys = document.getElementById(`${name}-keys`);
    this.output = document.getElementById(`${name}-values`);
    this.options = options;
    this.data = null;
    this.pointed = null;
    const point = (event) => { this.pointed = this.nearest(event); this.draw(); };
    this.canvas.addEventListener("pointermove", point);
    this.canvas.addEventListener("pointerdown", (event) => {
      point(event);
      if (options.onPick && this.pointed !== null) options.onPick(this.pointed);
    });
    this.canvas.addEventListener("pointerleave", () => { this.pointed = null; this.draw(); });
  }

  // data: x, series of {name, colour, dash, values}, current (index or null), floor, ceiling, label
  show(data) {
    this.data = data;
    const keys = data.series.map((line) => {
      const key = document.createElement("span");
      key.textContent = line.name;
      key.style.setProperty("--colour", line.colour);
      key.style.setProperty("--dash", line.dash);
      return key;
    });
    this.keys.replaceChildren(...keys);
    this.draw();
  }

  scales() {
    const { x, series } = this.data, box = this.canvas.getBoundingClientRect();
    const [low, high] = limits(series, this.data.floor ?? 0, this.data.ceiling ?? Infinity);
    const toX = this.options.logX ? Math.log10 : (value) => value;
    const first = toX(x[0]), last = toX(x[x.length - 1]), span = last - first || 1;
    const width = box.width - MARGIN.left - MARGIN.right, height = box.height - MARGIN.top - MARGIN.bottom;
    const px = (value) => MARGIN.left + (last === first ? 0.5 : (toX(value) - first) / span) * width;
    const py = (value) => MARGIN.top + (1 - Math.log(value / low) / Math.log(high / low)) * height;
    return { px, py, low, high, width, height, box };
  }

  nearest(event) {
    if (!this.data || !this.data.x.length) return null;
    const { px, box } = this.scales(), at = event.clientX - box.left;
    let best = 0;
    this.data.x.forEach((value, i) => {
      if (Math.abs(px(value) - at) < Math.abs(px(this.data.x[best]) - at)) best = i;
    });
    return best;
  }

  draw() {
    if (!this.data) return;
    const scales = this.scales(), ratio = window.devicePixelRatio || 1;
    if (scales.box.width < 1) return;
    this.canvas.width = Math.round(scales.box.width * ratio);
    this.canvas.height = Math.round(scales.box.height * ratio);
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "12px system-ui, sans-serif";
    if (this.data.x.length) {
      this.drawAxes(pen, scales);
      for (const line of this.data.series) this.drawLine(pen, scales, line);
      if (this.data.current !== null) this.drawRule(pen, scales, this.data.current, "--strong", []);
      if (this.pointed !== null) this.drawRule(pen, scales, this.pointed, "--soft", [3, 3]);
    }
    this.say();
  }

  drawAxes(pen, { px, py, low, high, width, height }) {
    const { x } = this.data, bottom = MARGIN.top + height;
    pen.strokeStyle = cssColour("--line");
    pen.fillStyle = cssColour("--soft");
    pen.lineWidth = 1;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const tick of logTicks(low, high)) {
      pen.beginPath();
      pen.moveTo(MARGIN.left, py(tick));
      pen.lineTo(MARGIN.left + width, py(tick));
      pen.stroke();
      pen.fillText(axisNumber(tick), MARGIN.left - 6, py(tick));
    }
    const ends = [x[0], x[x.length - 1]];
    const ticks = this.options.logX ? logTicks(...ends) : linearTicks(...ends, 6).filter(Number.isInteger);
    pen.textAlign = "center";
    pen.textBaseline = "top";
    for (const tick of ticks) pen.fillText(axisNumber(tick), px(tick), bottom + 4);
    pen.fillText(this.options.xLabel, MARGIN.left + width / 2, bottom + 19);
    pen.strokeRect(MARGIN.left, MARGIN.top, width, height);
  }

  drawLine(pen, { px, py, low, high, width, height }, line) {
    const { x } = this.data;
    pen.save();
    pen.beginPath();
    pen.rect(MARGIN.left - 3, MARGIN.top, width + 6, height);
    pen.clip();
    pen.strokeStyle = pen.fillStyle = line.colour;
    pen.lineWidth = 2;
    pen.setLineDash(DASHES[line.dash]);
    pen.beginPath();
    let drawing = false;
    line.values.forEach((value, i) => {
      if (Number.isFinite(value) && value > 0) {
        if (drawing) pen.lineTo(px(x[i]), py(value)); else pen.moveTo(px(x[i]), py(value));
        drawing = true;
      } else drawing = false;
    });
    pen.stroke();
    pen.setLineDash([]);
    // A point between gaps has no line; what lies beyond the top is marked there.
    line.values.forEach((value, i) => {
      const alone = !(line.values[i - 1] > 0) && !(line.values[i + 1] > 0);
      if (value > high) this.drawBeyond(pen, px(x[i]));
      else if (alone && value >= low) pen.fillRect(px(x[i]) - 3, py(value) - 3, 6, 6);
    });
    pen.restore();
  }

  drawBeyond(pen, at) {
    pen.beginPath();
    pen.moveTo(at, MARGIN.top);
    pen.lineTo(at - 4, MARGIN.top + 7);
    pen.lineTo(at + 4, MARGIN.top + 7);
    pen.fill();
  }

  drawRule(pen, { px, py, low, high, height }, index, colour, dash) {
    const at = px(this.data.x[index]);
    pen.strokeStyle = cssColour(colour);
    pen.lineWidth = 1.5;
    pen.setLineDash(dash);
    pen.beginPath();
    pen.moveTo(at, MARGIN.top);
    pen.lineTo(at, MARGIN.top + height);
    pen.stroke();
    pen.setLineDash([]);
    for (const line of this.data.series) {
      const value = line.values[index];
      if (!(value >= low && value <= high)) continue;
      pen.fillStyle = line.colour;
      pen.beginPath();
      pen.arc(at, py(value), 3.5, 0, 2 * Math.PI);
      pen.fill();
    }
  }

  // The values under the pointer, or at the current step, as text for everybody.
  say() {
    const index = this.pointed ?? this.data.current;
    let text = this.data.x.length ? "Point at the chart to read its values." : "There is nothing to draw.";
    if (index !== null && this.data.x.length) {
      const values = this.data.series.map((line) => `${line.name} ${shortNumber(line.values[index])}`);
      text = `${this.options.at} ${this.data.x[index]}: ${values.join(" · ")}`;
    }
    this.output.textContent = text;
    this.canvas.setAttribute("aria-label", `${this.data.label}. ${text}`);
  }
}
