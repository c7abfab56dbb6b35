// The page: what its buttons and keys do, and what is shown after each.

import { sentence, showSlots } from "./answer.js";
import { CallError, call } from "./api.js";
import { showBars } from "./bars.js";
import { find, make, replace } from "./elements.js";
import { showGraph } from "./graph.js";
import { Explorer } from "./state.js";

const ORDERS = {
  forward: "It decides one symbol at a time, from the first to the last.",
  backward: "It decides one symbol at a time, from the last to the first: the answer fills up from the right.",
  parallel: "It does not decide from left to right, and gives no probabilities on its way: only its final answer can be shown.",
};

const MOST_OFFERED = 1000; // symbols in the list that a text field opens

let explorer;
let waiting = Promise.resolve();

// Presses and clicks are done one after the other, however fast they come.
function act(what, errorPlace = null) {
  waiting = waiting.then(async () => {
    find("main").setAttribute("aria-busy", "true");
    try {
      clearErrors();
      await what();
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      report(error.message, errorPlace);
    } finally {
      find("main").removeAttribute("aria-busy");
    }
  });
}

function report(message, place) {
  const holder = find(place ?? "problem-with-page");
  holder.textContent = message;
  holder.hidden = false;
}

function clearErrors() {
  for (const id of ["problem-with-page", "line-error", "other-error"]) find(id).textContent = "";
  find("problem-with-page").hidden = true;
}

function show() {
  const { trial, view, past } = explorer;
  showGraph(find("graph"), explorer);
  showSlots(find("slots"), explorer);
  showBars(find("bars"), explorer);
  find("status").textContent = sentence(explorer);
  replace(find("tokens"), ...trial.problem.prompt.map((token) => make("li", {}, explorer.symbol(token))));
  if (document.activeElement !== find("line")) find("line").value = trial.problem.line;
  find("step").disabled = view.complete;
  find("end").disabled = view.complete;
  find("undo").disabled = past.length === 0;
  find("restart").disabled = trial.begun.length === 0;
  find("shuffle").hidden = !trial.problem.graph?.edges_may_move;
  find("asked").textContent = trial.problem.graph ? "" : trial.problem.line;
  find("question-title").textContent = trial.problem.graph ? "The graph" : "The question";
  for (const radio of document.getElementsByName("mode")) {
    radio.checked = radio.value === trial.mode;
    radio.disabled = radio.value === "forced" && !explorer.forceable;
  }
}

function say(message) {
  find("status").textContent = message;
}

function introduce(run) {
  const name = run.objective.split(":")[0];
  const rate = run.exact.toFixed(3);
  const guess = run.task.startsWith("data:") ? "always giving the most frequent answer" : "guessing the decision";
  find("about").replaceChildren(
    make("b", {}, name), " on ", make("span", { class: "mono" }, run.task),
    `: ${rate} of new examples exactly right, where ${guess} gives ${run.chance.toPrecision(2)}. Verdict: `,
    make("b", {}, run.verdict), ".", ...run.doubts.map((doubt) => ` Not conclusive: ${doubt}.`),
  );
  find("order").textContent = run.decoding === "whole" ? ORDERS.parallel : ORDERS[run.order];
  find("mode").hidden = run.decoding !== "scored";
  find("end").hidden = run.decoding === "whole";
  if (run.decoding === "whole") find("step").firstChild.textContent = "Let it answer ";
  find("symbols").replaceChildren(...run.symbols.slice(0, MOST_OFFERED).map((symbol) => make("option", { value: symbol })));
}

const KEYS = {
  s: () => explorer.step(),
  e: () => explorer.end(),
  u: () => explorer.undo(),
  r: () => explorer.restart(),
  n: () => explorer.draw(),
  h: () => (explorer.trial.problem.graph?.edges_may_move ? explorer.shuffle() : undefined),
  m: () => explorer.setMode(explorer.trial.mode === "free" ? "forced" : "free"),
};

function pressed(event) {
  const writing = event.target.matches("textarea, input:not([type=radio]):not([type=checkbox])");
  if (writing || event.altKey) return;
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key.toLowerCase() === "z") {
    event.preventDefault();
    act(() => explorer.undo());
    return;
  }
  if (event.ctrlKey || event.metaKey || !find("single-keys").checked) return;
  const does = KEYS[event.key.toLowerCase()];
  if (does) {
    event.preventDefault();
    act(does);
  } else if (/^[1-9]$/.test(event.key)) {
    act(() => writeRanked(Number(event.key) - 1));
  }
}

async function writeRanked(rank) {
  const share = explorer.view.steps[explorer.looked]?.shares[rank];
  if (share !== undefined) await explorer.write(share[0]);
}

function wire() {
  find("draw").addEventListener("click", () => act(KEYS.n));
  find("shuffle").addEventListener("click", () => act(KEYS.h));
  find("step").addEventListener("click", () => act(KEYS.s));
  find("end").addEventListener("click", () => act(KEYS.e));
  find("undo").addEventListener("click", () => act(KEYS.u));
  find("restart").addEventListener("click", () => act(KEYS.r));
  for (const radio of document.getElementsByName("mode")) radio.addEventListener("change", () => act(() => explorer.setMode(radio.value)));
  find("other").addEventListener("submit", (event) => {
    event.preventDefault();
    const symbol = find("other-symbol").value.trim();
    act(async () => {
      const token = explorer.tokenOf(symbol);
      if (token < 0) throw new CallError(symbol ? `${symbol} is no symbol of this model.` : "Type a symbol first.");
      await explorer.write(token);
      find("other-symbol").value = "";
    }, "other-error");
  });
  find("typed").addEventListener("submit", (event) => {
    event.preventDefault();
    act(async () => {
      await explorer.read(find("line").value.trim());
      find("line").value = explorer.trial.problem.line;
    }, "line-error");
  });
  document.addEventListener("keydown", pressed);
}

act(async () => {
  const run = await call("run");
  explorer = new Explorer(run, show);
  explorer.act = act;
  explorer.say = say;
  introduce(run);
  await explorer.begin();
  explorer.changed();
  wire();
  find("main").hidden = false;
});
