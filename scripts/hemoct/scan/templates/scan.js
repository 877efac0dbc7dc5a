"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const get = (id) => document.getElementById(id);
const n = data.captions.length;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const canvas = get("slice");
const pictures = {};
let row = 0;
let preset = Object.keys(data.presets)[0];

/* a picture of a data address, decoded once */
function picture(address) {
  if (!pictures[address]) {
    pictures[address] = new Promise((done) => {
      const image = new Image();
      image.onload = () => done(image);
      image.src = address;
    });
  }
  return pictures[address];
}

function shows(name) {
  const box = get("show-" + name);
  return box ? box.checked : false;
}

function outline(pen, lines, stroke, scale) {
  pen.strokeStyle = stroke;
  for (const line of lines) {
    pen.beginPath();
    for (let i = 0; i < line.length; i += 2) pen.lineTo(line[i] * scale, line[i + 1] * scale);
    pen.closePath();
    pen.stroke();
  }
}

/* a slice and what was found on it, `width` px wide; bare: the slice alone */
async function draw(target, number, width, bare) {
  const asked = (target.asked = (target.asked || 0) + 1);
  const scale = width / data.width;
  const height = Math.round(data.height * scale);
  const slice = await picture(data.presets[preset][number]);
  const heat = !bare && shows("heat") && data.heat[number] ? await picture(data.heat[number]) : null;
  if (target.asked !== asked) return; // a later call was quicker: its slice was decoded already
  target.width = width;
  target.height = height;
  target.style.aspectRatio = width + " / " + height * data.tall;
  const pen = target.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(slice, 0, 0, width, height);
  if (heat) {
    pen.globalAlpha = 0.65;
    pen.drawImage(heat, 0, 0, width, height);
    pen.globalAlpha = 1;
  }
  if (bare) return;
  pen.lineWidth = Math.max(1.5, width / 320);
  for (const name of ["edema", "core"]) if (shows(name)) outline(pen, data[name][number], colour(name), scale);
  if (shows("boxes")) {
    pen.strokeStyle = pen.fillStyle = colour("box");
    pen.font = Math.max(11, width / 42) + "px sans-serif";
    for (const [left, top, right, bottom, confidence] of data.boxes[number]) {
      pen.strokeRect(left * scale, top * scale, (right - left) * scale, (bottom - top) * scale);
      pen.fillText(confidence.toFixed(2), left * scale, Math.max(12, top * scale - 4));
    }
  }
}

function wide() {
  return Math.max(256, Math.round(canvas.clientWidth * (window.devicePixelRatio || 1)));
}

async function show(number) {
  row = Math.min(n - 1, Math.max(0, number));
  get("number").value = row + 1;
  get("caption").textContent = data.captions[row];
  canvas.setAttribute("aria-label", data.captions[row]);
  const here = get("here");
  if (here) for (const name of ["x1", "x2"]) here.setAttribute(name, row + 0.5);
  for (const [place, button] of [...get("strip").children].entries()) button.setAttribute("aria-selected", place === row);
  const chosen = get("strip").children[row];
  if (chosen) get("strip").scrollLeft = chosen.offsetLeft - get("strip").offsetLeft - get("strip").clientWidth / 2 + 32;
  await draw(canvas, row, wide(), false);
}

/* thumbnails are drawn when they come into view: a thin-slice scan has hundreds */
function strip() {
  const watch = new IntersectionObserver((seen) => {
    for (const one of seen) {
      if (!one.isIntersecting) continue;
      watch.unobserve(one.target);
      draw(one.target.firstChild, Number(one.target.dataset.slice), 64, true);
    }
  });
  for (let number = 0; number < n; number++) {
    const button = document.createElement("button");
    const small = document.createElement("canvas");
    small.width = 64;
    small.height = Math.round((64 * data.height * data.tall) / data.width);
    button.type = "button";
    button.dataset.slice = number;
    button.setAttribute("role", "option");
    button.setAttribute("aria-label", data.captions[number]);
    button.className = data.called[number] ? "called" : "";
    button.append(small, String(number + 1));
    button.addEventListener("click", () => show(number));
    get("strip").append(button);
    watch.observe(button);
  }
}

/* the eight slices that matter most, which are printed too */
function first() {
  const found = (name, number) => (data[name].length ? data[name][number].length : 0);
  const weight = (number) => (data.probability[number] || 0) + 0.01 * found("boxes", number) + 0.01 * found("edema", number);
  const order = [...Array(n).keys()].sort((a, b) => weight(b) - weight(a)).slice(0, 8).sort((a, b) => a - b);
  get("key").replaceChildren();
  for (const number of order) {
    const figure = document.createElement("figure");
    const drawn = document.createElement("canvas");
    const caption = document.createElement("figcaption");
    drawn.setAttribute("role", "img");
    drawn.setAttribute("aria-label", data.captions[number]);
    caption.textContent = data.captions[number];
    figure.append(drawn, caption);
    drawn.addEventListener("click", () => { show(number); canvas.scrollIntoView({ block: "center" }); });
    get("key").append(figure);
    draw(drawn, number, 360, false);
  }
  return order;
}

function again() {
  show(row);
  first();
}

const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 5, PageUp: -5 };
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.type === "range") return;
  const layer = get("show-" + ["boxes", "edema", "core", "heat"][Number(event.key) - 1]);
  const look = [...document.querySelectorAll("[name=preset]")].find((one) => one.dataset.key === event.key);
  if (event.key in steps) show(row + steps[event.key]);
  else if (event.key === "Home") show(0);
  else if (event.key === "End") show(n - 1);
  else if (layer) layer.click();
  else if (look) look.click();
  else return;
  event.preventDefault();
});
canvas.addEventListener("wheel", (event) => { event.preventDefault(); show(row + Math.sign(event.deltaY)); }, { passive: false });
get("number").addEventListener("input", (event) => show(Number(event.target.value) - 1));
get("back").addEventListener("click", () => show(row - 1));
get("on").addEventListener("click", () => show(row + 1));
for (const box of document.querySelectorAll("fieldset input")) {
  box.addEventListener("change", () => {
    if (box.name === "preset") preset = box.value;
    again();
  });
}
if (get("curve")) {
  get("curve").addEventListener("click", (event) => {
    const place = get("curve").getBoundingClientRect();
    show(Math.floor(((event.clientX - place.left) / place.width) * n));
  });
}
document.addEventListener("click", (event) => {
  const asked = event.target.dataset ? event.target.dataset.slice : undefined;
  if (event.target.tagName === "A" && asked !== undefined) show(Number(asked));
});
window.addEventListener("resize", () => show(row));

strip();
const order = first();
const highest = data.probability.length ? data.probability.indexOf(Math.max(...data.probability)) : order[0];
show(highest);
