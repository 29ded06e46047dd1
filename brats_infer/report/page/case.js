// The page of one case: the viewer and its controls, its figures, its lesions.
const VIEWS = ["all", "axial", "coronal", "sagittal", "3-D"];
const current = { item: null, viewer: null, keys: {} };

const overlaysOf = (item) => report.overlays ?? [{ name: "labels", title: "Labels", legend: report.tasks[item.task].labels }];

const contrastsOf = (item) => report.contrasts.filter(({ name }) => report.tasks[item.task].contrasts.includes(name));

function choice(name, options, chosen, act) {
  const buttons = options.map(([value, text, key]) => el("button", { type: "button", "data-value": value, "aria-pressed": String(value === chosen), title: key ? `Key ${key}` : null, onclick: () => choose(value) }, text));
  function choose(value) {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button.dataset.value === value));
    act(value);
  }
  return { node: el("div", { class: "chips", role: "group", "aria-label": name }, buttons), choose };
}

function legendControls(viewer, item, state) {
  const box = el("div", {});
  const refresh = () => viewer.setShown(state.overlay.legend, state.hidden ? new Set() : state.shown, state.opacity);
  function draw() {
    const checks = state.overlay.legend.map(({ value, name, colour }) => el("label", { title: name },
      el("input", { type: "checkbox", "data-label": name, checked: state.shown.has(value), onchange: (event) => { state.shown[event.target.checked ? "add" : "delete"](value); press(); refresh(); } }),
      el("span", { class: "swatch", style: `background:${colour}` }), name));
    const regions = state.overlay.name === "labels" || state.overlay.name === "reference" ? Object.entries(report.tasks[item.task].regions) : [];
    const press = () => box.querySelectorAll("[data-region]").forEach((button) => {
      const values = report.tasks[item.task].regions[button.dataset.region];
      button.setAttribute("aria-pressed", String(values.length === state.shown.size && values.every((value) => state.shown.has(value))));
    });
    const only = (values) => { state.shown = new Set(values); draw(); refresh(); };
    box.replaceChildren(
      regions.length ? el("div", { class: "chips", role: "group", "aria-label": "Region" }, regions.map(([name, values]) => el("button", { type: "button", "data-region": name, onclick: () => only(values) }, name))) : "",
      el("div", { class: "chips", role: "group", "aria-label": "Labels shown" }, checks));
    press();
  }
  return { box, draw, refresh };
}

function controls(viewer, item) {
  const overlays = overlaysOf(item);
  const state = { overlay: overlays[0], shown: new Set(overlays[0].legend.map((entry) => entry.value)), opacity: 0.5, hidden: false };
  const legend = legendControls(viewer, item, state);
  const contrasts = choice("Contrast", contrastsOf(item).map(({ name, title }, i) => [name, title, i + 1]), report.first_contrast, (name) => viewer.setContrast(name));
  const views = choice("View", VIEWS.map((name) => [name, name]), "all", (name) => viewer.setView(name));
  const opacity = el("input", { type: "range", min: 0, max: 1, step: 0.05, value: state.opacity, "aria-label": "Opacity of the overlay", oninput: (event) => { state.opacity = Number(event.target.value); legend.refresh(); } });
  const cut = el("input", { type: "checkbox", checked: true, onchange: (event) => viewer.setCut(event.target.checked) });
  async function setOverlay(name) {
    state.overlay = overlays.find((entry) => entry.name === name);
    state.shown = new Set(state.overlay.legend.map((entry) => entry.value));
    await viewer.setOverlay(name);
    if (current.viewer !== viewer) return;
    legend.draw();
    legend.refresh();
  }
  const kinds = overlays.length > 1 ? choice("Overlay", overlays.map(({ name, title }) => [name, title]), overlays[0].name, setOverlay) : null;
  current.chooseOverlay = kinds?.choose;  // called with a lesion's region
  const shade = (by) => { opacity.value = state.opacity = Math.min(1, Math.max(0, state.opacity + by)); legend.refresh(); };
  current.keys = {
    ArrowUp: () => viewer.step(0, 0, 1), ArrowDown: () => viewer.step(0, 0, -1), ArrowLeft: () => viewer.step(1, 0, 0), ArrowRight: () => viewer.step(-1, 0, 0),
    PageUp: () => viewer.step(0, 1, 0), PageDown: () => viewer.step(0, -1, 0), "[": () => shade(-0.1), "]": () => shade(0.1),
    o: () => { state.hidden = !state.hidden; legend.refresh(); },
    ...Object.fromEntries(contrastsOf(item).map(({ name }, i) => [String(i + 1), () => contrasts.choose(name)])),
  };
  legend.draw();
  legend.refresh();
  viewer.setCut(true);
  const card = (title, ...nodes) => el("div", { class: "card" }, el("h3", {}, title), ...nodes);
  return [card("Contrast", contrasts.node), card("Overlay", kinds ? kinds.node : null, legend.box, el("label", {}, el("span", { class: "keys" }, "Opacity"), opacity)),
    card("View", views.node, el("div", { class: "chips" }, el("label", {}, cut, "cut the 3-D view open")))];
}

