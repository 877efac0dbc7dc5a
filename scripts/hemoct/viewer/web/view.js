// The viewer: one scan in NiiVue, the chart of its slices, lists of patients and mistakes. All text goes in as text.
import { Lists } from "./lists.js";

const PLANES = { axial: 0, coronal: 1, sagittal: 2, multi: 3 }; // as NiiVue numbers them
const ACROSS = { axial: 2, coronal: 1, sagittal: 0 }; // the axis of a volume that a plane is moved along
const PRESETS = {
  hu: { brain: [40, 80], subdural: [80, 200], stroke: [40, 40], bone: [600, 2800] },
  grey: { all: [128, 256], dark: [64, 128], narrow: [100, 100], bright: [190, 130] },
};
const RANGES = { hu: [-1000, 3000, 1, 4000], grey: [0, 255, 1, 256] }; // of level, of width
const TRUTH = [0, 210, 165], PREDICTION = [255, 170, 30], CORE = [235, 80, 235];
const EDGE = 250; // from here on a layer holds lines: outlines, frames of boxes
const $ = (id) => document.getElementById(id);

const state = { case: -1, slice: 0, plane: "axial", about: null, predicted: [], asked: 0, settled: null };
let index, lists, viewer, values, ready;

async function ask(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

function trouble(error) {
  $("busy").hidden = true;
  $("trouble").hidden = false;
  $("trouble").textContent = error.message || String(error);
}

function make(kind, text, of = {}) {
  const made = document.createElement(kind);
  if (text !== undefined) made.textContent = text;
  for (const [name, value] of Object.entries(of)) made.setAttribute(name, value);
  return made;
}

// ---- what lies over the slices

function colours([red, green, blue], least) {
  const from = Math.min(Math.max(least, 2), EDGE - 3);
  const points = [0, from - 1, from, EDGE - 1, EDGE, 255];
  return { R: points.map(() => red), G: points.map(() => green), B: points.map(() => blue), A: [0, 0, 25, 100, 255, 255], I: points };
}

function chosen(task) {
  const select = $(`task-${task}`);
  return select && select.value !== "" ? Number(select.value) : null;
}

function layers(number) {
  const from = `case/${number}/`;
  const found = [{ url: `${from}grey.nii.gz`, colormap: "gray", cal_min: low(), cal_max: high() }];
  const layer = (url, colormap, kind) => found.push({ url: from + url, colormap, opacity: opacity(kind), cal_min: 0, cal_max: 255, kind });
  for (const kind of index.layers ?? []) layer(`${kind}.nii.gz`, kind, kind);
  const [boxes, masks] = [chosen(2), chosen(3)];
  if (index.kind === "dataset" && (boxes !== null || masks !== null)) {
    layer(`prediction-${boxes ?? "x"}-${masks ?? "x"}.nii.gz`, "prediction", "prediction");
  }
  if (index.truth) layer("truth.nii.gz", "truth", "truth"); // on top
  return found;
}

const opacity = (kind) => ($(kind).checked ? Number($(`${kind}-opacity`).value) / 100 : 0);
const low = () => Number($("level").value) - Number($("width").value) / 2;
const high = () => Number($("level").value) + Number($("width").value) / 2;
const least = () => Math.round(Number($("least").value) * 2.55);

let waiting = null; // redrawing a volume takes long without a graphics card: of many changes only the last is drawn
function redraw(change) {
  change();
  if (waiting) cancelAnimationFrame(waiting);
  waiting = requestAnimationFrame(() => { waiting = null; viewer.updateGLVolume(); });
}

function applyWindow() {
  $("level-value").textContent = $("level").value;
  $("width-value").textContent = $("width").value;
  for (const button of $("presets").children) {
    const [level, width] = values[button.textContent];
    button.setAttribute("aria-pressed", String(level === Number($("level").value) && width === Number($("width").value)));
  }
  if (viewer.volumes.length) redraw(() => { viewer.volumes[0].cal_min = low(); viewer.volumes[0].cal_max = high(); });
}

function setWindow(level, width) {
  $("level").value = level;
  $("width").value = width;
  applyWindow();
}

function applyOverlays() {
  $("least-value").textContent = `${$("least").value} %`;
  redraw(() => {
    viewer.addColormap("prediction", colours(PREDICTION, least()));
    for (const volume of viewer.volumes.slice(1)) volume.opacity = opacity(volume.colormap);
    for (const volume of viewer.volumes.slice(1)) volume.colormap = volume.colormap; // takes the new colours
  });
}

// NiiVue computes gradients for the light of 3D renderings, which are not shown here: without a graphics card they take nearly all
// the time. Their shaders draw nothing.
function withoutLight() {
  const { gl } = viewer, refresh = viewer.refreshLayers.bind(viewer);
  for (const shader of [viewer.blurShader, viewer.sobelFirstOrderShader]) {
    const use = shader.use.bind(shader);
    shader.use = (of) => { use(of); of.enable(of.RASTERIZER_DISCARD); };
  }
  viewer.refreshLayers = (...of) => {
    try { refresh(...of); } finally { gl.disable(gl.RASTERIZER_DISCARD); }
  };
}

// ---- where we are

function count(axis) {
  return viewer.volumes.length ? viewer.volumes[0].dimsRAS[axis + 1] : 1;
}

function place(axis) {
  return Math.min(count(axis) - 1, Math.max(0, Math.floor(viewer.scene.crosshairPos[axis] * count(axis))));
}

function put(axis, number) {
  const at = Array.from(viewer.scene.crosshairPos);
  at[axis] = (Math.min(count(axis) - 1, Math.max(0, number)) + 0.5) / count(axis);
  viewer.scene.crosshairPos = at;
  viewer.drawScene();
  follow();
}

function follow() { // the slice after the cross
  if (!state.about || !viewer.volumes.length) return;
  const along = place(state.about.axis);
  state.slice = state.about.turned ? state.about.names.length - 1 - along : along;
  say();
}

function toSlice(number) {
  const slice = Math.min(state.about.names.length - 1, Math.max(0, number));
  put(state.about.axis, state.about.turned ? state.about.names.length - 1 - slice : slice);
}

function step(by) {
  if (!state.about) return;
  const axis = ACROSS[state.plane] ?? state.about.axis;
  if (axis === state.about.axis) toSlice(state.slice + by);
  else put(axis, place(axis) + by);
}

function setPlane(plane) {
  state.plane = plane;
  for (const button of $("planes").children) button.setAttribute("aria-pressed", String(button.dataset.plane === plane));
  viewer.setCrosshairWidth(plane === "multi" ? 1 : 0);
  viewer.setSliceType(PLANES[plane]);
  if (state.about) say();
}

// ---- what is said of a slice

function wrong(labels) {
  return labels.some(([, , , called, truth]) => truth !== null && Boolean(truth) !== called);
}

function say() {
  const { names, truth } = state.about, slice = state.slice;
  const parts = [make("b", `slice ${slice + 1} of ${names.length}`), make("span", names[slice])];
  const axis = ACROSS[state.plane];
  if (axis !== undefined && axis !== state.about.axis) parts.unshift(make("b", `${state.plane} ${place(axis) + 1} of ${count(axis)}`));
  if (truth) parts.push(make("span", `truth: ${truth[slice].join(", ") || "none"}`));
  for (const of of state.predicted) {
    const found = of[slice];
    if (!found) continue;
    const words = found.labels.map(([name, p, , called]) => `${name} ${p.toFixed(2)}${called ? " yes" : " no"}`);
    if (words.length) parts.push(make("span", words.join(", "), wrong(found.labels) ? { class: "wrong" } : {}));
    if (found.words) parts.push(make("span", found.words));
  }
  $("caption").replaceChildren(...parts);
  $("canvas").setAttribute("aria-label", $("caption").textContent);
  $("slider").value = slice;
  $("slider").setAttribute("aria-valuetext", $("caption").textContent);
  $("chart").querySelector(".here")?.setAttribute("x", slice);
}

function svg(kind, of) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(of)) made.setAttribute(name, value);
  return made;
}

