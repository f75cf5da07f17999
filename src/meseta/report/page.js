"use strict";
// Sorting, figures and their legends. Without scripts the page still shows every table and picture.

function sortValue(row, index) {
  const value = row.cells[index].dataset.value;
  return value === undefined ? null : isNaN(value) ? value : Number(value);
}

// Missing values stay last in both directions; names sort as people count: run 2 before run 10.
function compare(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number" && typeof b === "number") return direction * (a - b);
  return direction * String(a).localeCompare(String(b), undefined, { numeric: true });
}

function sortBy(table, header) {
  const direction = header.getAttribute("aria-sort") === "descending" ? 1 : header.getAttribute("aria-sort") === "ascending" ? -1 : header.cellIndex ? -1 : 1;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows).map(row => [sortValue(row, header.cellIndex), row]);
  rows.sort((a, b) => compare(a[0], b[0], direction));
  body.append(...rows.map(pair => pair[1]));
  table.querySelectorAll("th[aria-sort]").forEach(other => other.removeAttribute("aria-sort"));
  header.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const button of table.querySelectorAll("thead button")) {
    button.addEventListener("click", () => sortBy(table, button.closest("th")));
  }
}

for (const button of document.querySelectorAll(".fold")) {
  const table = document.getElementById(button.dataset.folds);
  const fold = folded => { table.classList.toggle("folded", folded); button.setAttribute("aria-pressed", !folded); };
  button.hidden = false;
  button.addEventListener("click", () => fold(!table.classList.contains("folded")));
  fold(matchMedia("(max-width: 40rem)").matches);
}

// A map's values come as float32 in base64, row by row; NaN is a missing one.
function unpacked({ f4, columns }) {
  const values = new Float32Array(Uint8Array.from(atob(f4), byte => byte.charCodeAt(0)).buffer);
  const row = start => Array.from(values.subarray(start, start + columns), z => (isNaN(z) ? null : z));
  return Array.from({ length: values.length / columns }, (_, i) => row(i * columns));
}

const drawings = JSON.parse(document.getElementById("drawings").textContent);
const plots = Array.from(document.querySelectorAll(".plot"));
const hiddenRuns = new Set();

// plotly breaks no lines of its own accord.
function wrapped(text, width) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1) && lines.at(-1).length + word.length > width / 7.5) lines.push(word);
    else lines.push([lines.pop(), word].filter(Boolean).join(" "));
  }
  return lines.join("<br>");
}

function draw(plot, data, layout) {
  Plotly.newPlot(plot, data, layout, { responsive: true, displayModeBar: false, typesetMath: false });
}

function drawFlat(plot, size = {}) {
  const { data, layout } = drawings[plot.dataset.figure];
  for (const trace of data) {
    if (trace.z?.f4) trace.z = unpacked(trace.z);
    if ("z_of" in trace.meta) trace.z = data[trace.meta.z_of].z;
    trace.visible = !hiddenRuns.has(trace.meta.run);
  }
  const width = (size.width ?? plot.clientWidth) - (data[0].colorbar ? 140 : 68);
  const height = (size.height ?? plot.clientHeight) - 68;
  const titled = (axis, room) => ({ ...axis, title: { text: wrapped(axis.title.text, room) } });
  draw(plot, data, { ...layout, ...size, xaxis: titled(layout.xaxis, width), yaxis: titled(layout.yaxis, height) });
}

// A figure is drawn when it comes near the window, which is never for what stays folded.
const watcher = new IntersectionObserver(seen => {
  for (const { target, isIntersecting } of seen) {
    if (!isIntersecting) continue;
    watcher.unobserve(target);
    drawFlat(target);
  }
}, { rootMargin: "50%" });
plots.forEach(plot => watcher.observe(plot));

// A figure that is folded while the window changes does not see it.
for (const details of document.querySelectorAll("details:has(.plot)")) {
  details.addEventListener("toggle", () => {
    if (details.open) plots.filter(plot => plot.data && details.contains(plot)).forEach(plot => Plotly.Plots.resize(plot));
  });
}

function show(run, visible) {
  if (visible) hiddenRuns.delete(run); else hiddenRuns.add(run);
  for (const plot of plots.filter(plot => plot.data)) {
    const traces = plot.data.flatMap((trace, i) => (trace.meta.run === run ? [i] : []));
    if (traces.length) Plotly.restyle(plot, { visible }, traces);
  }
  for (const key of document.querySelectorAll(`.key[data-run="${run}"]`)) key.setAttribute("aria-pressed", visible);
}

for (const key of document.querySelectorAll(".key")) {
  key.addEventListener("click", () => show(Number(key.dataset.run), key.getAttribute("aria-pressed") === "false"));
}

