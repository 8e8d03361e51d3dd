// The viewer: three linked panes (fixed, moved, overlay) of one pair and method of pairs.json, drawn by NiiVue.
// Positions are LPS, as everywhere in CohortMorph; NiiVue's are RAS, and are turned where they come in and go out.

import { Displacement, Grid, colourOfJacobian, turned } from "./displacement.js";

const { Niivue, NVImage, SLICE_TYPE } = window.niivue;
const element = (id) => document.getElementById(id);

const PLANES = {
  // How the arrow keys move the cross-hair: along which axis (R, A, S) and in which direction, as the patient is seen
  // from the feet (axial) or from the front (coronal): the patient's left is on the right.
  axial: { type: SLICE_TYPE.AXIAL, right: [-1, 0, 0], up: [0, 1, 0], through: [0, 0, 1] },
  coronal: { type: SLICE_TYPE.CORONAL, right: [-1, 0, 0], up: [0, 0, 1], through: [0, 1, 0] },
  sagittal: { type: SLICE_TYPE.SAGITTAL, right: [0, 1, 0], up: [0, 0, 1], through: [1, 0, 0] },
  all: { type: SLICE_TYPE.MULTIPLANAR, right: [-1, 0, 0], up: [0, 1, 0], through: [0, 0, 1] },
};
const AXES = { 0: [0, 1, 2], 1: [0, 2, 1], 2: [1, 2, 0] }; // of NiiVue's slices: across, up, through
const FIXED_LANDMARK = "#56B4E9";
const MOVING_LANDMARK = "#F0E442";
const BALL_MM = 4;

const state = {
  measures: [],
  pairs: [],
  pair: 0,
  method: 0,
  layer: "moved",
  plane: "all",
  opacity: {}, // percent, by layer
  landmarks: false,
  marks: [],
  turn: 0, // counts what was asked for: an answer to an older question is dropped
  grid: null,
  displacement: null,
  determinant: null,
};
const panes = {};

class Trouble extends Error {}

// Files ----------------------------------------------------------------------------------------------------------

