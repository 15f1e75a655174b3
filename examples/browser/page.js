// Rolls the model of model.onnx out from the history in rollout.bin, and draws it beside the truth.
import * as ort from "./ort.wasm.min.mjs";

const at = (id) => document.getElementById(id);
// More threads need headers that plain web servers do not send.
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = "./";
// As wavelit.metrics has it.
const EPSILON = 1e-7;

let session, contents, arrays, history, steps, disturbed, milliseconds;
let [playing, looping, pending] = [false, false, Promise.resolve()];

async function load() {
  contents = await (await fetch("rollout.json")).json();
  const bytes = await (await fetch("rollout.bin")).arrayBuffer();
  arrays = {};
  let offset = 0;
  for (const [name, shape] of Object.entries(contents.arrays)) {
    const size = shape.reduce((a, b) => a * b, 1);
    arrays[name] = new Float32Array(bytes, offset, size);
    offset += 4 * size;
  }
  session = await ort.InferenceSession.create("model.onnx");
  at("title").textContent = contents.title;
  for (const [index, field] of contents.fields.entries()) {
    at("field").add(new Option(field.name, index));
  }
  for (const id of ["prediction", "truth", "difference"]) {
    [at(id).width, at(id).height] = contents.grid;
  }
  restart();
  at("play").addEventListener("click", play);
  at("step").addEventListener("click", () => queue(step));
  at("restart").addEventListener("click", () => queue(restart));
  at("field").addEventListener("change", () => queue(draw));
  at("prediction").addEventListener("click", (event) => queue(() => disturb(event)));
  for (const id of ["play", "step", "restart"]) at(id).disabled = false;
}

// One after another: a session runs once at a time, and none may change the history under it.
function queue(action) {
  pending = pending.then(action).catch(fail);
  return pending;
}

const inside = (i) => !arrays.valid || arrays.valid[i] > 0;
const cells = () => contents.grid[0] * contents.grid[1];
const state = () => history.subarray(history.length - contents.fields.length * cells());

function restart() {
  history = arrays.history.slice();
  [steps, disturbed, milliseconds] = [0, false, 0];
  draw();
}

// One step of the model; the oldest state of the history goes.
async function step() {
  const feeds = {
    fields: new ort.Tensor("float32", history, [1, ...contents.arrays.history]),
  };
  for (const name of ["constants", "scalars"]) {
    if (session.inputNames.includes(name)) {
      feeds[name] = new ort.Tensor("float32", arrays[name], [1, ...contents.arrays[name]]);
    }
  }
  const began = performance.now();
  const next = (await session.run(feeds)).next_state.data;
  milliseconds = performance.now() - began;
  const moved = new Float32Array(history.length);
  moved.set(history.subarray(next.length));
  moved.set(next, history.length - next.length);
  history = moved;
  // As in a rollout of the package, nothing goes on outside the domain.
  const now = state();
  for (let i = 0; i < now.length; i++) if (!inside(i % cells())) now[i] = 0;
  steps += 1;
  draw();
}

// The truth of the present step, or null beyond its end, before the first and after a bump.
function truth() {
  const size = contents.fields.length * cells();
  if (disturbed || steps < 1 || steps > contents.arrays.truth[0]) return null;
  return arrays.truth.subarray((steps - 1) * size, steps * size);
}

// Root mean square error over the truth's standard deviation, mean over fields.
function vrmse(prediction, true_) {
  let sum = 0;
  for (let c = 0; c < contents.fields.length; c++) {
    let [n, error, mean, square] = [0, 0, 0, 0];
    for (let i = 0; i < cells(); i++) {
      if (!inside(i)) continue;
      const [p, t] = [prediction[c * cells() + i], true_[c * cells() + i]];
      n += 1;
      error += (p - t) ** 2;
      mean += t;
      square += t * t;
    }
    const variance = (square - mean ** 2 / n) / (n - 1);
    sum += Math.sqrt(error / n / (variance + EPSILON));
  }
  return sum / contents.fields.length;
}

// Values of one field, x to the right and y upwards.
function paint(id, values, [low, high], colours) {
  const [nx, ny] = contents.grid;
  const context = at(id).getContext("2d");
  const image = context.createImageData(nx, ny);
  for (let x = 0; x < nx; x++) {
    for (let y = 0; y < ny; y++) {
      const share = (values[x * ny + y] - low) / (high - low || 1);
      const code = Math.max(0, Math.min(255, Math.round(255 * share)));
      const known = inside(x * ny + y) && Number.isFinite(share);
      const colour = known ? colours[code] : [128, 128, 128];
      image.data.set([...colour, 255], 4 * ((ny - 1 - y) * nx + x));
    }
  }
  context.putImageData(image, 0, 0);
}

function draw() {
  const chosen = Number(at("field").value);
  const field = contents.fields[chosen];
  const of = (states) => states.subarray(chosen * cells(), (chosen + 1) * cells());
  const [now, true_] = [state(), truth()];
  paint("prediction", of(now), field.range, field.colours);
  const largest = 0.25 * (field.range[1] - field.range[0]);
  at("difference-caption").textContent = `difference, 0 to ${largest.toPrecision(2)}`;
  for (const id of ["truth", "difference"]) {
    at(id).style.visibility = true_ ? "visible" : "hidden";
  }
  let said = `step ${steps}`;
  if (true_) {
    paint("truth", of(true_), field.range, field.colours);
    const difference = of(now).map((p, i) => Math.abs(p - of(true_)[i]));
    paint("difference", difference, [0, largest], contents.error_colours);
    const score = vrmse(now, true_);
    said += `; VRMSE ${score.toPrecision(3)} (0 is perfect, 1 predicts the mean)`;
    document.body.dataset.vrmse = score;
  } else if (disturbed) {
    said += "; with a bump that the solver does not know: no truth";
  } else if (steps > contents.arrays.truth[0]) {
    said += "; beyond the end of the data: no truth";
  }
  if (steps) said += `; ${milliseconds.toFixed(0)} ms a step`;
  at("state").textContent = said;
  at("about").textContent = `A neural emulator of ${contents.parameters.toLocaleString("en")} parameters, computed on this device.`;
  document.body.dataset.steps = steps;
}

// A bump of two standard deviations in the field that is shown, in all states of the history.
function disturb(event) {
  const [nx, ny] = contents.grid;
  const box = at("prediction").getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * nx;
  const y = (1 - (event.clientY - box.top) / box.height) * ny;
  const chosen = Number(at("field").value);
  const height = 2 * contents.fields[chosen].std;
  for (let frame = 0; frame < contents.arrays.history[0]; frame++) {
    const first = (frame * contents.fields.length + chosen) * cells();
    for (let i = 0; i < nx; i++) {
      for (let j = 0; j < ny; j++) {
        if (!inside(i * ny + j)) continue;
        const square = (i + 0.5 - x) ** 2 + (j + 0.5 - y) ** 2;
        history[first + i * ny + j] += height * Math.exp(-square / 8);
      }
    }
  }
  disturbed = true;
  draw();
}

async function play() {
  setPlaying(!playing);
  if (looping) return;
  looping = true;
  while (playing) {
    await queue(step);
    await new Promise(requestAnimationFrame);
  }
  looping = false;
}

function setPlaying(value) {
  playing = value;
  at("play").textContent = playing ? "Pause" : "Play";
}

function fail(error) {
  setPlaying(false);
  at("error").textContent = `${error.message ?? error}`;
}

load().catch(fail);
