// The page of an address: all cases, or the case of #case=.
function aboutRun() {
  const rows = [["Version", `brats-opt ${report.version}`], ["Made", report.created], ["Device", report.device],
    ["Peak memory", report.peak_memory && Object.entries(report.peak_memory).map(([name, bytes]) => `${name} ${(bytes / 2 ** 30).toFixed(1)} GiB`).join(", ")],
    ...(report.members ?? []).map((member) => [`Member ${member.file}`, `${member.task}, fold ${member.fold}, sha256 ${member.sha256}, ${member.licence}`]),
    ...Object.entries(report.options ?? {}).map(([name, value]) => [name, String(value)]),
    ["Viewer", "NiiVue, BSD-2-Clause, viewer/niivue.LICENSE"], ["Purpose", "For research; no medical device."]];
  byId("about").replaceChildren(el("dl", {}, rows.filter(([, value]) => value).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])));
  byId("facts").textContent = `${report.kind === "scores" ? "scores" : "run"} of ${report.created.slice(0, 10)}, version ${report.version}`;
}

function route() {
  const item = report.cases.find((entry) => addressOf(entry.id) === location.hash);
  byId("list").hidden = Boolean(item);
  byId("case").hidden = !item;
  document.title = item ? `${item.id} · brats-opt` : "brats-opt report";
  if (item) openCase(item);
  else closeCase();
}

document.addEventListener("keydown", (event) => {
  if (!current.item || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=search], select, textarea")) return;
  if (event.target.matches("input[type=range]") && event.key.startsWith("Arrow")) return;
  const beside = current.beside[event.key];
  if (event.key === "Escape") location.hash = "";
  else if (beside) location.hash = addressOf(beside.id);
  else if (current.keys[event.key]) { current.keys[event.key](); event.preventDefault(); }
});
byId("search").addEventListener("input", drawTable);
byId("flagged").addEventListener("change", drawTable);
window.addEventListener("hashchange", route);
drawTiles();
drawPlots();
drawHead();
drawTable();
aboutRun();
route();
