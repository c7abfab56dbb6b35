"use strict";
// Draws the charts, and hides what the reader does not want to see now, sorts and recolours. The rest of the page is
// complete without this.
(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const chosen = { objectives: null, seed: "" };
  const root = document.documentElement;

  for (const each of all(".toolbar, .controls")) each.hidden = false;

  // Charts: drawn where they can be seen first, the others when there is time ------------------------------------
  const made = JSON.parse(document.getElementById("charts").textContent);
  const charts = all(".chart");
  const views = new Map();
  const near = new Set();
  const stale = new Set();
  let drawing = false;
  const systemDark = matchMedia("screen and (prefers-color-scheme: dark)");
  const dark = () => root.dataset.theme === "dark" || (root.dataset.theme !== "light" && systemDark.matches);

  // Columns become records; those of objectives and seeds that are not wanted now are left out.
  function records(columns) {
    const names = Object.keys(columns);
    const values = names.map((name) => {
      const column = columns[name];
      return Array.isArray(column) ? column : column.codes.map((code) => (code < 0 ? null : column.values[code]));
    });
    const found = values.length === 0 ? [] : values[0].map((_, row) => {
      const record = {};
      names.forEach((name, at) => { record[name] = values[at][row]; });
      return record;
    });
    return found.filter(({ objective, seed }) => objective === undefined || (
      (chosen.objectives === null || chosen.objectives.has(objective)) &&
      (seed === undefined || chosen.seed === "" || String(seed) === chosen.seed)));
  }
  async function draw(element) {
    const chart = made.charts[Number(element.dataset.chart)];
    let look = JSON.stringify({ spec: made.specs[chart.spec], config: made.config });
    if (dark()) for (const [light, other] of Object.entries(made.dark)) look = look.replaceAll(light, other);
    const { spec, config } = JSON.parse(look);
    spec.datasets = {};
    for (const [name, columns] of Object.entries(chart.data)) spec.datasets[name] = records(columns);
    const options = { ast: true, actions: false, renderer: "svg", config, tooltip: { theme: dark() ? "dark" : "light" } };
    views.set(element, (await vegaEmbed(element, spec, options)).view);
  }
  async function drawAll() {
    if (drawing) return;
    drawing = true;
    for (;;) {
      const shown = [...stale].filter((element) => element.offsetParent !== null);
      const next = shown.find((element) => near.has(element)) || shown[0];
      if (!next) break;
      stale.delete(next);
      await draw(next);
      await new Promise((done) => { setTimeout(done); });  // the reader goes first
    }
    drawing = false;
    root.dataset.drawn = "yes";
  }
  function redraw() {
    delete root.dataset.drawn;
    for (const each of charts) stale.add(each);
    drawAll();
  }
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) near[entry.isIntersecting ? "add" : "delete"](entry.target);
    drawAll();
  }, { rootMargin: "300px" });
  for (const each of charts) watch.observe(each);
  systemDark.addEventListener("change", redraw);

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
    drawAll();
  }
  for (const each of all(".anatomy-of")) {
    for (const select of all("select", each)) select.addEventListener("change", () => showAnatomy(each));
  }

  // Objectives and seeds shown on the whole page -----------------------------------------------------------------
  function show() {
    for (const each of all("main [data-o]")) {
      if (each.classList.contains("anatomy")) continue;
      each.classList.toggle("off", chosen.objectives !== null && !chosen.objectives.has(each.dataset.o));
    }
    for (const each of all(".anatomy-of")) showAnatomy(each);
    redraw();
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
  if (theme) {
    theme.addEventListener("change", () => {
      if (theme.value) root.dataset.theme = theme.value;
      else delete root.dataset.theme;
      redraw();
    });
  }
  const fold = document.getElementById("fold");
  const parts = all("section > details");
  if (fold) {
    fold.addEventListener("click", () => {
      const open = !parts.some((part) => part.open);
      for (const part of parts) part.open = open;
    });
    for (const part of parts) {
      part.addEventListener("toggle", () => {
        fold.textContent = parts.some((each) => each.open) ? "Close all" : "Open all";
        drawAll();
      });
    }
  }
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
    const front = (label) => {
      for (const each of all(".chart", entry.closest("section"))) {
        const view = views.get(each);
        if (view) view.signal("front", label).run();
      }
    };
    entry.addEventListener("pointerenter", () => front(entry.dataset.o));
    entry.addEventListener("pointerleave", () => front(""));
  }

  show();
})();
