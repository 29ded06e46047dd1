// Tiles, and strips of dots. Each dot is a case and a link to it.
function svg(name, settings, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(settings)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

const WIDE = 660, ROW = 40, LEFT = 44, RIGHT = 18;

// The smallest of 1, 2, 4, 8 times a power of ten that is at least `value`: its quarters are round numbers.
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return power * ([1, 2, 4, 8].find((step) => step * power >= value) ?? 10);
}

function strip(title, rows, highest, digits) {
  const found = rows.filter((row) => row.points.length);
  if (!found.length) return null;
  const top = highest ?? roundUp(found.flatMap((row) => row.points).reduce((most, point) => Math.max(most, point.value), 0) || 1);
  const place = (value) => LEFT + (WIDE - LEFT - RIGHT) * Math.min(value, top) / top;
  const picture = svg("svg", { viewBox: `0 0 ${WIDE} ${found.length * ROW + 20}`, role: "group", "aria-label": title });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const x = place(share * top);
    picture.append(svg("line", { class: "axis", x1: x, x2: x, y1: 0, y2: found.length * ROW }),
      svg("text", { x, y: found.length * ROW + 15, "text-anchor": "middle" }, (share * top).toFixed(top >= 4 ? 0 : 2)));
  }
  found.forEach((row, index) => {
    const y = index * ROW + ROW / 2, taken = new Map();
    picture.append(svg("text", { x: 0, y: y + 4 }, row.name));
    for (const { value, item } of row.points) {
      const x = place(value), bin = Math.round(x / 7), depth = taken.get(bin) ?? 0;  // dots lie side by side
      taken.set(bin, depth + 1);
      const shift = (depth % 2 ? 1 : -1) * Math.ceil(depth / 2) * 5 % (ROW / 2 - 4);
      const dot = svg("circle", { class: item.flags.length ? "dot flagged" : "dot", cx: x, cy: y + shift, r: 4 });
      const link = svg("a", { href: addressOf(item.id), tabindex: -1 }, dot);
      link.append(svg("title", {}, `${item.id}: ${value.toFixed(Math.max(digits, 2))}`));
      picture.append(link);
    }
    const middle = place(median(row.points.map((point) => point.value)));
    picture.append(svg("line", { class: "median", x1: middle, x2: middle, y1: y - 13, y2: y + 13 }));
  });
  return el("div", { class: "plot" }, el("h3", {}, title), picture);
}

function rowsOf(read) {
  return regionNames.map((name) => ({ name, points: report.cases.map((item) => ({ value: read(item, name), item })).filter((point) => typeof point.value === "number") }));
}

function drawPlots() {
  const score = (name) => (item, region) => item.scores && item.scores[region] ? item.scores[region][name] : null;
  const before = (item, region) => item.before && item.before[region] ? item.before[region].lesionwise_dice : null;
  const strips = report.kind === "scores"
    ? [strip("Lesion-wise Dice (bar: median)", rowsOf(score("lesionwise_dice")), 1, 2), strip("Lesion-wise Dice before post-processing", rowsOf(before), 1, 2),
      strip("Dice (bar: median)", rowsOf(score("legacy_dice")), 1, 2), strip("Lesion-wise HD95, mm", rowsOf(score("lesionwise_hd95")), penaltyMm, 0)]
    : [strip("Volume, ml (bar: median)", rowsOf((item, region) => item.regions_ml[region]), null, 0),
      strip("Expected Dice (bar: median)", rowsOf((item, region) => item.expected_dice[region]), 1, 2)];
  byId("plots").replaceChildren(...strips.filter(Boolean));
}

function drawTiles() {
  const tile = (value, text) => el("div", { class: "tile" }, el("b", {}, value), el("span", {}, text));
  const flagged = report.cases.filter((item) => item.flags.length).length;
  const tiles = [tile(String(report.cases.length), report.cases.length === 1 ? "case" : "cases"), tile(String(flagged), "to look at first")];
  if (report.kind === "scores") {
    for (const region of regionNames) {
      tiles.push(tile(fixed(mean(report.cases.map((item) => item.scores[region].lesionwise_dice)), 3), `${region}, mean lesion-wise Dice`));
    }
  } else {
    const failed = report.cases.filter((item) => item.status === "failed" || item.status === "blank").length;
    tiles.push(tile(String(failed), "failed or blank"));
    for (const region of regionNames) tiles.push(tile(fixed(median(report.cases.map((item) => item.regions_ml[region]).filter((ml) => ml !== undefined)), 1), `${region}, median ml`));
    if (report.cases.length) tiles.push(tile(`${(report.seconds / report.cases.length).toFixed(1)} s`, "a case"));
  }
  byId("tiles").replaceChildren(...tiles);
}