const nameOf = (path) => path.replace(/^\.\.\//, "results/");

/** Return the bytes of a file; a Trouble names the file and says what to do. */
async function bytesOf(path) {
  const name = nameOf(path);
  let response;
  try {
    response = await fetch(path);
    if (response.ok) return await response.arrayBuffer();
  } catch {
    throw new Trouble(`${name} could not be read: the server does not answer. Start “make view” again, and open the address that it says.`);
  }
  throw new Trouble(`${name} is missing. Make it again with “snakemake ${name}”, or choose another method or pair.`);
}

/** Return a file as a volume of NiiVue. */
async function volumeOf(path, window, colormap) {
  const buffer = await bytesOf(path);
  const [cal_min, cal_max] = window ?? [NaN, NaN];
  try {
    return await NVImage.loadFromUrl({ url: buffer, name: path, colormap, cal_min, cal_max });
  } catch (error) {
    const name = nameOf(path);
    throw new Trouble(`${name} is damaged (${error.message ?? error}). Delete it, and make it again with “snakemake ${name}”.`);
  }
}

/** Return the displacement of the pair and method that is shown. */
async function displacementOf(method, grid) {
  const name = nameOf(method.displacement);
  try {
    return await Displacement.read(await bytesOf(method.displacement), grid);
  } catch (error) {
    if (error instanceof Trouble) throw error;
    throw new Trouble(`${name}: ${error.message}. Delete it, and make it again with “snakemake ${name}”.`);
  }
}

// What is shown --------------------------------------------------------------------------------------------------

const pairShown = () => state.pairs[state.pair];
const methodShown = () => pairShown().methods[state.method];

function say(text, trouble = false) {
  element("message").textContent = text;
  element("message").className = trouble ? "trouble" : "";
}

/** Put volumes into a pane in the place of those that it has. */
function fill(name, volumes) {
  const pane = panes[name];
  pane.volumes = [];
  for (const volume of volumes) pane.addVolume(volume);
  element(name).parentElement.classList.toggle("empty", !volumes.length);
}

/** Show the chosen pair and method; `newPair` puts the cross-hair into the middle. */
async function show(newPair = false) {
  const turn = ++state.turn;
  const [pair, method] = [pairShown(), methodShown()];
  drawTables();
  element("fixed-title").textContent = `Fixed: ${pair.fixed.name}`;
  element("moved-title").textContent = `Moved: ${pair.moving.name}, by ${method.label}`;
  element("overlay-title").textContent =
    state.layer === "moved" ? `Overlay: ${pair.moving.name} on ${pair.fixed.name}` : `Volume change on ${pair.fixed.name}`;
  element("jacobian-legend").hidden = state.layer !== "jacobian";
  element("landmark-legend").hidden = !state.landmarks;
  say("Reading …");
  document.body.dataset.shown = "";
  const troubles = [];
  const attempt = async (promise) => {
    try {
      return await promise;
    } catch (error) {
      if (!(error instanceof Trouble)) throw error;
      troubles.push(error.message);
      return null;
    }
  };
  const fixed = await attempt(volumeOf(pair.fixed.file, pair.fixed.window, "gray"));
  const failed = method.failed !== null;
  const moved = failed ? null : await attempt(volumeOf(method.moved, pair.moving.window, "gray"));
  const grid = fixed && new Grid(fixed.hdr.dims.slice(1, 4), fixed.hdr.affine);
  const needed = grid && !failed && (state.layer === "jacobian" || state.landmarks);
  let displacement = needed ? await attempt(displacementOf(method, grid)) : null;
  if (displacement?.failed) displacement = null;
  const determinant = displacement && state.layer === "jacobian" ? displacement.jacobian() : null;
  let over = null;
  if (state.layer === "moved" && moved) {
    over = moved.clone();
    over.colormap = "inferno";
  } else if (determinant) {
    const painted = displacement.painted(determinant, colourOfJacobian);
    over = await NVImage.loadFromUrl({ url: painted, name: "jacobian.nii" });
  }
  if (turn !== state.turn) return;
  Object.assign(state, { grid, displacement, determinant });
  if (over) over.opacity = state.opacity[state.layer] / 100;
  fill("fixed", fixed ? [fixed] : []);
  fill("moved", moved ? [moved] : []);
  fill("overlay", fixed ? [fixed.clone(), ...(over ? [over] : [])] : []);
  if (newPair) for (const pane of Object.values(panes)) pane.scene.crosshairPos = [0.5, 0.5, 0.5];
  placeLandmarks();
  if (failed) troubles.unshift(`${method.label} failed on this pair, so there is nothing to show: ${method.failed}`);
  if (state.landmarks && !pair.landmarks) troubles.push("The images of this pair have no landmarks.");
  say(troubles.join("\n"), troubles.length > 0);
  readOut();
  document.body.dataset.shown = `${pair.pair} ${method.method} ${state.layer}`;
}

/** Find where the landmarks are to be drawn, and say how far apart those of a pair are. */
function placeLandmarks() {
  const points = pairShown().landmarks;
  state.marks = [];
  element("landmark-errors").textContent = "";
  if (state.landmarks && points && state.grid) {
    state.marks = points.fixed_lps_mm.map((fixed, n) => ({
      fixed: turned(fixed),
      moving: state.displacement && optional(turned, state.displacement.whereAppears(points.moving_lps_mm[n], fixed)),
    }));
    if (state.displacement) element("landmark-errors").textContent = summaryOf(errorsOfLandmarks(points, state.displacement));
  }
  for (const pane of Object.values(panes)) pane.drawScene();
}

const optional = (change, value) => value && change(value);

/** Say in words how large the errors of landmarks (mm; null outside of the grid) are. */
function summaryOf(errors) {
  const inside = errors.filter((error) => error !== null);
  const outside = errors.length - inside.length;
  const mean = inside.reduce((sum, error) => sum + error, 0) / inside.length;
  const largest = inside.reduce((most, error) => Math.max(most, error), 0);
  return (
    (inside.length ? ` · error ${mean.toFixed(2)} mm (mean of ${inside.length}), at most ${largest.toFixed(2)} mm` : "") +
    (outside ? ` · ${outside} outside of the fixed image` : "")
  );
}

/** Draw the landmarks near the slices of a pane as balls that these cut: a ring is fixed, a cross moving. */
function drawMarks(name) {
  const pane = panes[name];
  const canvas = element(`${name}-marks`);
  const { width, height } = element(name);
  Object.assign(canvas, { width, height });
  if (!pane.volumes.length) return;
  const draw = canvas.getContext("2d");
  // NiiVue lays out slices in millimetres along the image's own axes.
  const along = (point) => pane.frac2mm(pane.mm2frac(point, 0, true));
  const centre = pane.frac2mm(pane.scene.crosshairPos);
  for (const { axCorSag, leftTopMM, fovMM, leftTopWidthHeight } of pane.screenSlices) {
    if (!(axCorSag in AXES)) continue;
    const [across, up, through] = AXES[axCorSag];
    const [left, top, w, h] = leftTopWidthHeight; // a negative width is mirrored
    const pixels = Math.abs(w / fovMM[0]);
    const onScreen = (point) => {
      const mm = point && along(point);
      const squared = mm && BALL_MM ** 2 - (mm[through] - centre[through]) ** 2;
      if (!mm || squared <= 0) return null;
      const x = left + ((mm[across] - leftTopMM[0]) / fovMM[0]) * w;
      const y = top + (1 - (mm[up] - leftTopMM[1]) / fovMM[1]) * h;
      return { x, y, radius: Math.max(2, Math.sqrt(squared) * pixels) };
    };
    for (const mark of state.marks) {
      const fixed = onScreen(mark.fixed);
      const moving = name === "fixed" ? null : onScreen(mark.moving);
      const path = new Path2D();
      if (fixed) path.arc(fixed.x, fixed.y, fixed.radius, 0, 2 * Math.PI);
      stroke(draw, path, FIXED_LANDMARK);
      const cross = new Path2D();
      if (moving) {
        const arm = 0.8 * moving.radius;
        for (const sign of [-1, 1]) {
          cross.moveTo(moving.x - arm, moving.y - sign * arm);
          cross.lineTo(moving.x + arm, moving.y + sign * arm);
        }
      }
      stroke(draw, cross, MOVING_LANDMARK);
    }
  }
}

/** Draw a line in a colour, on a darker one, so that it shows on everything. */
function stroke(draw, path, colour) {
  const ratio = window.devicePixelRatio || 1;
  for (const [style, width] of [["rgba(0, 0, 0, 0.75)", 4], [colour, 2]]) {
    Object.assign(draw, { strokeStyle: style, lineWidth: width * ratio });
    draw.stroke(path);
  }
}

/** Return each landmark's error (mm), null where the fixed one lies outside of the grid. */
function errorsOfLandmarks(points, displacement) {
  return points.fixed_lps_mm.map((point, n) => {
    const moved = displacement.move(point);
    return moved && Math.hypot(...moved.map((value, c) => value - points.moving_lps_mm[n][c]));
  });
}

/** Say where the cross-hair is, and what is there. */
function readOut() {
  const pane = panes.fixed;
  if (!state.grid || !pane.volumes.length) {
    element("position").textContent = element("values").textContent = "";
    return;
  }
  const point = turned(pane.frac2mm(pane.scene.crosshairPos, 0, true));
  const index = state.grid.toIndex(point).map(Math.round);
  const sides = [["left", "right"], ["posterior", "anterior"], ["superior", "inferior"]];
  const told = point.map((value, c) => `${"xyz"[c]} ${value.toFixed(1)} (${sides[c][value < 0 ? 1 : 0]})`);
  element("position").textContent = `Fixed point, LPS in mm: ${told.join(" · ")} · voxel (${index.join(", ")})`;
  const valueIn = (volume) => volume && volume.getValue(...volume.mm2vox(turned(point)));
  const numbers = [
    ["fixed", valueIn(pane.volumes[0])],
    ["moved", valueIn(panes.moved.volumes[0])],
    ["volume ×", state.determinant?.[index[0] + state.grid.size[0] * (index[1] + state.grid.size[1] * index[2])]],
  ];
  const texts = numbers.filter(([, value]) => value !== undefined).map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`);
  const moved = state.displacement?.move(point);
  if (moved) texts.push(`moving point, LPS in mm: ${moved.map((value, c) => `${"xyz"[c]} ${value.toFixed(1)}`).join(" · ")}`);
  element("values").textContent = texts.join(" · ");
}

// Tables ---------------------------------------------------------------------------------------------------------

/** Draw a table whose rows are chosen by their first cell. */
function drawTable(id, columns, rows, chosen, choose) {
  const [head, body] = [element(id).tHead, element(id).tBodies[0]];
  const focused = body.contains(document.activeElement);
  const line = document.createElement("tr");
  for (const column of columns) line.append(Object.assign(document.createElement("th"), { textContent: column, scope: "col" }));
  head.replaceChildren(line);
  body.replaceChildren(
    ...rows.map((cells, n) => {
      const row = document.createElement("tr");
      row.setAttribute("aria-selected", String(n === chosen));
      const button = Object.assign(document.createElement("button"), { textContent: cells[0], type: "button" });
      button.addEventListener("click", () => choose(n));
      row.append(document.createElement("td"));
      row.firstChild.append(button);
      for (const cell of cells.slice(1)) {
        const className = cell === "failed" ? "failed" : "";
        row.append(Object.assign(document.createElement("td"), { textContent: cell, className }));
      }
      return row;
    }),
  );
  const row = body.rows[chosen];
  row?.scrollIntoView({ block: "nearest" });
  if (focused) row?.querySelector("button").focus();
}

// Write a method's value of a measure of pairs.json; a little is not none.
function written(method, measure) {
  const value = method?.values[measure.metric];
  if (value === undefined) return "–";
  const text = value.toFixed(measure.decimals);
  return value !== 0 && Number(text) === 0 ? String(Number(value.toPrecision(2))) : text;
}

function drawTables() {
  const measured = (measure) => state.pairs.some((pair) => pair.methods.some((method) => measure.metric in method.values));
  const columns = state.measures.filter(measured);
  const first = columns[0] ?? state.measures[0];
  const name = methodShown().method;
  drawTable(
    "pairs",
    ["pair", "split", `${first.label}, ${methodShown().label}`],
    state.pairs.map((pair) => {
      const method = pair.methods.find((one) => one.method === name);
      return [pair.pair.replace("_to_", " → "), pair.split, method?.failed ? "failed" : written(method, first)];
    }),
    state.pair,
    choosePair,
  );
  drawTable(
    "methods",
    ["method", ...columns.map((measure) => measure.label)],
    pairShown().methods.map((method) => [
      method.label + (method.best ? " ★" : method.selected ? " ☆" : ""),
      ...columns.map((measure, n) => (method.failed ? (n ? "" : "failed") : written(method, measure))),
    ]),
    state.method,
    chooseMethod,
  );
  element("star").hidden = !pairShown().methods.some((method) => method.best);
  element("other-stars").hidden = !pairShown().methods.some((method) => method.selected && !method.best);
}

function choosePair(n) {
  const name = methodShown().method;
  state.pair = (n + state.pairs.length) % state.pairs.length;
  state.method = Math.max(0, pairShown().methods.findIndex((method) => method.method === name));
  return show(true);
}

function chooseMethod(n) {
  const count = pairShown().methods.length;
  state.method = (n + count) % count;
  return show();
}

function chooseLayer(layer) {
  state.layer = element("layer").value = layer;
  setOpacity(state.opacity[layer]);
  return show();
}

function choosePlane(plane) {
  state.plane = element("plane").value = plane;
  for (const pane of Object.values(panes)) pane.setSliceType(PLANES[plane].type);
}

function chooseLandmarks(shown) {
  state.landmarks = element("landmarks").checked = shown;
  return show();
}

function setOpacity(percent) {
  percent = Math.min(Math.max(percent, 0), 100);
  state.opacity[state.layer] = percent;
  element("opacity").value = percent;
  element("percent").textContent = `${percent} %`;
  if (panes.overlay.volumes.length > 1) panes.overlay.setOpacity(1, percent / 100);
}

/** Show everything as at the start: the first pair, and the best of the selected networks or else the affine. */
function reset() {
  Object.assign(state, { pair: 0, layer: "moved", landmarks: false, opacity: { jacobian: 70, moved: 50 } });
  const { methods } = pairShown();
  const first = [(method) => method.best, (method) => method.method === "affine"];
  state.method = first.map((wanted) => methods.findIndex(wanted)).find((n) => n >= 0) ?? 0;
  element("landmarks").checked = false;
  element("layer").value = state.layer;
  choosePlane("all");
  setOpacity(state.opacity.moved);
  for (const pane of Object.values(panes)) pane.setPan2Dxyzmm([0, 0, 0, 1]);
  return show(true);
}

// Keys and mouse -------------------------------------------------------------------------------------------------

/** Move the cross-hair of all panes by voxels along right, anterior and superior. */
function step(direction, sign) {
  const pane = Object.values(panes).find((one) => one.volumes.length);
  if (!pane) return;
  pane.moveCrosshairInVox(...direction.map((value) => sign * value));
  for (const other of Object.values(panes)) {
    other.scene.crosshairPos = [...pane.scene.crosshairPos];
    other.drawScene();
  }
  readOut();
}

const plane = () => PLANES[state.plane];
const KEYS = {
  m: () => chooseMethod(state.method + 1),
  M: () => chooseMethod(state.method - 1),
  p: () => choosePair(state.pair + 1),
  P: () => choosePair(state.pair - 1),
  j: () => chooseLayer(state.layer === "moved" ? "jacobian" : "moved"),
  l: () => chooseLandmarks(!state.landmarks),
  o: () => setOpacity(state.opacity[state.layer] < 100 ? 100 : 0),
  "+": () => setOpacity(state.opacity[state.layer] + 10),
  "-": () => setOpacity(state.opacity[state.layer] - 10),
  r: reset,
  1: () => choosePlane("axial"),
  2: () => choosePlane("coronal"),
  3: () => choosePlane("sagittal"),
  4: () => choosePlane("all"),
  ArrowRight: () => step(plane().right, 1),
  ArrowLeft: () => step(plane().right, -1),
  ArrowUp: () => step(plane().up, 1),
  ArrowDown: () => step(plane().up, -1),
  PageUp: () => step(plane().through, 1),
  PageDown: () => step(plane().through, -1),
};

function onKey(event) {
  const inCanvas = event.target instanceof HTMLCanvasElement;
  if (inCanvas && event.key !== "Tab") event.stopImmediatePropagation(); // NiiVue has keys of its own
  if (event.type !== "keydown" || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target instanceof HTMLSelectElement || event.target.type === "range") return;
  const action = KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

// Start ----------------------------------------------------------------------------------------------------------

async function start() {
  for (const id of ["fixed", "moved", "overlay"]) {
    const pane = new Niivue({
      isRadiologicalConvention: true, sliceType: PLANES[state.plane].type, backColor: [0, 0, 0, 1], loadingText: "",
      crosshairColor: [0.9, 0.62, 0, 0.8], crosshairWidth: 1, crosshairWidthUnit: "screenPixels", crosshairGap: 12,
      dragAndDropEnabled: false, isCornerOrientationText: true, fontColor: [0.85, 0.85, 0.85, 1],
      multiplanarShowRender: 0, logLevel: "error",
    });
    await pane.attachTo(id);
    pane.onLocationChange = readOut;
    panes[id] = pane;
    const drawScene = pane.drawScene.bind(pane);
    pane.drawScene = () => {
      drawScene();
      drawMarks(id);
    };
  }
  // A pane tells the others where its cross-hair is while it has the focus, which the mouse gives it.
  for (const pane of Object.values(panes)) pane.broadcastTo(Object.values(panes).filter((other) => other !== pane), { "2d": true });
  element("plane").addEventListener("change", (event) => choosePlane(event.target.value));
  element("layer").addEventListener("change", (event) => chooseLayer(event.target.value));
  element("opacity").addEventListener("input", (event) => setOpacity(Number(event.target.value)));
  element("landmarks").addEventListener("change", (event) => chooseLandmarks(event.target.checked));
  for (const kind of ["keydown", "keyup"]) document.addEventListener(kind, onKey, { capture: true });
  const table = JSON.parse(new TextDecoder().decode(await bytesOf("pairs.json")));
  element("phantom").hidden = !table.phantom;
  state.measures = table.measures;
  state.pairs = table.pairs;
  if (!state.pairs.length) throw new Trouble("There is no pair to show: only validation and test pairs are registered by every method.");
  await reset();
}

window.viewer = { state, panes, errorsOfLandmarks };
start().catch((error) => {
  say(error instanceof Trouble ? error.message : `The viewer stopped: ${error.message}`, true);
  throw error;
});
