// Navigation, colours, width, print.

(function navigation() {
  const links = new Map();
  for (const part of document.querySelectorAll("main > section:not([hidden])")) {
    const link = make("a", { href: `#${part.id}` }, part.querySelector("h2").textContent);
    links.set(part, link);
    document.getElementById("sections").append(make("li", {}, link));
  }
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target).setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  for (const part of links.keys()) watch.observe(part);
})();

(function theme() {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const wantsDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (wantsDark.matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = isDark() ? "Light colours" : "Dark colours"; };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  wantsDark.addEventListener("change", label);
  label();
})();

let width = document.body.clientWidth;
new ResizeObserver(() => {
  if (document.body.clientWidth === width) return;
  width = document.body.clientWidth;
  redrawAll();
}).observe(document.body);

addEventListener("beforeprint", () => {
  for (const notes of document.querySelectorAll("details.notes, details.shared")) notes.open = true;
});
