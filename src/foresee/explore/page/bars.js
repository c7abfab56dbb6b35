// How likely the model holds each symbol at the step that is looked at. A click writes the symbol, unless the answer is
// decided as a whole.

import { find, make, percent, replace } from "./elements.js";

export function showBars(holder, explorer) {
  const { trial, view } = explorer;
  find("likely").hidden = explorer.whole && !explorer.likely;
  if (explorer.whole && !explorer.likely) return;
  find("other").hidden = explorer.whole || (!explorer.scored && view.complete);
  if (!explorer.likely) {
    find("likely-title").textContent = "Next symbol";
    find("likely-key").textContent = "This objective gives no probabilities; let it step, or write a symbol yourself.";
    replace(holder);
    return;
  }
  const step = explorer.looked;
  const { place, shares, others } = view.steps[step];
  const open = step >= trial.begun.length;
  const branch = place === trial.problem.branch;
  find("likely-title").textContent = `Place ${place + 1}${branch ? ", the decision" : ""}: ${open ? "what comes next" : "what was likely"}`;
  find("likely-key").textContent = explorer.whole ? decidedIn(view.steps, step) : open
    ? "Step takes the first. Click another to write it instead, and see where it leads."
    : "Click another symbol to go back and write it here instead.";
  const truth = trial.problem.truth === null ? null : trial.problem.truth[place];
  const rows = shares.map(([token, share], rank) => bar(explorer, step, token, share, rank, truth, branch));
  const rest = make("li", { class: "rest" }, make("span", {}, "all others"), make("span", { class: "share" }, percent(others)));
  replace(holder, ...rows, rest);
  holder.classList.toggle("branch", branch);
}

function decidedIn(steps, step) {
  const passes = Math.max(...steps.map((each) => each.pass));
  if (passes === 1) return "All places were decided at once, from the prompt alone.";
  const { pass } = steps[step];
  const before = pass === 1 ? "from the prompt alone" : "with the places of earlier passes written";
  return `Decided in pass ${pass} of ${passes}, ${before}.`;
}

function bar(explorer, step, token, share, rank, truth, branch) {
  const written = explorer.trial.begun[step] === token;
  const notes = [];
  if (token === truth) notes.push("true");
  if (written) notes.push("written");
  const arm = branch ? armOf(explorer.trial.problem.graph, token) : null;
  if (arm !== null) notes.push(`arm ${arm}`);
  const filled = make("span", { class: "filled" });
  filled.style.width = `${Math.max(100 * share, 0.4)}%`;
  const classes = ["bar-row", token === truth ? "truth" : "", written ? "written" : "", arm === null ? "" : "arm"];
  const attributes = { class: classes.filter(Boolean).join(" "), "data-key": `bar ${rank}`, "data-token": token };
  const parts = [
    rank < 9 && !explorer.whole ? make("kbd", {}, String(rank + 1)) : make("span", { class: "no-key" }),
    make("span", { class: "symbol" }, explorer.symbol(token)),
    make("span", { class: "track" }, filled),
    make("span", { class: "share" }, percent(share)),
    make("span", { class: "notes" }, notes.join(" · ")),
  ];
  const told = [explorer.symbol(token), percent(share), ...notes].join(", ");
  if (explorer.whole) return make("li", {}, make("span", { ...attributes, role: "img", "aria-label": told }, ...parts));
  const act = () => explorer.act(() => explorer.write(token, step));
  const button = make("button", { ...attributes, type: "button", "aria-label": `Write ${told}`, onclick: act }, ...parts);
  return make("li", {}, button);
}

function armOf(graph, token) {
  const at = graph === null ? -1 : graph.paths.findIndex((path) => path[1] === token);
  return at < 0 ? null : at + 1;
}
