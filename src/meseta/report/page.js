"use strict";
// Sorting, figures and their legends. Without scripts the page still shows every table.

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

const drawings = JSON.parse(document.getElementById("drawings").textContent);
const plots = Array.from(document.querySelectorAll(".plot"));
for (const plot of plots) {
  const drawing = drawings[plot.dataset.figure];
  Plotly.newPlot(plot, drawing.data, drawing.layout, { responsive: true, displayModeBar: false });
}

let folded = [];
// A figure that was drawn inside something folded does not know its width.
for (const details of document.querySelectorAll("details:has(.plot)")) {
  details.addEventListener("toggle", () => {
    if (details.open && !folded.includes(details)) details.querySelectorAll(".plot").forEach(plot => Plotly.Plots.resize(plot));
  });
}

function show(run, visible) {
  for (const plot of plots) {
    const traces = plot.data.flatMap((trace, i) => (trace.meta.run === run ? [i] : []));
    if (traces.length) Plotly.restyle(plot, { visible }, traces);
  }
  for (const key of document.querySelectorAll(`.key[data-run="${run}"]`)) key.setAttribute("aria-pressed", visible);
}

for (const key of document.querySelectorAll(".key")) {
  key.addEventListener("click", () => show(Number(key.dataset.run), key.getAttribute("aria-pressed") === "false"));
}

// Paper shows what is folded on the screen, and has its own width.
addEventListener("beforeprint", () => {
  folded = Array.from(document.querySelectorAll("details:not([open])"));
  folded.forEach(one => { one.open = true; });
  plots.forEach(plot => Plotly.relayout(plot, { width: 480, height: 300 }));
});
addEventListener("afterprint", () => {
  folded.forEach(one => { one.open = false; });
  folded = [];
  plots.forEach(plot => Plotly.relayout(plot, { autosize: true, width: null, height: null }));
});
