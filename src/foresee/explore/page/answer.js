// The answer as it grows: a row of places in the task's own order, and a sentence on what happened.

import { make, percent, replace } from "./elements.js";

const WRITTEN_BY = { model: "model", you: "you", shown: "shown" };

export function showSlots(holder, explorer) {
  const { problem } = explorer.trial;
  const slots = Array.from({ length: problem.length }, (_, place) => slot(explorer, place));
  const used = explorer.view.complete ? explorer.trial.begun.length : problem.length;
  // An answer that ended before the longest has no places beyond its end.
  replace(holder, ...(explorer.backward ? slots : slots.slice(0, used)));
}

function slot(explorer, place) {
  const { problem, begun, origins } = explorer.trial;
  const step = explorer.place(place);
  const decided = step < begun.length;
  const branch = problem.branch === place;
  const classes = ["slot"];
  if (branch) classes.push("branch");
  const label = [`Place ${place + 1}${branch ? ", the decision" : ""}`];
  const parts = [make("span", { class: "place" }, branch ? "decision" : String(place + 1))];
  if (decided) {
    const token = begun[step];
    const true_ = problem.truth === null ? null : problem.truth[place];
    const known = problem.truth !== null && origins[step] !== "shown";
    const wanted = explorer.likely ? explorer.view.steps[step].shares[0][0] : token;
    const missed = origins[step] === "shown" && wanted !== token;
    const right = known ? token === true_ : origins[step] === "shown" ? !missed : null;
    if (right !== null) classes.push(right ? "right" : "wrong");
    classes.push(origins[step]);
    const share = explorer.likely ? explorer.view.steps[step].shares.find(([each]) => each === token)[1] : null;
    const mark = right === null ? null : make("span", { class: "mark", "aria-hidden": "true" }, right ? "✓" : "✗");
    parts.push(make("span", { class: "symbol" }, explorer.symbol(token), mark));
    parts.push(make("span", { class: "share" }, share === null ? "" : percent(share)));
    const by = missed ? `said ${explorer.symbol(wanted)}` : WRITTEN_BY[origins[step]];
    parts.push(make("span", { class: "by" }, by));
    label.push(explorer.symbol(token), { model: "written by the model", you: "written by you", shown: "shown" }[origins[step]]);
    if (missed) label.push(`it would have written ${explorer.symbol(wanted)}`);
    if (right !== null) label.push(right ? "right" : "wrong");
    if (share !== null) label.push(`probability ${percent(share)}`);
  } else {
    const open = explorer.scored && step === begun.length && !explorer.view.complete;
    classes.push(open ? "open" : "empty");
    parts.push(make("span", { class: "symbol" }, open ? "?" : "·"));
    parts.push(make("span", { class: "by" }, open ? "next" : ""));
    label.push(open ? "next to be decided" : "not decided yet");
  }
  const looked = explorer.likely && step === explorer.looked;
  if (looked) classes.push("looked");
  const choosable = explorer.likely && step < explorer.view.steps.length;
  const attributes = { class: classes.join(" "), "data-key": `slot ${place}`, "aria-label": label.join(", ") };
  if (!choosable) return make("li", {}, make("span", { ...attributes, role: "img" }, ...parts));
  const act = () => explorer.select(step === explorer.view.steps.length - 1 ? null : step);
  return make("li", {}, make("button", { ...attributes, type: "button", "aria-pressed": String(looked), onclick: act }, ...parts));
}

export function sentence(explorer) {
  const { message, view } = explorer;
  return [message, view.complete ? outcome(explorer) : ""].filter(Boolean).join(" ");
}

function outcome(explorer) {
  const { trial, view } = explorer;
  if (trial.mode === "forced" && trial.origins.every((origin) => origin === "shown")) return forcedOutcome(explorer);
  const forcedByHand = trial.origins.includes("you") ? "With your symbols in it, the answer " : "The answer ";
  if (view.said !== null) {
    // "right: took ...", "wrong from its first symbol: ..." or, where it is wrong later on, "took ...".
    if (view.right) return `${forcedByHand}is right: it ${view.said.replace("right: ", "")}.`;
    return view.said.startsWith("wrong") ? `${forcedByHand}is ${view.said}.` : `${forcedByHand}is wrong: it ${view.said}.`;
  }
  if (view.right === null) return "The answer is complete; whether it is right is not known.";
  return `${forcedByHand}is ${view.right ? "right" : "wrong"}.`;
}

function forcedOutcome(explorer) {
  const { trial, view } = explorer;
  const missed = view.steps.filter((step, at) => step.shares[0][0] !== trial.begun[at]).map((step) => step.place);
  const total = trial.begun.length;
  if (!missed.length) return `With the truth shown, all ${total} steps are right.`;
  const where = missed.map((place) => (place === trial.problem.branch ? "the decision" : `place ${place + 1}`)).join(", ");
  return `With the truth shown, ${total - missed.length} of ${total} steps are right; wrong at ${where}.`;
}
