// The rows on screen: of any number of rows only those in view exist as elements, and they are reused.

const SPARE = 12; // rows made above and below the view, for fast scrolling

class RowList {
  constructor(scroller, space, fill) {
    this.scroller = scroller;
    this.space = space;
    this.fill = fill; // (view, item) => void
    this.items = [];
    this.pool = [];
    this.waiting = false;
    scroller.addEventListener("scroll", () => this.soon(), { passive: true });
    new ResizeObserver(() => this.measure()).observe(scroller);
  }

  measure() {
    this.height = parseFloat(getComputedStyle(this.scroller).getPropertyValue("--row"));
    this.space.style.height = `${this.items.length * this.height}px`;
    this.space.closest("#viewer").style.setProperty("--content", `${(this.items.length + 2) * this.height}px`);
    this.refresh();
  }

  show(items) {
    this.items = items;
    this.measure();
  }

  soon() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  // Fills all elements anew, after something other than the scroll position changed.
  refresh() {
    for (const slot of this.pool) slot.at = -1;
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / this.height) - SPARE);
    const size = Math.ceil(this.scroller.clientHeight / this.height) + 2 * SPARE;
    const last = Math.min(this.items.length, first + size);
    this.grow(size);
    for (let at = first; at < last; at++) this.place(this.pool[at % this.pool.length], at);
    for (const slot of this.pool) {
      if (slot.at < first || slot.at >= last) slot.view.element.hidden = true;
    }
  }

  grow(size) {
    while (this.pool.length < size) this.pool.push({ view: new RowView(this.space), at: -1 });
  }

  place(slot, at) {
    if (slot.at === at) return;
    slot.at = at;
    slot.view.element.hidden = false;
    slot.view.element.style.transform = `translateY(${at * this.height}px)`;
    this.fill(slot.view, this.items[at]);
  }

  // Where a row is among the items: its own place, or that of the gap around it.
  placeOf(row) {
    return this.items.findIndex((item) => (Array.isArray(item) ? item[0] <= row && row <= item[1] : item === row));
  }

  reveal(at, centre) {
    const top = at * this.height;
    const view = this.scroller.clientHeight;
    const above = top < this.scroller.scrollTop;
    if (!above && top + this.height <= this.scroller.scrollTop + view) return;
    const edge = above ? top : top + this.height - view;
    this.scroller.scrollTop = centre ? top - view / 4 : edge;
    this.draw();
  }
}

// A strip beside the rows that shows where in all of them the changes are.
function drawRuler(canvas, items, rows, colorOf) {
  const height = (canvas.height = Math.max(1, canvas.clientHeight));
  const width = (canvas.width = Math.max(1, canvas.clientWidth));
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, width, height);
  const size = Math.max(2, height / items.length);
  items.forEach((item, at) => {
    const color = Array.isArray(item) ? null : colorOf(rows[item]);
    if (!color) return;
    pen.fillStyle = color;
    pen.fillRect(1, Math.floor((at / items.length) * (height - size)), width - 2, Math.ceil(size));
  });
}
