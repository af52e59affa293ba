// Figures: panels side by side, what they are drawn over, their legend, and their numbers as a table.

const asIs = (x) => x;

/** Show panels in `place` and keep them as wide as it is. */
function showFigure(place, figure, xs = asIs) {
  const spots = figure.panels.map((panel) => {
    const spot = make("div");
    return { panel, spot, whole: make("figure", {}, make("figcaption", {}, panel.title), spot) };
  });
  const values = make("details", { class: "values" }, make("summary", {}, "The numbers"));
  values.addEventListener("toggle", () => {
    if (values.open && values.childElementCount === 1) values.append(numbersTable(figure, xs));
  });
  place.replaceChildren(
    make("div", { class: "panels" }, ...spots.map((one) => one.whole)),
    ...figure.notes.map((note) => make("p", { class: "count" }, note)),
    values);
  const draw = () => spots.forEach(({ panel, spot }) => drawPanel(spot, panel, figure, xs));
  draw();
  return draw;
}

function numbersTable(figure, xs) {
  const head = ["", figure.panels.length > 1 ? "task" : "", figure.x, figure.panels[0].y];
  const rows = figure.panels.flatMap((panel) => panel.series.flatMap((one) => one.points.map(([x, y, sd, count]) =>
    [DATA.names[one.row], figure.panels.length > 1 ? panel.title : "", number(xs(x, one)), spread(y, sd, count, panel.scale)])));
  return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Numbers of the figure" }, make("table", {},
    make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col" }, text)))),
    make("tbody", {}, ...rows.map((row) => make("tr", {}, ...row.map((text) => make("td", {}, text)))))));
}

const rowsOf = (figures) => [...new Set(figures.flatMap((figure) => figure.panels.flatMap((panel) => panel.series.map((one) => one.row))))].sort((a, b) => a - b);

/** A section of figures, of which one is shown at a time. */
function figureSection(id, figures, names, more = null) {
  if (!figures.length) return;
  const element = section(id);
  const place = make("div");
  let [chosen, other] = [0, 0];
  let draw = () => {};
  const show = () => { draw = showFigure(place, ...(more ? more.figure(figures[chosen], other) : [figures[chosen]])); };
  const controls = [
    names.length > 1 ? choice("What is drawn", names, 0, (at) => { chosen = at; show(); }) : null,
    more ? choice(more.label, more.names, 0, (at) => { other = at; show(); }) : null,
  ].filter((one) => one !== null);
  if (controls.length) element.append(make("div", { class: "controls" }, ...controls));
  const rows = rowsOf(figures);
  if (rows.length > 1) element.append(legend(rows));
  element.append(place);
  show();
  redraws.push(() => draw());
}

/** Curves over steps, or over the forward passes that steps make. */
const OVER = {
  label: "Curves over",
  names: ["steps", "forward passes"],
  figure: (figure, at) => at === 0
    ? [figure]
    : [{ ...figure, x: DATA.costs[0].x, panels: figure.panels.map((panel) => ({ ...panel, series: panel.series.filter((one) => one.rate) })) },
      (x, one) => x * one.rate],
};

const COST_NAMES = { "forward-passes": "forward passes", seconds: "seconds", memory: "memory", weights: "trained weights" };
const known = DATA.costs.filter((figure) => figure.panels.some((panel) => panel.series.length));
figureSection("costs", known, known.map((figure) => COST_NAMES[figure.name]));
figureSection("scaling", DATA.scaling ? [DATA.scaling] : [], []);
figureSection("curves", DATA.curves, DATA.curves.map((figure) => figure.name), OVER);
