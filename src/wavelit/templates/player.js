// Plays rollouts: the blocks of the page are decoded when their field is chosen, and drawn cell by
// cell.

const LIGHT = ["#0072b2", "#d55e00", "#008060", "#a2478a", "#7a5c00", "#4b3f9e"];
const DARK = ["#56b4e9", "#ff9b5e", "#35c99c", "#e29ac6", "#f0e442", "#b7a6ff"];
const STYLES = ["solid", "dashed", "dotted"];
const EMPTY = 0, BELOW = 1, FIRST = 2, ABOVE = 255, LEVELS = 253;

const element = (id) => document.getElementById(id);
const isDark = window.matchMedia("(prefers-color-scheme: dark)");
const colours = () => (isDark.matches ? DARK : LIGHT);

function bytesOf(text) {
  return Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0));
}

async function inflated(id) {
  const stream = new Blob([bytesOf(element(id).textContent)]).stream();
  return new Response(stream.pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
}

class Player {
  constructor(contents) {
    this.contents = contents;
    this.maps = Object.fromEntries(Object.entries(contents.maps).map(([name, text]) => [name, bytesOf(text)]));
    this.marks = Object.fromEntries(Object.entries(contents.marks).map(([name, text]) =>
      [name, [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16))]));
    this.cache = new Map();
    this.index = 0;
    this.timer = null;
    this.cell = null;
    this.request = 0;
    this.panels = this.makePanels();
    this.fillChoices();
    const step = { xLabel: "rollout step", at: "Step", onPick: (index) => this.goTo(index) };
    this.charts = {
      vrmse: new Chart("vrmse", step),
      spectrum: new Chart("spectrum", { xLabel: "wavenumber (cycles per domain)", at: "Wavenumber", logX: true }),
      bands: new Chart("bands", step),
    };
    this.listen();
  }

  // Truth, predictions and errors, which stand below predictions where there are several runs; the
  // ranges take the place that is left.
  makePanels() {
    const { runs } = this.contents, several = runs.length > 1, panels = element("panels");
    const specs = [{ title: "truth", kind: "truth", image: 0 }];
    runs.forEach((run, r) => specs.push({ title: several ? `prediction of ${run}` : "prediction", kind: "value", image: 1 + 2 * r, run: r }));
    runs.forEach((run, r) => specs.push({ title: several ? `error of ${run}` : "error, prediction minus truth", kind: "error", image: 2 + 2 * r, run: r }));
    const made = specs.map((spec, number) => this.makePanel(spec, number));
    if (several) made[runs.length + 1].canvas.parentNode.before(element("bars"));
    else panels.append(element("bars"));
    this.arrange();
    return made;
  }

  // As many columns as fit, two on a phone.
  arrange() {
    const { runs } = this.contents, panels = element("panels"), wanted = Math.max(3, runs.length + 1);
    const columns = Math.min(wanted, Math.max(2, Math.floor(panels.clientWidth / 125)));
    panels.style.setProperty("--columns", columns);
    element("bars").style.gridColumn = runs.length > 1 || columns < 3 ? "auto" : "1 / -1";
  }

  makePanel(spec, number) {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    const canvas = document.createElement("canvas");
    caption.textContent = spec.title;
    canvas.id = `panel-${number}`;
    canvas.setAttribute("role", "img");
    figure.append(caption, canvas);
    element("panels").append(figure);
    const { width, height, spatial } = this.contents;
    if (spatial > 1) {
      canvas.width = width;
      canvas.height = height;
    }
    canvas.style.aspectRatio = spatial > 1 ? String(Math.min(8, Math.max(0.5, width / height))) : "1.4";
    canvas.addEventListener("pointermove", (event) => this.pointAt(canvas, event));
    canvas.addEventListener("pointerdown", (event) => this.pointAt(canvas, event));
    canvas.addEventListener("pointerleave", () => { this.cell = null; this.sayCell(); });
    return { ...spec, canvas };
  }

  fillChoices() {
    const fill = (id, names) => element(id).replaceChildren(...names.map((name, i) => new Option(name, String(i))));
    fill("field", this.contents.fields);
    fill("trajectory", this.contents.trajectories);
    fill("run", this.contents.runs);
    element("run-choice").hidden = this.contents.runs.length < 2;
    element("step").max = String(this.contents.steps.length - 1);
    element("shown").classList.toggle("timed", this.contents.time !== null);
    // A browser may bring back what was chosen before the page was loaded anew.
    for (const id of ["field", "trajectory", "run"]) element(id).value = "0";
    element("step").value = "0";
  }

  listen() {
    element("field").addEventListener("change", () => this.load());
    element("trajectory").addEventListener("change", () => this.load());
    element("run").addEventListener("change", () => this.draw());
    element("speed").addEventListener("change", () => { if (this.timer) { this.pause(); this.play(); } });
    element("step").addEventListener("input", () => this.goTo(Number(element("step").value)));
    element("play").addEventListener("click", () => this.toggle());
    element("back").addEventListener("click", () => this.goTo(this.index - 1));
    element("forth").addEventListener("click", () => this.goTo(this.index + 1));
    document.addEventListener("keydown", (event) => this.press(event));
    isDark.addEventListener("change", () => this.draw());
    window.addEventListener("resize", () => { this.arrange(); this.draw(); });
  }

  // Keys belong to the player unless the focus is on something that uses them itself.
  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = event.target instanceof Element ? event.target : document.body;
    if (at.closest("select, .box")) return;
    const last = this.contents.steps.length - 1, isSlider = at.id === "step";
    if (event.key === " " && !at.closest("button")) this.toggle();
    else if (event.key === "ArrowLeft") this.goTo(this.index - 1);
    else if (event.key === "ArrowRight") this.goTo(this.index + 1);
    else if (event.key === "Home" && (isSlider || at.closest("#player"))) this.goTo(0);
    else if (event.key === "End" && (isSlider || at.closest("#player"))) this.goTo(last);
    else return;
    event.preventDefault();
  }

  toggle() {
    if (this.timer) this.pause(); else this.play();
  }

  play() {
    if (this.index === this.contents.steps.length - 1) this.goTo(0);
    this.timer = window.setInterval(() => {
      if (this.index >= this.contents.steps.length - 1) this.pause();
      else this.goTo(this.index + 1);
    }, 1000 / Number(element("speed").value));
    element("play").textContent = "Pause";
  }

  pause() {
    window.clearInterval(this.timer);
    this.timer = null;
    element("play").textContent = "Play";
  }

  goTo(index) {
    this.index = Math.max(0, Math.min(this.contents.steps.length - 1, index));
    this.draw();
  }

  async load() {
    const trajectory = Number(element("trajectory").value), field = Number(element("field").value);
    const key = `${trajectory}-${field}`, request = ++this.request;
    if (!this.cache.has(key)) this.cache.set(key, await this.decode(key));
    // A later choice may have come first.
    if (request !== this.request) return;
    this.shown = { ...this.cache.get(key), ...this.contents.ranges[trajectory][field], field: this.contents.fields[field] };
    this.drawBars();
    this.draw();
    element("player").dataset.ready = key;
  }

  async decode(key) {
    const images = new Uint8Array(await inflated(`images-${key}`));
    for (let i = 1; i < images.length; i++) images[i] += images[i - 1];
    const numbers = new Float32Array(await inflated(`curves-${key}`));
    const { steps, wavenumbers, bands, runs, beside } = this.contents;
    let at = 0;
    const take = (n) => numbers.subarray(at, (at += n));
    const rows = (n, length) => Array.from({ length: n }, () => take(length));
    const spectra = () => rows(steps.length, wavenumbers.length);
    const truth = spectra();
    const judged = runs.map(() => ({ vrmse: take(steps.length), bands: rows(bands.length, steps.length), spectra: spectra() }));
    return { images, truth, judged, beside: beside.map(() => take(steps.length)) };
  }

  codes(image) {
    const { width, height, steps } = this.contents, size = width * height;
    const start = (image * steps.length + this.index) * size;
    return this.shown.images.subarray(start, start + size);
  }

  rangeOf(panel) {
    return panel.kind === "error" ? this.shown.error : this.shown.value;
  }

  // The step, and how long after the last known state it is, where a step has one length.
  stepText(step) {
    const { steps, time } = this.contents, text = `step ${step} of ${steps[steps.length - 1]}`;
    return time === null ? text : `${text}, after ${shortNumber(step * time.step)} ${time.unit}`.trimEnd();
  }

  draw() {
    if (!this.shown) return;
    const { steps, spatial } = this.contents, step = steps[this.index], text = this.stepText(step);
    element("step").value = String(this.index);
    element("step").setAttribute("aria-valuetext", text);
    element("shown").textContent = text;
    for (const panel of this.panels) {
      const codes = this.codes(panel.image), blank = codes.every((code) => code === EMPTY);
      if (spatial > 1) this.drawImage(panel, codes); else this.drawProfile(panel, codes);
      const note = blank ? ": no finite value at this step" : "";
      panel.canvas.previousSibling.textContent = panel.title + note;
      panel.canvas.setAttribute("aria-label", `${panel.title} of ${this.shown.field} at step ${step}${note}`);
    }
    this.sayCell();
    this.drawCharts();
  }

  // One pixel a cell; the second axis points up.
  drawImage(panel, codes) {
    const { width, height } = this.contents;
    const pen = panel.canvas.getContext("2d", { willReadFrequently: true });
    const image = pen.createImageData(width, height), map = this.maps[this.rangeOf(panel).map];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const to = 4 * ((height - 1 - y) * width + x);
        const [r, g, b] = this.colour(codes[y * width + x], map);
        image.data[to] = r;
        image.data[to + 1] = g;
        image.data[to + 2] = b;
        image.data[to + 3] = 255;
      }
    }
    pen.putImageData(image, 0, 0);
  }

  colour(code, map) {
    if (code === EMPTY) return this.marks.empty;
    if (code === BELOW) return this.marks.below;
    if (code === ABOVE) return this.marks.above;
    return map.subarray(3 * (code - FIRST), 3 * (code - FIRST) + 3);
  }

  // A field in 1-D is a line over its cells; the truth stands in grey behind a prediction.
  drawProfile(panel, codes) {
    const box = panel.canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    panel.canvas.width = Math.round(box.width * ratio);
    panel.canvas.height = Math.round(box.height * ratio);
    const pen = panel.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.strokeStyle = cssColour("--line");
    pen.strokeRect(0, box.height / 2, box.width, 0);
    if (panel.kind === "value") this.drawCodes(pen, box, this.codes(0), cssColour("--soft"), 1.5);
    this.labelEnds(pen, box, this.rangeOf(panel));
    const line = panel.kind === "truth" ? cssColour("--ink") : colours()[panel.run];
    this.drawCodes(pen, box, codes, line, 2);
  }

  labelEnds(pen, box, { low, high }) {
    pen.fillStyle = cssColour("--soft");
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "top";
    pen.fillText(shortNumber(high), 5, 5);
    pen.textBaseline = "bottom";
    pen.fillText(shortNumber(low), 5, box.height - 5);
  }

  drawCodes(pen, box, codes, colour, width) {
    const px = (i) => 4 + ((codes.length < 2 ? 0.5 : i / (codes.length - 1)) * (box.width - 8));
    const py = (code) => 6 + (1 - (code - FIRST) / (LEVELS - 1)) * (box.height - 12);
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.beginPath();
    let drawing = false;
    codes.forEach((code, i) => {
      const inside = code >= FIRST && code < ABOVE;
      if (inside && drawing) pen.lineTo(px(i), py(code));
      else if (inside) pen.moveTo(px(i), py(code));
      drawing = inside;
    });
    pen.stroke();
    codes.forEach((code, i) => {
      if (code !== BELOW && code !== ABOVE) return;
      pen.fillStyle = `rgb(${this.colour(code).join()})`;
      pen.fillRect(px(i) - 2, code === ABOVE ? 0 : box.height - 5, 4, 5);
    });
  }

  drawBars() {
    const { value, error, field } = this.shown, spatial = this.contents.spatial;
    const bars = [[`${field}: truth and prediction, all steps`, value], ["error, all steps", error]];
    element("bars").replaceChildren(...bars.map(([what, range]) => this.makeBar(what, range)));
    const mark = (name, meaning) => {
      const item = document.createElement("span"), box = document.createElement("span");
      item.className = "item";
      box.className = "mark";
      box.style.background = this.contents.marks[name];
      item.append(box, meaning);
      return item;
    };
    const missing = spatial > 1 ? [mark("empty", "no value: not finite or masked")]
      : [". A gap: no value, not finite or masked. Grey behind a prediction: the truth."];
    element("legend").replaceChildren("One range for all steps of this trajectory, taken from the truth. ",
      mark("above", "above the range"), " ", mark("below", "below the range"), " ", ...missing);
  }

  makeBar(what, range) {
    const bar = document.createElement("div"), title = document.createElement("div"), ends = document.createElement("div");
    const canvas = document.createElement("canvas"), map = this.maps[range.map];
    bar.className = "bar";
    title.className = "what";
    title.textContent = what;
    ends.className = "ends";
    for (const share of [0, 0.5, 1]) {
      const end = document.createElement("span");
      end.textContent = shortNumber(range.low * (1 - share) + range.high * share);
      ends.append(end);
    }
    canvas.width = LEVELS;
    canvas.height = 1;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `colours from ${shortNumber(range.low)} to ${shortNumber(range.high)}`);
    const pen = canvas.getContext("2d"), image = pen.createImageData(LEVELS, 1);
    for (let i = 0; i < LEVELS; i++) image.data.set([...map.subarray(3 * i, 3 * i + 3), 255], 4 * i);
    pen.putImageData(image, 0, 0);
    // The colours of a line mean nothing: it has its ends alone.
    if (this.contents.spatial > 1) bar.append(title, canvas, ends);
    else {
      title.textContent = `${what}: ${shortNumber(range.low)} to ${shortNumber(range.high)}`;
      bar.append(title);
    }
    return bar;
  }

  pointAt(canvas, event) {
    const { width, height, spatial } = this.contents, box = canvas.getBoundingClientRect();
    const along = (share, n) => Math.max(0, Math.min(n - 1, Math.floor(share * n)));
    const x = along((event.clientX - box.left) / box.width, width);
    const y = spatial > 1 ? along(1 - (event.clientY - box.top) / box.height, height) : 0;
    this.cell = [x, y];
    this.sayCell();
  }

  sayCell() {
    let text = this.contents.spatial > 1 ? "Point at a cell to read its values." : "Point at a line to read its values.";
    if (this.cell) {
      const [x, y] = this.cell, { cell, spatial, width } = this.contents;
      const place = spatial > 1 ? `(${x * cell}, ${y * cell})` : String(x * cell);
      const values = this.panels.map((panel) => {
        const name = panel.kind === "error" && this.contents.runs.length < 2 ? "error" : panel.title;
        return `${name} ${this.valueOf(this.codes(panel.image)[y * width + x], this.rangeOf(panel))}`;
      });
      text = `Cell ${place}: ${values.join(" · ")}`;
    }
    element("cell").textContent = text;
  }

  valueOf(code, { low, high }) {
    if (code === EMPTY) return "no value";
    if (code === BELOW) return `below ${shortNumber(low)}`;
    if (code === ABOVE) return `above ${shortNumber(high)}`;
    const share = (code - FIRST) / (LEVELS - 1);
    return shortNumber(low * (1 - share) + high * share);
  }

  drawCharts() {
    const { runs, beside, steps, bands, wavenumbers } = this.contents, { judged, truth, field } = this.shown;
    const palette = colours(), style = (r) => STYLES[r % STYLES.length], last = this.index;
    const grey = cssColour("--soft"), several = runs.length > 1;
    this.charts.vrmse.show({
      x: steps, current: last, label: `VRMSE of ${field} over time`, ceiling: this.ceiling(),
      series: [
        ...runs.map((run, r) => ({ name: run, colour: palette[r], dash: style(r), values: judged[r].vrmse })),
        ...beside.map((name, b) => ({ name, colour: grey, dash: b ? "dotted" : "dashed", values: this.shown.beside[b] })),
      ],
    });
    const most = Math.max(...truth[last].filter(Number.isFinite), 0);
    this.charts.spectrum.show({
      x: wavenumbers, current: null, label: `spectrum of ${field} at step ${steps[last]}`,
      floor: most * 1e-12, ceiling: most > 0 ? most * 1e3 : Infinity,
      series: [
        { name: "truth", colour: cssColour("--ink"), dash: "solid", values: truth[last] },
        ...runs.map((run, r) => ({ name: several ? run : "prediction", colour: palette[r], dash: several ? style(r) : "dashed", values: judged[r].spectra[last] })),
      ],
    });
    const run = Number(element("run").value);
    this.charts.bands.show({
      x: steps, current: last, label: `error of ${field} by wavelet band over time`, ceiling: this.ceiling(),
      series: bands.map((name, b) => ({ name, colour: palette[b], dash: style(b), values: judged[run].bands[b] })),
    });
  }

  // A VRMSE far above 1 says no more than that the rollout has blown up.
  ceiling() {
    const held = this.shown.beside.flatMap((values) => [...values]).filter(Number.isFinite);
    return 100 * Math.max(1, ...held);
  }
}

async function start() {
  const message = element("message");
  if (typeof DecompressionStream === "undefined") {
    message.textContent = "This browser cannot decompress the rollouts: it needs DecompressionStream, which browsers of 2023 and later have.";
    message.hidden = false;
    return;
  }
  try {
    element("stage").hidden = false;
    const player = new Player(JSON.parse(element("contents").textContent));
    await player.load();
  } catch (error) {
    element("stage").hidden = true;
    message.textContent = "The rollouts of this page cannot be read: the file is damaged. Write the report anew.";
    message.hidden = false;
    console.error(error);
  }
}

start();
