"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const say = document.getElementById("say");
  // The number a cell begins with; null for a dash or a word.
  const number = (text) => {
    const found = /^[+\-−]?[\d,]*\.?\d+(e[+-]?\d+)?/.exec(text.trim());
    return found ? parseFloat(found[0].replace("−", "-").replaceAll(",", "")) : null;
  };
  const compare = (a, b) => {
    const x = number(a), y = number(b);
    return x !== null && y !== null ? x - y : a.localeCompare(b, "en", { numeric: true });
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const first = [...body.rows];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (head.hasAttribute("data-fixed")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const next = now === null ? "descending" : now === "descending" ? "ascending" : null;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        let rows = first;
        if (next !== null) {
          head.setAttribute("aria-sort", next);
          const text = (row) => row.cells[column].textContent;
          const known = first.filter((row) => text(row).trim() !== "–");
          const sign = next === "ascending" ? 1 : -1;
          known.sort((a, b) => sign * compare(text(a), text(b)));
          rows = [...known, ...first.filter((row) => text(row).trim() === "–")];
        }
        body.append(...rows);
        say.textContent = next === null ? "first order" : `sorted by ${button.textContent}, ${next}`;
      });
    });
  }
  const panels = [...document.querySelectorAll("details.method")];
  const select = document.getElementById("method");
  if (select === null) return;
  for (const panel of panels) select.add(new Option(panel.dataset.method, panel.dataset.method, panel.open, panel.open));
  select.addEventListener("change", () => {
    panels.forEach((panel, place) => { panel.open = place === select.selectedIndex; });
    say.textContent = `shown: ${select.value}`;
  });
})();