function chart() {
  const { names, truth } = state.about, n = names.length, drawn = [], said = [];
  $("chart").setAttribute("viewBox", `0 0 ${n} 100`);
  if (truth) {
    truth.forEach((labels, slice) => labels.length && drawn.push(svg("rect", { class: "true", x: slice, y: 0, width: 1, height: 100 })));
    said.push("green: truth");
  }
  const of = state.predicted.find((one) => one.some((found) => found?.labels.length));
  if (of) {
    const labels = of.find((found) => found?.labels.length).labels;
    labels.forEach(([, , limit], number) => {
      const points = of.flatMap((found, slice) => (found ? [`${slice + 0.5},${97 - 94 * found.labels[number][1]}`] : []));
      drawn.push(svg("polyline", { class: "line", points: points.join(" ") }));
      if (limit !== null && labels.length === 1) drawn.push(svg("line", { class: "least", x1: 0, x2: n, y1: 97 - 94 * limit, y2: 97 - 94 * limit }));
    });
    of.forEach((found, slice) => found && wrong(found.labels) && drawn.push(svg("rect", { class: "wrong", x: slice, y: 92, width: 1, height: 8 })));
    said.push(`line: probability of ${labels.map(([name]) => name).join(", ")}`);
    if (labels.length === 1 && labels[0][2] !== null) said.push(`dashed: threshold ${labels[0][2].toFixed(2)}`);
    if (truth) said.push("red: wrong");
  }
  $("chart").toggleAttribute("hidden", !drawn.length);
  drawn.push(svg("rect", { class: "here", x: state.slice, y: 0, width: 1, height: 100 }));
  $("chart").replaceChildren(...drawn);
  $("chart").setAttribute("aria-label", `each of ${n} slices; ${said.join("; ")}`);
  $("legend").textContent = [...said, state.about.about].join(" · ");
  $("slider").max = n - 1;
}

