// The hardest examples: the prompt, and what every row of the table says of it.

const AT_FIRST = 5;
const MOST_COLUMNS = 6;

function shareCell(share, gold) {
  return make("td", { class: "right" }, share === undefined ? NOTHING
    : make("span", { class: gold ? "bar gold" : "bar", "--share": share.toFixed(4) }, percent(share), make("i", {})));
}

function answerRow(task, hard, one, columns, named) {
  const said = one.said.flatMap(([text, count], at) => [
    at ? ", " : "",
    make("span", { class: task.kind === "regression" ? "" : hard.gold.includes(text) ? "right-one" : "wrong-one" }, text === "" ? "(nothing)" : named(text)),
    one.runs > 1 ? make("span", { class: "word" }, ` ${count}/${one.runs}`) : "",
  ]);
  const worth = task.kind === "regression" ? one.worth.toFixed(2) : task.kind === "generation" ? (100 * one.worth).toFixed(0) : null;
  return make("tr", {}, make("th", { scope: "row" }, key(one.row), DATA.names[one.row]), make("td", { class: "text" }, ...said),
    ...columns.map((at) => shareCell(one.shares[at], hard.gold.includes(hard.candidates[at]))),
    worth === null ? null : make("td", { class: "right" }, worth));
}

function exampleCard(task, hard) {
  const calls = new Map(task.labels.map((label) => [label.name, callOf(label)]));
  const named = (name) => calls.get(name) ?? name;
  const shares = hard.answers.some((one) => one.shares.length);
  const right = hard.candidates.map((_, at) => at).filter((at) => hard.gold.includes(hard.candidates[at]));
  const columns = !shares ? [] : hard.candidates.length <= MOST_COLUMNS ? hard.candidates.map((_, at) => at) : right;
  const worth = { regression: "distance", generation: "worth" }[task.kind];
  const head = make("tr", {}, make("th", { scope: "col" }, ""), make("th", { scope: "col" }, task.kind === "generation" ? "wrote" : "said"),
    ...columns.map((at) => make("th", { scope: "col", class: "right" }, named(hard.candidates[at]))),
    worth ? make("th", { scope: "col", class: "right" }, worth) : null);
  return make("article", { class: "example" },
    make("h3", {}, make("span", { class: "uid" }, hard.uid), make("span", {}, `right: ${hard.gold.map(named).join(" | ")}`)),
    hard.prompt === null
      ? make("p", { class: "empty" }, "The prompt was not kept: a run keeps those of the examples that it found hardest itself.")
      : make("div", { class: "prompt", tabindex: 0, role: "region", "aria-label": `Prompt of ${hard.uid}` }, hard.prompt),
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Answers to ${hard.uid}` },
      make("table", { class: "said" }, make("thead", {}, head), make("tbody", {}, ...hard.answers.map((one) => answerRow(task, hard, one, columns, named))))));
}

(function examples() {
  if (!DATA.examples.length) return;
  const element = section("examples");
  const place = make("div", { class: "cards" });
  const more = make("button", { type: "button", onclick: () => show(all.length) });
  let all = [];
  let task = null;
  const show = (count) => {
    place.replaceChildren(...all.slice(0, count).map((hard) => exampleCard(task, hard)));
    more.hidden = count >= all.length;
    more.textContent = `Show ${all.length - count} more`;
  };
  const choose = (at) => {
    task = DATA.examples[at];
    all = task.examples;
    show(AT_FIRST);
  };
  const select = selection("Task", DATA.examples.map((one) => one.title), choose);
  if (select) element.append(make("div", { class: "controls" }, select));
  element.append(place, make("div", { class: "pages" }, more));
  choose(0);
})();
