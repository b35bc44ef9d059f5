// The graphs side by side: draws rows, and keeps selection, filters, panel and address in step.

const at = (id) => document.getElementById(id);
const filter = new Filter();
const details = new Details(at("details"), at("details-body"));
const list = new RowList(at("scroller"), at("rows"), fillRow);
let pane = paneAt(0);
let selected = null;
let marked = new Map(); // row -> the part it plays for the selected one

function fillRow(view, item) {
  if (Array.isArray(item)) return view.showGap(gapText(pane.rows, item));
  view.showNode(pane.rows[item], item === selected ? "selected" : marked.get(item));
}

// ---- selection

function select(index, { open = false, record = true } = {}) {
  selected = index;
  const row = pane.rows[index];
  marked = parts(row);
  if (list.placeOf(index) < 0) clearFilters();
  uncover(row, open);
  if (open || !details.panel.hidden) details.show(pane, row);
  if (record) history.pushState({ inside: true }, "", placeOf(pane.index, index));
  list.reveal(list.placeOf(index), true);
  list.refresh();
  ruler();
  if (open) at(`row-${index}`).scrollIntoView({ block: "nearest" });
  at("scroller").setAttribute("aria-activedescendant", `row-${index}`);
}

// Takes a row and what is around it, and with `path` its pin path, out of the gaps.
function uncover(row, path) {
  const hidden = (index) => Array.isArray(list.items[list.placeOf(index)]);
  const around = [Math.max(0, row.index - AROUND), Math.min(pane.rows.length - 1, row.index + AROUND)];
  const gaps = path ? pathOf(row).filter(hidden).map((index) => [index, index]) : [];
  if (hidden(row.index)) gaps.push(around);
  for (const gap of gaps) filter.open(gap);
  if (gaps.length > 0) apply();
}

const pathOf = (row) => (row.kept ? row.site.path.filter((part) => typeof part === "number") : []);

function parts(row) {
  const found = new Map();
  for (const side of ["before", "after"]) {
    for (const user of row[side] ? pane.users[side][row.index] : []) found.set(user, "user");
    for (const operand of row[side]?.operands ?? []) found.set(operand, "operand");
  }
  for (const index of pathOf(row)) found.set(index, "path");
  return found;
}

function deselect() {
  selected = null;
  marked = new Map();
  details.panel.hidden = true;
  list.refresh();
  ruler();
}

function closeDetails() {
  details.panel.hidden = true;
  at("scroller").focus();
}

function go({ pane: index, row }, { record }) {
  if (pane.index !== index) openPane(index);
  at("viewer").scrollIntoView({ block: "nearest" });
  select(row, { open: true, record });
}

// Selects the next row after `from` that is `wanted`; whether there is one.
function step(from, by, wanted) {
  for (let place = from + by; place >= 0 && place < list.items.length; place += by) {
    const item = list.items[place];
    if (!Array.isArray(item) && wanted(pane.rows[item])) {
      select(item, { record: false });
      return true;
    }
  }
  return false;
}

// Moves to the first shown row from `place` on in the direction of `by`, or else the last one before it.
function move(place, by) {
  const inside = Math.min(list.items.length - 1, Math.max(0, place));
  return step(inside - by, by, () => true) || step(inside + by, -by, () => true);
}

// ---- filters and panes

function apply() {
  list.show(filter.items(pane.rows));
  const shown = list.items.reduce((sum, item) => sum + !Array.isArray(item), 0);
  at("count").textContent = `${shown.toLocaleString("en")} of ${pane.rows.length.toLocaleString("en")} rows`;
  at("empty").hidden = list.items.length > 0;
  for (const button of at("statuses").children) button.setAttribute("aria-pressed", String(button.value === filter.status));
  at("near").checked = filter.near;
  at("clear").hidden = !filter.active;
  ruler();
}

function clearFilters() {
  filter.clear();
  for (const id of ["search", "op", "layer"]) at(id).value = "";
  apply();
}

function openPane(index) {
  pane = paneAt(index);
  selected = null;
  marked = new Map();
  filter.opened.clear();
  filter.near = pane.rows.some(isNotable);
  details.panel.hidden = true;
  at("pane").value = String(index);
  for (const side of ["before", "after"]) at(`count-${side}`).textContent = `${pane.counts[side].toLocaleString("en")} nodes`;
  fillSelect("op", "all operators", opChoices(pane.rows));
  fillSelect("layer", "all layers", layerChoices(pane.rows));
  at("statuses").replaceChildren(...statusChoices(pane.rows).map(statusButton));
  at("scroller").setAttribute("aria-rowcount", String(pane.rows.length));
  clearFilters();
  at("scroller").scrollTop = 0;
}

function fillSelect(id, all, found) {
  at(id).replaceChildren(new Option(all, ""), ...found.map(([value, text]) => new Option(text, value)));
}

function statusButton([status, count]) {
  const button = element("button", `chip ${status.replace(" site", "")}`, `${status} `, element("b", "", count.toLocaleString("en")));
  button.value = status;
  button.addEventListener("click", () => {
    filter.status = filter.status === status ? "" : status;
    apply();
  });
  return button;
}

const TONES = { removed: "del-bar", added: "add", rewired: "mod", changed: "mod", reordered: "mod" };

function ruler() {
  const canvas = at("ruler");
  const colors = new Map();
  const color = (name) => {
    canvas.style.color = `var(--${name})`;
    if (!colors.has(name)) colors.set(name, getComputedStyle(canvas).color);
    return colors.get(name);
  };
  drawRuler(canvas, list.items, pane.rows, (row) => {
    if (row.index === selected) return color("pick");
    const tone = row.kept || marked.get(row.index) === "path" ? "pin" : TONES[row.status];
    return tone ? color(tone) : null;
  });
}
