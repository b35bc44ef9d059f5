// One row on screen. Its elements are made once and filled again for other nodes as the reader scrolls.

const SIDES = ["before", "after"];
const CELLS = ["mark", "number", "op", "args", "type"];

class RowView {
  constructor(space) {
    this.element = element("div", "row");
    this.element.setAttribute("role", "row");
    this.halves = { before: new HalfView("before"), after: new HalfView("after") };
    this.gap = element("button", "gap-text");
    this.gap.type = "button";
    this.element.append(this.gap, this.halves.before.element, this.halves.after.element);
    space.append(this.element);
  }

  showGap(text) {
    this.element.className = "row gap";
    this.element.removeAttribute("id");
    this.gap.textContent = text;
    this.reveal(true);
  }

  // `part` is what the row is to the selected one: selected, operand, user, path or nothing.
  showNode(row, part) {
    this.element.className = `row ${row.status}${row.kept ? " kept" : ""} ${part ?? ""}`;
    this.element.id = `row-${row.index}`;
    this.element.ariaRowIndex = String(row.index + 1);
    this.element.ariaSelected = String(part === "selected");
    for (const side of SIDES) this.halves[side].show(row[side], row);
    this.reveal(false);
  }

  reveal(gap) {
    this.gap.hidden = !gap;
    for (const side of SIDES) this.halves[side].element.hidden = gap;
  }
}

class HalfView {
  constructor(side) {
    this.side = side;
    this.texts = CELLS.map(() => document.createTextNode(""));
    const cells = CELLS.map((name, index) => element("span", name, this.texts[index]));
    this.element = element("span", `half ${side}`, ...cells);
    this.element.setAttribute("role", "gridcell");
  }

  show(node, row) {
    this.element.className = node ? `half ${this.side}` : `half ${this.side} none`;
    const texts = node ? [MARKS[row.status], `%${row.number}`, node.op, node.args, node.shape] : ["", "", "", "", ""];
    texts.forEach((text, index) => {
      if (this.texts[index].data !== text) this.texts[index].data = text;
    });
  }
}
