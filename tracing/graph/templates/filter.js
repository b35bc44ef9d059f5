// Which rows are shown: by search, status, operator and layer; else each change once with what is around it, else all.

const AROUND = 3; // rows kept on each side of a change
const isChange = (row) => row.status !== "unchanged";
const isNotable = (row) => isChange(row) || row.kept;

class Filter {
  constructor() {
    this.clear();
    this.near = false;
    this.opened = new Set(); // rows of gaps that the reader opened
  }

  clear() {
    this.terms = [];
    this.status = "";
    this.op = "";
    this.layer = "";
  }

  get active() {
    return this.terms.length > 0 || Boolean(this.status || this.op || this.layer);
  }

  accepts(row) {
    if (this.status === "kept site" ? !row.kept : this.status && row.status !== this.status) return false;
    if (this.op && row.before?.target !== this.op && row.after?.target !== this.op) return false;
    if (this.layer && String(row.layer ?? "none") !== this.layer) return false;
    return this.terms.every((term) => row.text.includes(term));
  }

  // Row numbers, and `[first, last]` for a gap of rows that are not shown.
  items(rows) {
    if (this.active) return rows.filter((row) => this.accepts(row)).map((row) => row.index);
    return this.near ? this.withGaps(rows) : rows.map((row) => row.index);
  }

  withGaps(rows) {
    const shown = new Uint8Array(rows.length);
    for (const row of rows) {
      if (isNotable(row) && !row.repeat) shown.fill(1, Math.max(0, row.index - AROUND), row.index + AROUND + 1);
    }
    for (const row of rows) if (row.repeat) shown[row.index] = 0;
    for (const index of this.opened) shown[index] = 1;
    const items = [];
    for (let index = 0; index < rows.length; index++) {
      if (shown[index]) items.push(index);
      else if (index > 0 && !shown[index - 1]) items.at(-1)[1] = index;
      else items.push([index, index]);
    }
    return items;
  }

  open([first, last]) {
    for (let index = first; index <= last; index++) this.opened.add(index);
  }
}

// `1,255 nodes that differ as those shown, 6,599 unchanged nodes`
function gapText(rows, [first, last]) {
  const inside = rows.slice(first, last + 1);
  const changed = inside.filter(isChange).length;
  const kept = inside.filter((row) => row.kept && !isChange(row)).length;
  const parts = [
    [changed, "that differ as those shown do"],
    [kept, "of sites kept as those shown are"],
    [inside.length - changed - kept, "unchanged"],
  ];
  const counted = (count) => `${count.toLocaleString("en")} ${count === 1 ? "node" : "nodes"}`;
  return parts.filter(([count]) => count > 0).map(([count, what]) => `${counted(count)} ${what}`).join(", ");
}

// The choices of a select: [value, text] with how many rows each has.
function choices(rows, keysOf, textOf, compare) {
  const counts = new Map();
  for (const row of rows) for (const key of keysOf(row)) counts.set(key, (counts.get(key) ?? 0) + 1);
  return [...counts].sort(compare).map(([key, count]) => [String(key), `${textOf(key)} (${count.toLocaleString("en")})`]);
}

const opChoices = (rows) =>
  choices(
    rows,
    (row) => new Set([row.before?.target, row.after?.target].filter((target) => target !== undefined)),
    (target) => target,
    ([one, count], [other, count2]) => count2 - count || (one < other ? -1 : 1),
  );

const layerChoices = (rows) =>
  choices(
    rows,
    (row) => [row.layer ?? "none"],
    (layer) => (layer === "none" ? "no layer" : `layer ${layer}`),
    ([one], [other]) => (one === "none" ? -1 : other === "none" ? 1 : one - other),
  );

const statusChoices = (rows) =>
  [...data.statuses, "kept site"]
    .map((status) => [status, rows.filter((row) => (status === "kept site" ? row.kept : row.status === status)).length])
    .filter(([, count]) => count > 0);