// ---- a case

async function open(number, slice = null) {
  const asked = ++state.asked;
  if (number === state.case && slice !== null && state.about) { // what was asked for before is no longer wanted
    $("busy").hidden = true;
    state.settled = asked;
    return toSlice(slice);
  }
  $("busy").hidden = false;
  $("trouble").hidden = true;
  try {
    const tasks = index.tasks.map(({ task }) => [task, chosen(task)]).filter(([, experiment]) => experiment !== null);
    const [about, ...predicted] = await Promise.all(
      [`case/${number}/slices.json`, ...tasks.map(([task, one]) => `case/${number}/${task}/${one}.json`)].map(ask));
    if (asked !== state.asked) return;
    await viewer.loadVolumes(layers(number));
    if (asked !== state.asked) return;
    Object.assign(state, { case: number, about, predicted: [...predicted, ...(about.predicted ?? [])] });
    viewer.setIsOrientationTextVisible(about.sides);
    document.title = `${index.cases[number]} · ${index.title}`;
    $("title").textContent = index.cases.length > 1 ? `${index.title} · ${index.cases[number]}` : index.title;
    chart();
    toSlice(slice ?? middle(about, state.predicted));
    lists.mark(number);
    $("busy").hidden = true;
    state.settled = asked;
  } catch (error) {
    if (asked === state.asked) trouble(error);
  }
}

function middle(about, predicted) { // the slice to begin with: amid what is true, or called, or the scan
  const marked = about.names.map((_, slice) => slice).filter((slice) => about.truth?.[slice].length
    || predicted.some((one) => one[slice]?.labels.some(([, , , called]) => called)));
  return marked.length ? marked[Math.floor(marked.length / 2)] : Math.floor(about.names.length / 2);
}

// ---- the page

const KEYS = {
  ArrowUp: () => step(1), ArrowDown: () => step(-1), Home: () => toSlice(0), End: () => toSlice(state.about.names.length - 1),
  n: () => lists.next(1), p: () => lists.next(-1), t: () => $("truth").click(), r: () => $("prediction").click(),
  a: () => setPlane("axial"), c: () => setPlane("coronal"), s: () => setPlane("sagittal"), m: () => setPlane("multi"),
};

