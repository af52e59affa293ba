// One panel of a figure as SVG.

const EDGE = { left: 46, right: 14, top: 10, bottom: 44 };
const LETTER = 7;
const AT_ONCE = 4;
const TIP = document.getElementById("tip");

/** Round steps from low to high, about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + step * 1e-9; at += 1) found.push(Number((at * step).toPrecision(12)));
  return found;
}

/** Powers of ten, and 2 and 5 times them where there are few. */
function logTicks(low, high, count) {
  const [from, to] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const within = (factors) => {
    const found = [];
    for (let power = from; power <= to; power += 1) {
      for (const factor of factors) {
        const value = factor * 10 ** power;
        if (value >= low * 0.999 && value <= high * 1.001) found.push(value);
      }
    }
    return found;
  };
  const decades = within([1]);
  if (decades.length < 2) return within([1, 2, 5]).length > 1 ? within([1, 2, 5]) : ticks(low, high, 4).filter((value) => value > 0);
  return decades.filter((_, at) => at % Math.ceil(decades.length / count) === 0);
}

const short = (value) => {
  const size = Math.abs(value);
  for (const [unit, letter] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) if (size >= unit) return `${Number((value / unit).toPrecision(3))}${letter}`;
  return String(Number(value.toPrecision(3)));
};

/** A scale from values to pixels. On a log scale zero has a place of its own, left of the rest. */
function horizontal(values, log, from, to) {
  const positive = values.filter((value) => value > 0);
  // Where nothing cost anything, there is one place to be.
  if (!positive.length) return { at: () => (from + to) / 2, ticks: [[0, "0"]], zero: null };
  if (!log) {
    const high = Math.max(...values, 1e-9);
    const low = Math.min(0, ...values);
    const at = (value) => from + ((value - low) / (high - low)) * (to - from - 6);
    return { at, ticks: ticks(low, high, 5).map((value) => [value, short(value)]), zero: null };
  }
  const zero = values.some((value) => value <= 0);
  let [low, high] = [Math.min(...positive), Math.max(...positive)];
  const room = Math.max((high / low) ** 0.06, 1.15);
  [low, high] = [low / room, high * room];
  const start = zero ? from + 34 : from;
  const at = (value) => value <= 0 ? from + 12 : start + (Math.log(value / low) / Math.log(high / low)) * (to - start);
  const found = logTicks(low, high, 6).map((value) => [value, short(value)]);
  return { at, ticks: zero ? [[0, "0"], ...found] : found, zero: zero ? start - 8 : null };
}

function vertical(panel, drawn, from, to) {
  const values = [];
  for (const one of drawn) for (const [, y, sd] of one.points) values.push(y - (sd ?? 0), y + (sd ?? 0));
  for (const line of panel.lines) values.push(line.y);
  let [low, high] = [Math.min(...values) * panel.scale, Math.max(...values) * panel.scale];
  const room = Math.max((high - low) * 0.08, panel.scale === 100 ? 1 : 0.01);
  [low, high] = [low - room, high + room];
  if (panel.scale === 100 && values.every((value) => value >= -1e-9)) low = Math.max(low, 0);
  if (panel.scale === 100) high = Math.min(Math.max(high, low + 1), Math.max(101, 100 * Math.max(...values)));
  const at = (value) => to - ((value - low) / (high - low)) * (to - from);
  // A spread may reach beyond 100, a score does not.
  const within = ticks(low, high, 5).filter((value) => panel.scale === 1 || value <= 100);
  return { at: (value) => at(value * panel.scale), ticks: within.map((value) => [value, short(value), at(value)]) };
}

