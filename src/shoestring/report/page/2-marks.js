// What a row of the table looks like in every figure: a colour and a shape.

const COLOURS = 8;
const SHAPES = [
  (r) => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0Z`,
  (r) => `M${-r * 0.9},${-r * 0.9}H${r * 0.9}V${r * 0.9}H${-r * 0.9}Z`,
  (r) => `M0,${-r * 1.15}L${r * 1.1},${r * 0.85}H${-r * 1.1}Z`,
  (r) => `M0,${-r * 1.3}L${r * 1.3},0L0,${r * 1.3}L${-r * 1.3},0Z`,
  (r) => `M0,${r * 1.15}L${r * 1.1},${-r * 0.85}H${-r * 1.1}Z`,
  (r) => `M${-r * 0.4},${-r * 1.15}H${r * 0.4}V${-r * 0.4}H${r * 1.15}V${r * 0.4}H${r * 0.4}V${r * 1.15}H${-r * 0.4}V${r * 0.4}H${-r * 1.15}V${-r * 0.4}H${-r * 0.4}Z`,
];

/** The place of a row among those that figures show; none of a row that they leave out. */
const style = (row) => DATA.styles[row];
const colour = (row) => `var(--s${style(row) % COLOURS})`;

/** The mark of a row at a place: hollow where its runs made backward passes. */
function mark(row, x, y, radius = 5) {
  const path = makeSvg("path", { d: SHAPES[style(row) % SHAPES.length](radius), transform: `translate(${x},${y})` });
  path.style.stroke = colour(row);
  if (DATA.backward[row]) path.classList.add("hollow");
  else path.style.fill = colour(row);
  return path;
}

/** The mark of a row among words. */
function key(row) {
  return makeSvg("svg", { class: "mark", viewBox: "-7 -7 14 14", "aria-hidden": "true" }, mark(row, 0, 0));
}

/** Buttons that show and hide rows in every figure. */
function legend(rows) {
  const buttons = rows.map((row) =>
    make("button", {
      type: "button",
      onclick: () => {
        if (!hidden.delete(row)) hidden.add(row);
        redrawAll();
      },
    }, key(row), DATA.names[row]));
  const update = () => buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(!hidden.has(rows[at]))));
  redraws.push(update);
  update();
  return make("div", { class: "legend", role: "group", "aria-label": "Rows of the table shown in figures" }, ...buttons);
}
