// The table of cases: columns, sorting, searching.
function perRegion(group, hint, read, digits, low) {
  return regionNames.map((region, index) => ({
    name: `${group} ${region}`, group, title: region, hint, number: true, first: index === 0,
    value: (item) => read(item, region) ?? null,
    show: (value) => fixed(value, digits),
    mark: (value) => low !== undefined && value !== null && value < low,
  }));
}

function columnsOfTable() {
  const flags = { name: "flags", title: "Flags", value: (item) => item.flags.length ? item.flags.join(" ") : null, show: (_, item) => flagNodes(item) };
  const id = { name: "id", title: "Case", value: (item) => item.id, show: (value) => el("a", { href: addressOf(value) }, value) };
  const score = (name) => (item, region) => item.scores && item.scores[region] ? item.scores[region][name] : null;
  if (report.kind === "scores") {
    return [flags, id,
      { name: "mean", title: "Mean", hint: "Mean lesion-wise Dice", number: true, value: (item) => item.mean_dice, show: (value) => fixed(value, 3), mark: (value) => value !== null && value < report.limits.low_dice },
      ...perRegion("Lesion-wise Dice", "Mean over lesions; a false one counts as 0", score("lesionwise_dice"), 3, report.limits.low_dice),
      ...perRegion("Dice", "Of the whole region", score("legacy_dice"), 3),
      ...perRegion("Lesion-wise HD95, mm", `${penaltyMm === null ? "The volume's diagonal" : `${penaltyMm} mm`} for a missed or false lesion`, score("lesionwise_hd95"), 1),
      ...perRegion("False lesions", "Components that touch no lesion", score("num_fp"), 0),
      ...perRegion("Missed lesions", "Lesions that nothing touches", score("num_fn"), 0)];
  }
  return [flags, id,
    { name: "task", title: "Task", value: (item) => item.task, show: (value) => value ?? "–" },
    ...perRegion("Volume, ml", "Of the region", (item, region) => item.regions_ml[region], 1),
    ...perRegion("Lesions", "Connected components", (item, region) => item.lesion_counts[region], 0),
    ...perRegion("Expected Dice", "The Dice to expect by the network's own probabilities", (item, region) => item.expected_dice[region], 2, report.limits.low_expected_dice),
    { name: "time", title: "Time, s", number: true, first: true, value: (item) => Object.values(item.seconds).reduce((a, b) => a + b, 0) || null, show: (value) => fixed(value, 1) },
    { name: "message", title: "Message", wide: true, value: (item) => item.message || item.warnings.join(" ") || null, show: (value) => value ?? "" }];
}

const table = { columns: columnsOfTable(), sort: null, down: false };

// Flagged cases first, the gravest flags before others; then by score, the worst first.
function usualOrder(a, b) {
  const rank = (item) => item.flags.length ? (/failed|blank|missing/.test(item.flags[0]) ? 0 : 1) : 2;
  const worth = (item) => report.kind === "scores" ? item.mean_dice : mean(Object.values(item.expected_dice));
  if (report.kind === "scores") return worth(a) - worth(b) || a.id.localeCompare(b.id);
  return rank(a) - rank(b) || (worth(a) ?? 2) - (worth(b) ?? 2) || a.id.localeCompare(b.id);
}

function sortedCases() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (item) => [item.id, item.task, item.status, ...item.flags, item.message, ...item.warnings].join(" ").toLowerCase();
  const found = report.cases.filter((item) => words.every((word) => text(item).includes(word)) && (!byId("flagged").checked || item.flags.length));
  if (!table.sort) return found.sort(usualOrder);
  const { value } = table.sort, sign = table.down ? -1 : 1;
  return found.sort((a, b) => {
    const x = value(a), y = value(b);
    if (x === null || y === null) return (x === null) - (y === null);  // unknown values stay at the end
    return sign * (typeof x === "number" ? x - y : String(x).localeCompare(String(y), undefined, { numeric: true }));
  });
}

function drawTable() {
  const cases = sortedCases();
  byId("count").textContent = cases.length === report.cases.length ? `${cases.length} cases` : `${cases.length} of ${report.cases.length} cases`;
  const open = (item) => (event) => { if (!event.target.closest("a")) location.hash = addressOf(item.id); };
  byId("cases").tBodies[0].replaceChildren(...cases.map((item) => el("tr", { onclick: open(item) }, table.columns.map((column) => {
    const value = column.value(item);
    const classes = [column.number && "number", column.first && "first", column.wide && "message", column.mark && column.mark(value) && "low"];
    return el("td", { class: classes.filter(Boolean).join(" ") || null }, column.show(value, item));
  }))));
  for (const head of byId("cases").tHead.querySelectorAll("th[data-column]")) {
    head.setAttribute("aria-sort", table.sort && head.dataset.column === table.sort.name ? (table.down ? "descending" : "ascending") : "none");
  }
}

function drawHead() {
  const groups = [], heads = [];
  for (const column of table.columns) {
    const last = groups[groups.length - 1];
    if (last && last.group && last.group === column.group) last.node.colSpan += 1;
    else groups.push({ group: column.group, node: el("th", { class: column.first ? "group first" : "group", title: column.hint }, column.group ?? "") });
    const choose = () => {
      if (table.sort === column) table.down = !table.down;
      else { table.sort = column; table.down = Boolean(column.number) && report.kind !== "scores"; }
      drawTable();
    };
    heads.push(el("th", { "data-column": column.name, scope: "col", class: [column.number && "number", column.first && "first"].filter(Boolean).join(" ") || null },
      el("button", { type: "button", title: column.hint, onclick: choose }, column.title)));
  }
  byId("cases").tHead.replaceChildren(el("tr", {}, groups.map((entry) => entry.node)), el("tr", {}, heads));
}