/** Draw a panel into `place`, which says how wide it is. */
function drawPanel(place, panel, figure, xs) {
  const drawn = panel.series.filter((one) => !hidden.has(one.row) && one.points.length)
    .map((one) => ({ ...one, points: one.points.map(([x, ...rest]) => [xs(x, one), ...rest]) }));
  if (!drawn.length) return place.replaceChildren(make("p", { class: "empty" }, "Nothing to draw here."));
  const width = Math.max(260, place.clientWidth || 480);
  const height = Math.round(Math.min(340, Math.max(250, width * 0.56)));
  const [right, bottom] = [width - EDGE.right, height - EDGE.bottom];
  const y = vertical(panel, drawn, EDGE.top, bottom);
  // What stands beside the axis leaves its numbers room.
  const left = Math.max(EDGE.left, 26 + LETTER * Math.max(...y.ticks.map(([, text]) => text.length)));
  const x = horizontal(drawn.flatMap((one) => one.points.map((point) => point[0])), figure.log, left, right);
  const svg = makeSvg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${panel.title}: ${panel.y} against ${figure.x}` });
  drawAxes(svg, { panel, figure, x, y, left, right, bottom });
  for (const line of panel.lines) drawLine(svg, line, y, left, right);
  const spots = drawn.flatMap((one) => drawSeries(svg, one, figure.joined, x, y));
  const tell = (event) => hover(event, svg, spots, panel, figure);
  svg.addEventListener("pointermove", tell);
  svg.addEventListener("pointerdown", tell);
  svg.addEventListener("pointerleave", () => { TIP.hidden = true; });
  place.replaceChildren(svg);
}

function drawAxes(svg, { panel, figure, x, y, left, right, bottom }) {
  for (const [, text, at] of y.ticks) {
    svg.append(
      makeSvg("line", { class: "grid", x1: left, x2: right, y1: at, y2: at }),
      makeSvg("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, text));
  }
  let last = -99;
  for (const [value, text] of x.ticks) {
    const at = x.at(value);
    svg.append(makeSvg("line", { class: "axis", x1: at, x2: at, y1: bottom, y2: bottom + 4 }));
    if (at - last < 30) continue;
    last = at;
    svg.append(makeSvg("text", { x: at, y: bottom + 17, "text-anchor": "middle" }, text));
  }
  const gap = x.zero;
  svg.append(gap === null
    ? makeSvg("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom })
    : makeSvg("path", { class: "axis", fill: "none", d: `M${left},${bottom}H${gap - 3}m-3,4l6,-8m1,8l6,-8m-3,4H${right}` }));
  svg.append(
    makeSvg("text", { x: (left + right) / 2, y: bottom + 37, "text-anchor": "middle" }, figure.x),
    makeSvg("text", { x: -(EDGE.top + bottom) / 2, y: 11, transform: "rotate(-90)", "text-anchor": "middle" }, panel.y.replace(" x 100", " × 100")));
}

function drawLine(svg, line, y, left, right) {
  const at = y.at(line.y);
  svg.append(
    makeSvg("line", { class: "against", x1: left, x2: right, y1: at, y2: at }),
    makeSvg("text", { x: right, y: at - 5, "text-anchor": "end" }, line.label));
}

/** Draw band, line, spreads and marks of a series; return where its points are. */
function drawSeries(svg, one, joined, x, y) {
  const places = one.points.map(([value, mean, sd, count]) => ({ x: x.at(value), y: y.at(mean), value, mean, sd, count, row: one.row }));
  const group = makeSvg("g", {});
  group.style.stroke = colour(one.row);
  if (joined && places.length > 1) {
    const spreads = one.points.filter(([, , sd]) => sd !== null);
    if (spreads.length > 1) {
      const upper = spreads.map(([value, mean, sd]) => `${x.at(value)},${y.at(mean + sd)}`);
      const lower = spreads.map(([value, mean, sd]) => `${x.at(value)},${y.at(mean - sd)}`).reverse();
      const band = makeSvg("path", { class: "band", d: `M${[...upper, ...lower].join("L")}Z`, stroke: "none" });
      band.style.fill = colour(one.row);
      band.style.stroke = "none";
      group.append(band);
    }
    const line = makeSvg("path", { class: "line", d: `M${places.map((place) => `${place.x},${place.y}`).join("L")}` });
    if (style(one.row) >= COLOURS) line.style.strokeDasharray = "6 3";
    group.append(line);
  }
  const few = places.length <= 16;
  places.forEach((place, at) => {
    if ((!joined || places.length === 1) && place.sd) {
      const [top, low] = [y.at(place.mean + place.sd), y.at(place.mean - place.sd)];
      group.append(makeSvg("path", { fill: "none", "stroke-width": 1.5, d: `M${place.x},${top}V${low}m-4,0h8M${place.x - 4},${top}h8` }));
    }
    if (few || at === places.length - 1) group.append(mark(one.row, place.x, place.y, joined ? 4 : 5.5));
  });
  svg.append(group);
  return places;
}

addEventListener("scroll", () => { TIP.hidden = true; }, { passive: true });

/** Say what the nearest point is. */
function hover(event, svg, spots, panel, figure) {
  const box = svg.getBoundingClientRect();
  const factor = svg.viewBox.baseVal.width / box.width;
  const [px, py] = [(event.clientX - box.left) * factor, (event.clientY - box.top) * factor];
  const far = (spot) => (spot.x - px) ** 2 + (spot.y - py) ** 2;
  const near = spots.reduce((best, spot) => (far(spot) < far(best) ? spot : best));
  if (far(near) > 900) { TIP.hidden = true; return; }
  // Marks that lie on top of each other are all told.
  const together = spots.filter((spot) => (spot.x - near.x) ** 2 + (spot.y - near.y) ** 2 < 64).slice(0, AT_ONCE);
  TIP.replaceChildren(...together.flatMap((spot) => [make("div", {},
    make("strong", {}, DATA.names[spot.row]), make("br"),
    `${spread(spot.mean, spot.sd, spot.count, panel.scale)} at ${number(spot.value)} ${figure.x}`)]));
  TIP.hidden = false;
  const wide = TIP.offsetWidth;
  TIP.style.left = `${Math.max(8, Math.min(event.clientX + 14, window.innerWidth - wide - 8))}px`;
  TIP.style.top = `${event.clientY + 16}px`;
}
