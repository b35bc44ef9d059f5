// The page's data as objects: rows with their nodes, users and searchable text. Other scripts only read them.

const data = JSON.parse(document.getElementById("data").textContent);
const KEPT = ["kept", "live"];
const MARKS = { removed: "-", added: "+", rewired: "~", changed: "~", reordered: "~", unchanged: "" };

function nodeOf([name, op, type, args, operands, source]) {
  const [target, short] = data.ops[op];
  const [text, bytes] = data.types[type];
  return { name, target, op: short, type: text, shape: shapeOf(text), bytes, args, operands, source: data.sources[source] ?? "" };
}

// A type without its strides, for the narrow rows.
function shapeOf(type) {
  return type.replace(/ strides\([^)]*\)/g, "");
}

function rowOf(entry, index) {
  const before = entry.b ? nodeOf(entry.b) : null;
  const after = entry.a === 1 ? before : entry.a ? nodeOf(entry.a) : null;
  const status = data.statuses[entry.s];
  const site = entry.t === undefined ? null : data.sites[entry.t];
  return {
    index, before, after, status, site,
    node: before ?? after,
    kept: site !== null && KEPT.includes(site.status),
    layer: entry.l ?? null,
    changes: entry.c ?? [],
    rule: entry.r ?? "",
    opens: entry.p ?? null,
    repeat: entry.e === 1,
    text: searchable(before, after),
  };
}

function searchable(before, after) {
  const nodes = before === after ? [before] : [before, after].filter(Boolean);
  const parts = nodes.flatMap((node) => [node.name, node.target, node.args, node.type, node.source]);
  return parts.join(" ").toLowerCase();
}

// The number a row is written with: its position in the before graph, or +0, +1, ... for added nodes.
function numberRows(rows) {
  let before = 0;
  let added = 0;
  for (const row of rows) row.number = row.before ? `${before++}` : `+${added++}`;
}

// For each row, the rows that read it on one side.
function usersOf(rows, side) {
  const users = rows.map(() => []);
  for (const row of rows) for (const operand of row[side]?.operands ?? []) users[operand].push(row.index);
  return users;
}

const panes = new Map();

function paneAt(index) {
  if (!panes.has(index)) {
    const { title, rows: entries } = data.panes[index];
    const rows = entries.map(rowOf);
    numberRows(rows);
    panes.set(index, {
      index, title, rows,
      users: { before: usersOf(rows, "before"), after: usersOf(rows, "after") },
      counts: { before: rows.filter((row) => row.before).length, after: rows.filter((row) => row.after).length },
    });
  }
  return panes.get(index);
}

// `#0:12` names row 12 of pane 0.
function parsePlace(hash) {
  const found = /^#(\d+):(\d+)$/.exec(hash);
  if (!found) return null;
  const [pane, row] = [Number(found[1]), Number(found[2])];
  return pane < data.panes.length && row < data.panes[pane].rows.length ? { pane, row } : null;
}

const placeOf = (pane, row) => `#${pane}:${row}`;

const UNITS = [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"]];

function bytesText(size) {
  const [unit, name] = UNITS.find(([limit]) => size >= limit) ?? [1, "B"];
  const value = size / unit;
  return `${unit === 1 ? value : value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2)} ${name}`;
}

// An element with text and elements in it. Text is only ever text: nothing of the data is parsed as markup.
function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}
