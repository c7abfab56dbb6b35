"use strict";
// The page is complete without this: it only hides what the reader does not want to see now, sorts, and recolours.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  const chosen = { objectives: null, seed: "" };

  for (const each of all(".toolbar, .controls")) each.hidden = false;

  // Objectives and seeds shown on the whole page -----------------------------------------------------------------
  function show() {
    for (const each of all("main [data-o], main [data-s]")) {
      if (each.classList.contains("anatomy")) continue;
      const { o, s } = each.dataset;
      const hidden = (o !== undefined && chosen.objectives !== null && !chosen.objectives.has(o)) ||
        (s !== undefined && chosen.seed !== "" && s !== chosen.seed);
      each.classList.toggle("off", hidden);
    }
    for (const each of all(".anatomy-of")) showAnatomy(each);
  }

  const menu = document.getElementById("objectives");
  if (menu) {
    const boxes = all("input", menu);
    const read = () => {
      const ticked = boxes.filter((box) => box.checked);
      chosen.objectives = ticked.length === boxes.length ? null : new Set(ticked.map((box) => box.value));
      menu.querySelector(".count").textContent = ticked.length === boxes.length ? `all ${boxes.length}` :
        `${ticked.length} of ${boxes.length}`;
      show();
    };
    for (const box of boxes) box.addEventListener("change", read);
    for (const button of all("button", menu)) {
      button.addEventListener("click", () => {
        for (const box of boxes) box.checked = Boolean(button.dataset.all);
        read();
      });
    }
    document.addEventListener("click", (event) => {
      if (!menu.contains(event.target)) menu.open = false;
    });
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && menu.open) {
        menu.open = false;
        menu.querySelector("summary").focus();
      }
    });
  }
  const seeds = document.getElementById("seeds");
  if (seeds) {
    seeds.addEventListener("change", () => {
      chosen.seed = seeds.value;
      for (const select of all('[data-control="seed"]')) {
        if ([...select.options].some((option) => option.value === seeds.value)) select.value = seeds.value;
      }
      show();
    });
  }

  // Light or dark; open or closed --------------------------------------------------------------------------------
  const theme = document.getElementById("theme");
  theme.addEventListener("change", () => {
    if (theme.value) document.documentElement.dataset.theme = theme.value;
    else delete document.documentElement.dataset.theme;
  });
  const fold = document.getElementById("fold");
  const parts = all("section > details");
  const name = () => {
    fold.textContent = parts.some((part) => part.open) ? "Close all" : "Open all";
  };
  fold.addEventListener("click", () => {
    const open = !parts.some((part) => part.open);
    for (const part of parts) part.open = open;
    name();
  });
  for (const part of parts) part.addEventListener("toggle", name);
  // A link leads into its section even where that is closed.
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    const around = target.tagName === "SECTION" ? target.querySelector("details") : target.closest("details");
    if (around && !around.open) {
      around.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", reveal);
  reveal();

  // The anatomy of an example ------------------------------------------------------------------------------------
  function control(within, kind) {
    const found = within.querySelector(`[data-control="${kind}"]`);
    return found ? found.value : null;
  }
  function showAnatomy(within) {
    const [example, objective, seed, mode] = ["example", "objective", "seed", "mode"].map((kind) => control(within, kind));
    for (const each of all(".example", within)) each.classList.toggle("off", example !== null && each.dataset.e !== example);
    for (const each of all(".anatomy", within)) {
      const { o, s } = each.dataset;
      each.classList.toggle("off", Boolean(objective && o !== objective) || Boolean(seed && s !== seed) ||
        (!objective && chosen.objectives !== null && !chosen.objectives.has(o)));
    }
    for (const each of all(".mode", within)) {
      // An objective that has only one of the two shows that one.
      const alone = all(".mode", each.parentElement).length === 1;
      each.classList.toggle("off", Boolean(mode) && !alone && each.dataset.m !== mode);
    }
    const layer = control(within, "layer"), head = control(within, "head");
    for (const each of all(".chips", within)) recolour(each, layer || "", head || "");
  }
  function recolour(chips, layer, head) {
    const rows = chips.dataset.w.split(" ");
    const sizes = chips.dataset.l.split(" ").map(Number);
    const kept = [];
    let row = 0;
    sizes.forEach((size, at) => {
      for (let which = 0; which < size; which += 1, row += 1) {
        if ((layer === "" || Number(layer) === at) && (head === "" || Number(head) === which)) kept.push(rows[row]);
      }
    });
    const said = chips.closest(".attention").querySelector(".whichhead");
    const of = layer === "" ? "" : ` of layer ${Number(layer) + 1}`;
    if (kept.length === 0) said.textContent = `there is no such head${of}`;
    else if (kept.length === 1) said.textContent = `head ${head === "" ? 1 : Number(head) + 1}${of || " of the one layer"}`;
    else said.textContent = head === "" ? `the mean over all ${kept.length} heads${of}` :
      `head ${Number(head) + 1}, the mean over ${kept.length} layers`;
    [...chips.children].forEach((chip, at) => {
      const sum = kept.reduce((total, coded) => total + digits.indexOf(coded[at]) / 63, 0);
      const weight = kept.length ? sum / kept.length : 0;
      chip.style.setProperty("--w", Math.sqrt(weight).toFixed(3));  // so that small weights can be seen
      chip.title = weight.toFixed(2);
    });
  }
  for (const each of all(".anatomy-of")) {
    for (const select of all("select", each)) select.addEventListener("change", () => showAnatomy(each));
    showAnatomy(each);
  }

  // Tables: a click on a heading sorts ---------------------------------------------------------------------------
  function key(row, column) {
    const cell = row.cells[column];
    if (!cell) return "";
    const text = cell.textContent.trim();
    return cell.dataset.v !== undefined ? Number(cell.dataset.v) : /^[\u2013-]?$/.test(text) ? null : text;
  }
  function compare(one, other) {
    if (typeof one === "number" && typeof other === "number") return one - other;
    return String(one).localeCompare(String(other), "en", { numeric: true });
  }
  for (const table of all("table.sortable")) {
    const headings = all("thead th", table);
    headings.forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      button.title = "sort";
      heading.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        for (const each of headings) each.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = [...body.rows].map((row) => [key(row, column), row]);
        // What was not measured stays last either way.
        rows.sort(([one], [other]) => (one === null) - (other === null) || (one === null ? 0 :
          down ? compare(other, one) : compare(one, other)));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  // Pointing at an objective in a legend brings its lines to the front --------------------------------------------
  for (const entry of all(".key [data-o]")) {
    const charts = all(".plot", entry.closest("section"));
    const front = (on) => {
      for (const chart of charts) {
        const lines = all(".series", chart).filter((each) => each.dataset.o === entry.dataset.o);
        chart.classList.toggle("choosing", on && lines.length > 0);
        for (const line of lines) line.classList.toggle("front", on);
      }
    };
    entry.addEventListener("pointerenter", () => front(true));
    entry.addEventListener("pointerleave", () => front(false));
  }
})();
