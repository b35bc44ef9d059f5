// The panel about one row: what it is, what it reads, what reads it, why it went or what keeps it.

const MANY = 40; // links shown before the rest is asked for

class Details {
  constructor(panel, body) {
    this.panel = panel;
    this.body = body;
  }

  show(pane, row) {
    this.pane = pane;
    const { node } = row;
    this.body.replaceChildren(
      element("h3", "mono", `%${row.number} ${node.name}`),
      element("p", "tags", ...this.tags(row)),
      element("dl", "facts", ...this.facts(row)),
      ...this.changes(row),
      ...this.why(row),
      ...this.neighbours(row),
    );
    this.panel.hidden = false;
  }

  tags(row) {
    const tags = [element("span", `badge ${row.status}`, row.status)];
    if (row.kept) tags.push(element("span", "badge kept", `${row.site.status} site`));
    return tags;
  }

  facts(row) {
    const { before, after, node } = row;
    const sides = (of) => (before && after && of(before) !== of(after) ? `${of(before)} -> ${of(after)}` : of(node));
    const entries = [
      ["operator", node.target],
      ["arguments", node.args || "none"],
      ["type", sides((side) => side.type)],
      ["bytes", sides((side) => (side.bytes === null ? "unknown" : bytesText(side.bytes)))],
      ["layer", row.layer === null ? "none" : String(row.layer)],
      ["source", node.source],
      ["name after", after && before && after.name !== before.name ? after.name : ""],
    ];
    return entries.filter(([, text]) => text).flatMap(([name, text]) => [element("dt", "", name), element("dd", "mono", text)]);
  }

  changes(row) {
    if (row.changes.length === 0) return [];
    const items = row.changes.map(([slot, one, other]) =>
      element(
        "li", "mono", `${slot}: `, element("span", "tone-del", one ?? "(absent)"), " -> ",
        element("span", "tone-add", other ?? "(absent)"),
      ),
    );
    return [element("h4", "", "What changed"), element("ul", "", ...items)];
  }

  why(row) {
    const found = [];
    if (row.rule) found.push(element("h4", "", "Rule"), element("p", "", row.rule));
    if (row.site) {
      const { title, status, reason, bytes } = row.site;
      const cost = bytes === null ? "" : `, ${bytesText(bytes)} a step`;
      found.push(element("h4", "", row.kept ? "Why it stays" : "Why it went"), element("p", "", reason));
      found.push(element("p", "soft", `site ${title}: ${status}${cost}`));
      found.push(...this.path(row.site.path));
    }
    if (row.opens !== null) found.push(element("p", "", this.link(row.opens, 0, "open the nested graph")));
    return found;
  }

  path(path) {
    if (path.length === 0) return [];
    const items = path.map((step) => element("li", "", typeof step === "number" ? this.rowLink(step) : step));
    const title = element("h4", "", "Pin path ", element("span", "key path", "marked in both graphs"));
    return [title, element("ol", "path-list", ...items)];
  }

  neighbours(row) {
    const { before, after } = this.pane.users;
    return [
      ...this.both("Operands", "operand", row.before?.operands, row.after?.operands),
      ...this.both("Users", "user", row.before && before[row.index], row.after && after[row.index]),
    ];
  }

  // One list where both sides agree, else one for each side that has the node.
  both(title, kind, before, after) {
    const same = before && after && String(before) === String(after);
    const lists = same ? [["", before]] : [[" before", before], [" after", after]].filter(([, rows]) => rows);
    return lists.flatMap(([side, rows]) => {
      const heading = element("h4", "", title + side, " ", element("span", `key ${kind}`, String(rows.length)));
      return [heading, this.links(rows)];
    });
  }

  links(rows) {
    const list = element("ul", "links");
    list.append(...rows.slice(0, MANY).map((row) => element("li", "", this.rowLink(row))));
    if (rows.length > MANY) {
      const more = element("button", "", `${rows.length - MANY} more`);
      more.addEventListener("click", () => {
        more.parentElement.remove();
        list.append(...rows.slice(MANY).map((row) => element("li", "", this.rowLink(row))));
      });
      list.append(element("li", "", more));
    }
    return rows.length ? list : element("p", "soft", "none");
  }

  rowLink(index) {
    const row = this.pane.rows[index];
    return this.link(this.pane.index, index, `%${row.number} ${row.node.name}`, row.node.op, row.status);
  }

  link(pane, row, text, note = "", status = "unchanged") {
    const made = element("a", `mono ${status}`, text);
    made.href = placeOf(pane, row);
    if (note) made.append(" ", element("span", "soft", note));
    return made;
  }
}