function factsCard(item) {
  const regions = Object.keys(item.regions_ml);
  const heads = report.kind === "scores" ? ["lesion-wise Dice", "Dice", "ml"] : ["ml", "lesions", "exp. Dice"];
  const cells = (name) => report.kind === "scores"
    ? [fixed(item.scores[name].lesionwise_dice, 3), fixed(item.scores[name].legacy_dice, 3), fixed(item.regions_ml[name], 1)]
    : [fixed(item.regions_ml[name], 1), String(item.lesion_counts[name]), fixed(item.expected_dice[name], 2)];
  const row = (name, values) => el("tr", {}, el("th", { scope: "row" }, name), values.map((value) => el("td", { class: "number" }, value)));
  const labels = Object.entries(item.labels_ml).map(([name, ml]) => `${name} ${fixed(ml, 1)} ml`).join(", ");
  return el("div", { class: "card" }, el("h3", {}, "Regions"),
    el("table", {}, el("thead", {}, el("tr", {}, el("th", {}), heads.map((text) => el("th", { class: "number" }, text)))), el("tbody", {}, regions.map((name) => row(name, cells(name))))),
    el("p", { class: "keys" }, labels));
}

function keysCard(item) {
  const key = (...names) => names.map((name) => el("kbd", {}, name));
  return el("div", { class: "card keys" }, el("h3", {}, "Keys"), key("↑", "↓"), " axial  ", key("←", "→"), " sagittal ", key("PgUp", "PgDn"), " coronal", el("br"),
    key("1", "–", String(contrastsOf(item).length)), " contrast  ", key("o"), " overlay  ", key("[", "]"), " opacity", el("br"), key("n", "p"), " next, previous  ", key("Esc"), " all cases");
}

function lesionTable(item) {
  const scored = report.kind === "scores";
  const heads = scored ? ["", "Region", "Outcome", "Reference, ml", "Predicted, ml", "Dice", "Centre, mm"] : ["", "Region", "Volume, ml", "Centre, mm (R A S)"];
  const outcome = { tp: "found", fp: "false", fn: "missed", ignored: "too small to count" };
  const cells = (lesion) => scored
    ? [lesion.region, outcome[lesion.outcome], fixed(lesion.reference_ml, 2), fixed(lesion.ml, 2), fixed(lesion.dice, 3), lesion.mm.map((x) => x.toFixed(0)).join(", ")]
    : [lesion.region, fixed(lesion.ml, 2), lesion.mm.map((x) => x.toFixed(0)).join(", ")];
  const go = (lesion) => { if (current.viewer) { current.chooseOverlay?.(lesion.region); current.viewer.goTo(lesion.mm); byId("case").querySelector(".stage").scrollIntoView({ block: "nearest" }); } };
  const rows = item.lesions.map((lesion) => el("tr", { onclick: () => go(lesion) },
    el("td", {}, el("button", { type: "button", class: "link", title: "Show", "aria-label": `Show lesion ${lesion.number}`, onclick: (event) => { event.stopPropagation(); go(lesion); } }, `◎ ${lesion.number}`)),
    cells(lesion).map((text, i) => el("td", { class: scored ? (i > 1 ? "number" : null) : (i > 0 ? "number" : null) }, text))));
  return el("section", { class: "lesions" }, el("h2", {}, rows.length ? `Lesions (${rows.length})` : "No lesions"),
    rows.length ? el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, heads.map((text, i) => el("th", { scope: "col", class: i > (scored ? 2 : 1) ? "number" : null }, text)))), el("tbody", {}, rows))) : "");
}

function closeCase() {
  if (current.viewer) current.viewer.close();
  Object.assign(current, { item: null, viewer: null, keys: {}, chooseOverlay: null });
}

async function openCase(item) {
  closeCase();
  current.item = item;
  const order = sortedCases(), at = order.indexOf(item), beside = (step) => at < 0 ? null : order[at + step];
  const go = (other, text) => other ? el("a", { href: addressOf(other.id) }, text) : null;
  current.beside = { n: beside(1), p: beside(-1) };
  const stage = el("div", { class: "stage" }), side = el("div", { class: "side" });
  const notes = [item.message && el("p", { class: `note ${item.status}` }, item.message), ...item.warnings.map((text) => el("p", { class: "note" }, text))];
  byId("case").replaceChildren(
    el("div", { class: "case-head" }, el("a", { href: "#" }, "← all cases"), el("h1", { tabindex: -1 }, item.id), ...flagNodes(item),
      el("nav", { "aria-label": "Cases" }, item.picture ? el("a", { href: item.picture }, "picture") : null, go(beside(-1), "← previous"), go(beside(1), "next →"))),
    ...notes.filter(Boolean), item.viewer ? el("div", { class: "split" }, stage, side) : "", item.viewer ? lesionTable(item) : "");
  byId("case").querySelector("h1").focus({ preventScroll: true });
  if (!item.viewer) return;
  side.replaceChildren(factsCard(item), keysCard(item));
  const canvas = el("canvas", { "aria-label": `Slices of ${item.id}`, role: "img" });
  stage.append(canvas);
  const left = () => current.item !== item || !stage.isConnected;  // another case was opened meanwhile, or this one again
  let viewer = null;
  try {
    viewer = await Viewer.open(canvas);
    const volumes = await loadVolumes(item.viewer, item.id);
    if (!left()) await viewer.show(volumes, report.first_contrast);
    if (left()) { viewer.close(); return; }
    current.viewer = viewer;
    side.replaceChildren(...controls(viewer, item), factsCard(item), keysCard(item));
    if (item.lesions.length) viewer.goTo(item.lesions[0].mm);
    stage.setAttribute("data-ready", item.id);
  } catch (error) {
    if (viewer && viewer !== current.viewer) viewer.close();
    stage.replaceChildren(item.picture ? el("img", { src: item.picture, alt: item.id }) : "", el("p", {}, `No interactive view: ${error.message}`));
  }
}
