"use strict";
// The report's figures, and helpers that make elements: content is always text, never markup.
const report = JSON.parse(document.getElementById("report").textContent);
const bratsOpt = { arrived: new Map(), arrive(volumes) { this.arrived.set(volumes.id, volumes); } };

function el(name, settings, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(settings || {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style") node.style.cssText = value;
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const byId = (id) => document.getElementById(id);
const fixed = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const addressOf = (id) => `#case=${encodeURIComponent(id.toWellFormed())}`;  // a file's name may be invalid Unicode
const mean = (values) => {
  const known = values.filter((value) => typeof value === "number");
  return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
};
const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b), n = sorted.length;
  return n ? (sorted[(n - 1) >> 1] + sorted[n >> 1]) / 2 : null;
};
const regionNames = [...new Set(Object.values(report.tasks).flatMap((task) => Object.keys(task.regions)))]
  .filter((name) => report.cases.some((item) => item.regions_ml && name in item.regions_ml));
const penaltyMm = report.kind === "scores" ? report.tasks[report.options.task].penalty_mm : null;
const flagNodes = (item) => item.flags.map((flag) => el("span", { class: `flag ${flag}` }, flag));
