// Every run, a page of them at a time, with what it differs in; the rest behind a button.

const ON_A_PAGE = 50;

const list = (pairs) => make("dl", {}, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
const pairsOf = (sheet, at) => sheet.keys.map((name, column) => [name, sheet.rows[at][column]]).filter(([, value]) => value !== null);

function details(run, at) {
  const { settings, surroundings } = DATA.runs;
  const part = (title, pairs) => (pairs.length ? make("div", {}, make("h4", {}, title), list(pairs)) : null);
  return make("div", { class: "facts-of" },
    run.error ? make("div", {}, make("h4", {}, "What went wrong"), make("p", { class: "error" }, run.error)) : null,
    part("Settings that differ", pairsOf(settings, at)),
    part("Surroundings that differ", pairsOf(surroundings, at)),
    part("Numbers", Object.entries(run.numbers)),
    part("Folder", [["run", run.id], ["in", run.folder]]));
}

(function runs() {
  const { runs: all, total, settings, surroundings } = DATA.runs;
  if (!all.length) return;
  const element = section("runs");
  const fixed = [["run", "left"], ["status", "left"], ["task", "left"], ["method", "left"], ["seed", "right"], ["dev", "right"], ["test", "right"], ["in the table", "left"]];
  const told = settings.keys.map((name, at) => [name, at]).filter(([name]) => !["method.kind", "tuning.kind", "task.file"].includes(name));
  const entries = all.map((run, at) => {
    const values = [run.id, run.status, run.task, run.method, run.seed, run.dev ?? "", run.test ?? "", run.counted ? "yes" : "", ...told.map(([, column]) => settings.rows[at][column] ?? "")];
    return { run, at, values, text: values.join(" ").toLowerCase() };
  });
  let [shown, page] = [entries, 0];
  const input = make("input", { type: "search", placeholder: "failed adam 13", "aria-label": "Filter runs", oninput: () => filter() });
  const count = make("span", { class: "count", role: "status" });
  const body = make("tbody");
  const head = (text, align) => make("th", { scope: "col", class: align }, make("button", { type: "button", class: "sort" }, text));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...fixed.map((pair) => head(...pair)), ...told.map(([name]) => head(name, "left")))), body);
  const back = make("button", { type: "button", onclick: () => { page -= 1; draw(); } }, "Previous");
  const on = make("button", { type: "button", onclick: () => { page += 1; draw(); } }, "Next");
  const where = make("span", { class: "count" });

  function rowOf({ run, at, values }) {
    const more = make("tr", { class: "more", hidden: true });
    const open = make("button", { type: "button", class: "open", "aria-expanded": "false", onclick: () => {
      more.hidden = !more.hidden;
      open.setAttribute("aria-expanded", String(!more.hidden));
      if (!more.childElementCount) more.append(make("td", { colspan: values.length }, details(run, at)));
    } }, run.id);
    const cells = values.slice(1).map((value, column) => make("td", { class: fixed[column + 1]?.[1] ?? "left" },
      column === 0 ? make("span", { class: `badge ${run.status}` }, run.status) : value === "" ? NOTHING : String(value)));
    return [make("tr", {}, make("th", { scope: "row" }, open), ...cells), more];
  }

  function draw() {
    const pages = Math.max(1, Math.ceil(shown.length / ON_A_PAGE));
    page = Math.min(Math.max(0, page), pages - 1);
    body.replaceChildren(...shown.slice(page * ON_A_PAGE, (page + 1) * ON_A_PAGE).flatMap(rowOf));
    [back.disabled, on.disabled] = [page === 0, page === pages - 1];
    where.textContent = `Page ${page + 1} of ${pages}`;
    turner.hidden = pages === 1;
  }

  function filter() {
    const words = wordsOf(input);
    shown = entries.filter((entry) => matches(entry.text, words));
    const left = total > all.length ? ` (${total - all.length} more are not in this page)` : "";
    count.textContent = `${words.length ? `${shown.length} of ` : ""}${all.length} ${all.length === 1 ? "run" : "runs"}${left}`;
    page = 0;
    draw();
  }

  sortable(table, (entry, at) => entry.values[at], (at, sign, value) => {
    entries.sort((a, b) => compare(value(a, at), value(b, at), sign) || a.at - b.at);
    filter();
  });
  const turner = make("div", { class: "pages" }, back, on, where);
  const shared = (title, sheet) => {
    const pairs = Object.entries(sheet.common);
    return pairs.length ? make("details", { class: "shared" }, make("summary", {}, `${title} (${pairs.length})`), list(pairs)) : "";
  };
  element.append(
    make("div", { class: "controls" }, make("label", {}, "Filter", input), count),
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Runs" }, table), turner,
    shared("Settings that all runs share", settings), shared("Surroundings that all runs share", surroundings));
  filter();
})();
