// What the reader does: clicks, keys, links, the theme, and lists that are filled when they are opened.

const KEYS = {
  ArrowDown: () => move(current() + 1, 1),
  ArrowUp: () => move(current() - 1, -1),
  j: () => move(current() + 1, 1),
  k: () => move(current() - 1, -1),
  PageDown: () => move(current() + page(), 1),
  PageUp: () => move(current() - page(), -1),
  Home: () => move(0, 1),
  End: () => move(list.items.length - 1, -1),
  n: () => step(current(), 1, isNotable),
  p: () => step(current() < 0 ? list.items.length : current(), -1, isNotable),
  Enter: () => selected !== null && select(selected, { open: true }),
  o: () => follow(selected === null ? [] : pane.rows[selected].node.operands),
  u: () => follow(selected === null ? [] : pane.users[pane.rows[selected].before ? "before" : "after"][selected]),
  b: () => history.state?.inside && history.back(),
  f: () => at("near").click(),
  t: () => at("theme").click(),
  "/": () => at("search").focus(),
  "?": () => at("help").showModal(),
  Escape: () => (details.panel.hidden ? clearFilters() : closeDetails()),
};

const current = () => (selected === null ? -1 : list.placeOf(selected));
const page = () => Math.max(1, Math.floor(list.scroller.clientHeight / list.height) - 1);

function follow([first]) {
  if (first !== undefined) select(first, { open: !details.panel.hidden });
}

function onKey(event) {
  if (at("help").open || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input[type=search], select")) {
    if (event.key === "Escape" || (event.key === "Enter" && event.target.id === "search")) leaveSearch(event);
    return;
  }
  if (event.key === "Enter" && event.target.matches("a, button, summary, input")) return;
  const moving = /^(Arrow|Page|Home|End)/.test(event.key);
  if (moving && event.target !== list.scroller) return;
  const action = KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

function leaveSearch(event) {
  event.preventDefault();
  if (event.key === "Escape") clearFilters();
  list.scroller.focus();
  if (event.key === "Enter") move(0, 1);
}

function onRowClick(event) {
  const row = event.target.closest(".row");
  if (!row) return;
  const item = list.items[list.pool.find((slot) => slot.view.element === row).at];
  if (!Array.isArray(item)) return select(item, { open: true });
  filter.open(item);
  apply();
}

function onRulerClick(event) {
  const part = event.offsetY / at("ruler").clientHeight;
  list.scroller.scrollTop = part * list.items.length * list.height - list.scroller.clientHeight / 2;
}

function fillLinks(fold) {
  const body = fold.querySelector("ul");
  if (!fold.open || body.children.length > 0) return;
  for (const [index, row, text] of JSON.parse(fold.dataset.links)) {
    body.append(element("li", "", row === null ? text : details.link(index, row, text)));
  }
}

function nextTheme() {
  const root = document.documentElement;
  const dark = getComputedStyle(root).colorScheme === "dark"
    || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  root.dataset.theme = dark ? "light" : "dark";
  ruler();
}

function showSide(side) {
  at("viewer").dataset.side = side;
  for (const name of ["before", "after"]) at(`show-${name}`).setAttribute("aria-pressed", String(name === side));
}

function onAddress() {
  const place = parsePlace(location.hash);
  if (place) go(place, { record: false });
  else deselect();
}

function onLink(event) {
  const place = parsePlace(event.target.closest("a")?.getAttribute("href") ?? "");
  if (!place || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(place, { record: true });
}

function listen() {
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", onLink);
  addEventListener("popstate", onAddress);
  at("rows").addEventListener("click", onRowClick);
  at("ruler").addEventListener("click", onRulerClick);
  at("theme").addEventListener("click", nextTheme);
  at("open-help").addEventListener("click", () => at("help").showModal());
  at("close-help").addEventListener("click", () => at("help").close());
  at("close-details").addEventListener("click", closeDetails);
  at("clear").addEventListener("click", clearFilters);
  at("previous").addEventListener("click", () => KEYS.p());
  at("next").addEventListener("click", () => KEYS.n());
  for (const side of ["before", "after"]) at(`show-${side}`).addEventListener("click", () => showSide(side));
  for (const fold of document.querySelectorAll("details[data-links]")) fold.addEventListener("toggle", () => fillLinks(fold));
  listenToFilters();
}

function listenToFilters() {
  at("search").addEventListener("input", (event) => {
    filter.terms = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
    apply();
  });
  for (const name of ["op", "layer"]) {
    at(name).addEventListener("change", (event) => {
      filter[name] = event.target.value;
      apply();
    });
  }
  at("near").addEventListener("change", (event) => {
    filter.near = event.target.checked;
    filter.opened.clear();
    apply();
  });
  at("pane").addEventListener("change", (event) => openPane(Number(event.target.value)));
}

function start() {
  at("pane").replaceChildren(...data.panes.map(({ title }, index) => new Option(title || "outermost graph", String(index))));
  at("pane").hidden = data.panes.length === 1;
  listen();
  openPane(0);
  showSide("before");
  onAddress();
  document.documentElement.dataset.ready = "";
}

start();
