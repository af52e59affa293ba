// The table of results: marks, sorting, filtering.

/** Let the heads of a table sort its body; `value` returns what a row is sorted by in a column. */
function sortable(table, value, after = () => {}) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, at) => {
    const button = head.querySelector(".sort");
    if (!button) return;
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      // Numbers begin with the largest, words with the first.
      const first = head.classList.contains("right") ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? second : first;
      heads.forEach((other) => { if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none"); });
      head.setAttribute("aria-sort", order);
      after(at, order === "ascending" ? 1 : -1, value);
    });
  });
}

/** Compare numbers as numbers; what is not there comes last either way. */
function compare(a, b, sign) {
  if (a === "" || b === "") return Number(a === "") - Number(b === "");
  const [x, y] = [Number(a), Number(b)];
  if (!Number.isNaN(x) && !Number.isNaN(y)) return sign * (x - y);
  return sign * String(a).localeCompare(String(b), "en", { numeric: true });
}

const matches = (text, words) => words.every((word) => text.includes(word));
const wordsOf = (input) => input.value.toLowerCase().split(/\s+/).filter(Boolean);

(function resultsTable() {
  const table = document.getElementById("table");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  for (const row of rows) if (style(row.dataset.row) !== null) row.cells[0].prepend(key(Number(row.dataset.row)));
  const value = (row, at) => row.cells[at].dataset.value ?? "";
  sortable(table, value, (at, sign) => {
    const sorted = [...rows].sort((a, b) => compare(value(a, at), value(b, at), sign) || a.dataset.row - b.dataset.row);
    body.append(...sorted);
  });
  if (rows.length < 2) return;
  const count = make("span", { class: "count", role: "status" });
  const input = make("input", { type: "search", placeholder: "mezo lora", "aria-label": "Filter rows", oninput: () => update() });
  const update = () => {
    const words = wordsOf(input);
    for (const row of rows) row.hidden = !matches(row.textContent.toLowerCase(), words);
    const left = rows.filter((row) => !row.hidden).length;
    count.textContent = words.length ? `${left} of ${rows.length} rows` : `${rows.length} rows`;
  };
  document.getElementById("results-controls").append(make("label", {}, "Filter", input), count);
  update();
})();
