"use strict";
/* Sort a table by a column, filter its rows, mark the section in view. The page is whole without. */
(() => {
  const value = (row, column) => {
    const cell = row.cells[column];
    if (!cell) return "";
    const given = cell.dataset.sort;
    const shown = given === undefined ? cell.textContent.trim() : given;
    const number = Number(shown);
    return shown !== "" && Number.isFinite(number) ? number : shown.toLowerCase();
  };
  const compare = (a, b) =>
    typeof a === "number" && typeof b === "number" ? a - b
      : typeof a === "number" ? 1 : typeof b === "number" ? -1 : a.localeCompare(b);

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.classList.add("sort");
      head.tabIndex = 0;
      const sort = () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const bound = (row) => row.classList.contains("bound");
        [...body.rows]
          .map((row, place) => ({ row, place, key: value(row, column) }))
          .sort((a, b) =>
            bound(a.row) - bound(b.row) || (down ? -1 : 1) * compare(a.key, b.key) || a.place - b.place)
          .forEach(({ row }) => body.append(row));
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(); }
      });
    });
  }

  for (const tools of document.querySelectorAll(".tools")) {
    tools.hidden = false;
    const table = document.getElementById(tools.dataset.for);
    const box = tools.querySelector("input");
    const buttons = [...tools.querySelectorAll("button")];
    const show = () => {
      const words = (box ? box.value : "").toLowerCase().split(/\s+/).filter(Boolean);
      const pressed = buttons.filter((b) => b.getAttribute("aria-pressed") === "true");
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        const fits = !pressed.length || pressed.some((b) => b.value === row.dataset.condition);
        row.hidden = !(fits && words.every((word) => text.includes(word)));
      }
    };
    if (box) box.addEventListener("input", show);
    buttons.forEach((button) => button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      show();
    }));
  }

  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const link = links.get(entry.target.id);
      if (link && entry.isIntersecting) {
        links.forEach((other) => other.classList.remove("here"));
        link.classList.add("here");
      }
    }
  }, { rootMargin: "-15% 0px -75% 0px" });
  document.querySelectorAll("section[id]").forEach((section) => seen.observe(section));
})();
