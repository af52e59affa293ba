// Who takes what for what.

function classTable(task, one) {
  const labels = task.labels;
  const numbers = ["precision", "recall", "F1", "examples"];
  const counts = one.counts ?? labels.map(() => []);
  const head = make("tr", {}, make("th", { scope: "col" }, "is \u2193 said \u2192"),
    ...(one.counts ? labels.map((label) => make("th", { scope: "col", class: "right", title: label.title }, callOf(label))) : []),
    ...numbers.map((text, at) => make("th", { scope: "col", class: at ? "right" : "right gap" }, text)));
  const rows = labels.map((label, at) => {
    const sum = counts[at].reduce((total, count) => total + count, 0);
    const [precision, recall, f1, support] = one.classes[at];
    const cells = counts[at].map((count, other) => {
      const share = sum ? count / sum : 0;
      const names = ["share", other === at ? "hit" : "", count ? "" : "none"].filter(Boolean).join(" ");
      return make("td", { class: names, "--share": share.toFixed(3), title: `${number(count)} of ${number(sum)}` }, sum ? percent(share) : NOTHING);
    });
    const figures = [precision, recall, f1].map((value, number) =>
      make("td", { class: number ? "right" : "right gap" }, value === null ? NOTHING : (100 * value).toFixed(1)));
    return make("tr", {}, make("th", { scope: "row", title: label.title }, callOf(label)), ...cells, ...figures, make("td", { class: "right" }, number(support)));
  });
  return make("table", { class: "matrix" }, make("thead", {}, head), make("tbody", {}, ...rows));
}

(function classes() {
  if (!DATA.classes.length) return;
  const element = section("classes");
  const place = make("div", { class: "cards matrices" });
  const show = (at) => {
    const task = DATA.classes[at];
    place.replaceChildren(...task.rows.map((one) => make("div", {},
      make("p", { class: "who" }, key(one.row), `${DATA.names[one.row]}`, make("span", { class: "word" }, `\u2002${one.runs} ${one.runs === 1 ? "run" : "runs"}`)),
      make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Classes of ${DATA.names[one.row]}` }, classTable(task, one)))));
  };
  const select = selection("Task", DATA.classes.map((task) => task.title), show);
  if (select) element.append(make("div", { class: "controls" }, select));
  element.append(place);
  show(0);
})();
