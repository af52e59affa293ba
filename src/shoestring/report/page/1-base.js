"use strict";
// What all parts use: the data, elements, numbers as text, the state they share.

const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const NOTHING = "\u2013";

/** Make an element. Texts are texts: nothing from the data is ever parsed as HTML. */
function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function makeSvg(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key.startsWith("--")) element.style.setProperty(key, value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** A number for people: 12,345 or 0.0123, never more digits than tell something. */
function number(value) {
  if (value === null || value === undefined) return NOTHING;
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e9)) return value.toExponential(1).replace("e+", "e");
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toLocaleString("en-US", { maximumFractionDigits: digits });
}

/** Mean (sd, n), as in the table. */
function spread(mean, sd, count, scale) {
  const digits = scale === 100 ? 1 : 3;
  const shown = (value) => (value * scale).toFixed(digits);
  return `${shown(mean)} (${sd === null ? NOTHING : shown(sd)}, ${count})`;
}

const percent = (share) => `${(100 * share).toFixed(0)} %`;

/** What a label is called: where its name in the data says little, such as 0 or 1, also the word for it. */
const callOf = (label) => (label.name.length < 4 && label.word.toLowerCase() !== label.name.toLowerCase() ? `${label.name} ${label.word}` : label.name);

/** A group of buttons of which one is pressed; calls back with the number of the one. */
function choice(label, names, chosen, then) {
  const buttons = names.map((name, at) =>
    make("button", { type: "button", "aria-pressed": String(at === chosen), onclick: () => press(at) }, name));
  const press = (at) => {
    buttons.forEach((button, other) => button.setAttribute("aria-pressed", String(other === at)));
    then(at);
  };
  return make("div", { class: "choice", role: "group", "aria-label": label }, ...buttons);
}

/** A list to choose from, or nothing where there is no choice. */
function selection(label, names, then) {
  if (names.length < 2) return null;
  const select = make("select", { onchange: () => then(select.selectedIndex) },
    ...names.map((name) => make("option", {}, name)));
  return make("label", {}, label, select);
}

/** Rows of the table that figures leave out, and who is to be told. */
const hidden = new Set();
const redraws = [];

function redrawAll() {
  for (const redraw of redraws) redraw();
}

/** Show a section and name it in the navigation. */
function section(id) {
  const element = document.getElementById(id);
  element.hidden = false;
  return element;
}