// A map as a relief. Each relief takes one of the browser's few WebGL contexts, so the oldest make room.
const MOST_RELIEFS = 8;
const reliefs = [];

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function drawRelief(plot) {
  const { data, layout } = drawings[plot.dataset.figure];
  const { x, y, z, zmin, zmax, colorscale, colorbar, hovertemplate, meta } = data[0];
  const boundary = data.some(trace => trace.meta.z_of === 0);
  const contours = boundary ? { z: { show: true, start: 0, end: 0.5, size: 1, color: "#000000", width: 4 } } : {};
  const far = plot.clientWidth < 450 ? 1.4 : 1; // with room for the titles
  const ink = { color: colour("--ink"), gridcolor: colour("--line"), showspikes: false, tickfont: { size: 10 } };
  const axis = title => ({ title: { text: wrapped(title.text, 160), font: { size: far > 1 ? 10 : 11 } }, nticks: 5, ...ink });
  const [lowest, highest] = meta.span; // of all panels that are compared; the colours may reach farther
  const air = (highest - lowest) / 10 || 1;
  const scene = {
    xaxis: axis(layout.xaxis.title),
    yaxis: axis(layout.yaxis.title),
    zaxis: { ...axis({ text: "" }), range: [lowest - air, highest + air] }, // the bar of colours says what height is
    aspectmode: "cube",
    camera: { eye: { x: -1.7 * far, y: -1.95 * far, z: 1.35 * far }, center: { x: 0, y: 0, z: -0.2 } },
  };
  const { paper_bgcolor, font } = layout;
  const surface = { type: "surface", x, y, z, cmin: zmin, cmax: zmax, colorscale, colorbar, hovertemplate, meta, contours };
  draw(plot, [surface], { paper_bgcolor, font, scene, margin: { t: 0, r: 0, b: 0, l: 0 } });
}

function turn(plot, button) {
  const flat = !reliefs.includes(plot);
  Plotly.purge(plot);
  if (flat) {
    if (reliefs.length === MOST_RELIEFS) flatten(reliefs[0]);
    reliefs.push(plot);
    drawRelief(plot);
  } else {
    reliefs.splice(reliefs.indexOf(plot), 1);
    drawFlat(plot);
  }
  button.firstElementChild.textContent = flat ? "Map" : "Turn it in 3-D";
}

function flatten(plot) {
  turn(plot, plot.nextElementSibling);
}

for (const button of document.querySelectorAll(".turn")) {
  button.hidden = false;
  button.addEventListener("click", () => turn(button.previousElementSibling, button));
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => reliefs.forEach(drawRelief));

// Paper shows every figure, also what is folded on the screen, in its own width, and maps, which need no WebGL.
const PAPER = 1000;
let folded = [];
const onPaper = Array.from(document.styleSheets[0].cssRules).find(rule => rule.media?.mediaText === "print");

// The cells of a row between two columns, and the first: a title over several columns keeps its part of them.
function keepColumns(row, start, end) {
  let at = 0;
  for (const cell of Array.from(row.cells)) {
    const width = cell.colSpan;
    const kept = Math.max(0, Math.min(at + width, end) - Math.max(at, start)) + (at === 0);
    if (kept) cell.colSpan = kept; else cell.remove();
    at += width;
  }
}

// A table that is wider than paper goes on in further ones, beside its first column again.
function splitForPaper(table) {
  const titles = table.tHead?.rows[table.tHead.rows.length - 1];
  if (!titles) return;
  table.parentElement.style.width = `${PAPER}px`;
  const [label, ...widths] = Array.from(titles.cells, cell => cell.getBoundingClientRect().width);
  table.parentElement.style.width = "";
  const starts = [1];
  let room = PAPER - label;
  widths.forEach((width, i) => {
    if (width > room && i + 1 > starts.at(-1)) { starts.push(i + 1); room = PAPER - label; }
    room -= width;
  });
  if (starts.length < 2 && !table.matches(".sortable")) return;
  starts.forEach((start, i) => {
    const part = table.cloneNode(true);
    part.classList.add("part");
    // Titles come again on the next page, but for buttons.
    part.querySelectorAll("th button").forEach(button => button.replaceWith(...button.childNodes));
    for (const row of part.rows) keepColumns(row, start, starts[i + 1] ?? Infinity);
    table.before(part);
  });
  table.hidden = true;
}

function joinAgain(table) {
  while (table.previousElementSibling?.matches(".part")) table.previousElementSibling.remove();
  table.hidden = false;
}

addEventListener("beforeprint", () => {
  folded = Array.from(document.querySelectorAll("details:not([open])"));
  folded.forEach(one => { one.open = true; });
  onPaper.media.mediaText = "all"; // tables are measured as they will be
  document.querySelectorAll("table").forEach(splitForPaper);
  onPaper.media.mediaText = "print";
  reliefs.slice().forEach(flatten);
  for (const plot of plots) {
    const row = plot.closest(".panels");
    const columns = row ? Math.min(row.style.getPropertyValue("--columns"), 4) : plot.closest(".alone") ? 1 : 2;
    watcher.unobserve(plot);
    Plotly.purge(plot);
    drawFlat(plot, { width: PAPER / columns - 24, height: 300 });
  }
});

addEventListener("afterprint", () => {
  folded.forEach(one => { one.open = false; });
  folded = [];
  document.querySelectorAll("table[hidden]").forEach(joinAgain);
  for (const plot of plots) {
    Plotly.purge(plot);
    watcher.observe(plot);
  }
});