function listen() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select, input[type=range]") && event.key in { ArrowUp: 0, ArrowDown: 0, Home: 0, End: 0 }) return;
    if (event.target.matches("select")) return;
    const preset = $("presets").children[Number(event.key) - 1];
    const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key] ?? (preset && (() => preset.click()));
    if (!act || !state.about) return;
    event.preventDefault();
    act();
  });
  $("picture").addEventListener("wheel", (event) => {
    event.preventDefault();
    if (state.plane === "multi") return; // NiiVue scrolls the plane under the pointer
    event.stopPropagation();
    step(event.deltaY > 0 ? -1 : 1);
  }, { capture: true, passive: false });
  $("before").addEventListener("click", () => step(-1));
  $("after").addEventListener("click", () => step(1));
  $("slider").addEventListener("input", () => toSlice(Number($("slider").value)));
  $("chart").addEventListener("click", (event) => {
    const box = $("chart").getBoundingClientRect();
    toSlice(Math.floor(((event.clientX - box.left) / box.width) * state.about.names.length));
  });
  for (const button of $("planes").children) button.addEventListener("click", () => setPlane(button.dataset.plane));
  for (const id of ["level", "width"]) $(id).addEventListener("input", applyWindow);
  for (const id of ["truth", "prediction", "truth-opacity", "prediction-opacity", "core", "core-opacity", "least"]) $(id).addEventListener("input", applyOverlays);
}

function furnish() {
  const kind = index.hu ? "hu" : "grey", [lowest, highest, narrow, wide] = RANGES[kind];
  values = PRESETS[kind];
  Object.assign($("level"), { min: lowest, max: highest });
  Object.assign($("width"), { min: narrow, max: wide });
  for (const [name, [level, width]] of Object.entries(values)) {
    const button = make("button", name, { type: "button" });
    button.addEventListener("click", () => setWindow(level, width));
    $("presets").append(button);
  }
  setWindow(...Object.values(values)[0]);
  const drawn = index.layers?.includes("prediction") || index.tasks.some(({ task }) => task === 2 || task === 3);
  $("overlay-truth").hidden = !index.truth;
  $("overlay-prediction").hidden = !drawn;
  $("overlay-core").hidden = !index.layers?.includes("core");
  $("overlays").hidden = !index.truth && !drawn;
  $("least-row").hidden = !index.tasks.some(({ task }) => task === 3) || index.kind !== "dataset";
  $("least-value").textContent = `${$("least").value} %`;
  $("experiments").hidden = index.kind !== "dataset" || !index.tasks.length;
  for (const { task, title, experiments } of index.tasks) {
    const label = make("label", `task ${task}, ${title}`), select = make("select", undefined, { id: `task-${task}` });
    experiments.forEach((name, number) => select.append(make("option", name, { value: number })));
    select.append(make("option", "none", { value: "" }));
    select.addEventListener("change", async () => {
      const here = state.case;
      state.case = -1; // so that it is read again
      await lists.load();
      open(here, state.slice);
    });
    label.append(select);
    $("experiments").append(label);
  }
  document.querySelector("main").classList.toggle("single", index.cases.length < 2);
  $("about").open = index.kind === "scan"; // its answers
  $("research").textContent = index.research;
}

async function start() {
  if (!document.createElement("canvas").getContext("webgl2")) {
    throw new Error("This browser has no WebGL 2, which the viewer draws with: use another, or allow it in the settings.");
  }
  index = await ask("index.json");
  viewer = new niivue.Niivue({
    isRadiologicalConvention: true, sagittalNoseLeft: true, crosshairWidth: 0, crosshairWidthUnit: "mm", crosshairColor: [0.4, 0.75, 0.95, 0.7], dragMode: 9,
    multiplanarShowRender: 0, dragAndDropEnabled: false, isResizeCanvas: true, logLevel: "warn", loadingText: "", isNearestInterpolation: false,
    viewModeHotKey: "", clipPlaneHotKey: "", cycleClipPlaneHotKey: "",
  });
  await viewer.attachToCanvas($("canvas"));
  withoutLight();
  viewer.addColormap("truth", colours(TRUTH, 2));
  viewer.addColormap("prediction", colours(PREDICTION, least()));
  viewer.addColormap("core", colours(CORE, 2));
  viewer.onLocationChange = follow;
  viewer.onIntensityChange = (volume) => { // dragged with the right button
    if (volume !== viewer.volumes[0]) return;
    $("level").value = Math.round((volume.cal_max + volume.cal_min) / 2);
    $("width").value = Math.round(volume.cal_max - volume.cal_min);
    $("level-value").textContent = $("level").value;
    $("width-value").textContent = $("width").value;
  };
  furnish();
  lists = new Lists({ index, ask, chosen, make, open });
  await lists.load();
  setPlane("axial");
  listen();
  await open(lists.first());
}

ready = start().catch(trouble);
window.hemoct = { state, ready, viewer: () => viewer };
