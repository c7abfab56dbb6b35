// What is tried at the moment, and how it was reached.
//
// A trial is the problem, the symbols decided so far in the model's own order, who wrote each of them ("model", "you",
// or "shown" where it is the truth), and the mode. It is never changed, only replaced, so that undo is a list of them.

import { call } from "./api.js";

const EVERYTHING = 1_000_000;

export class Explorer {
  constructor(run, changed) {
    this.run = run;
    this.changed = changed;
    this.past = [];
    this.number = 0;
    this.shuffles = 0;
    this.selected = null; // a step that is looked at again; null for the one that is open
    this.message = "";
  }

  get backward() {
    return this.run.order === "backward";
  }

  get scored() {
    return this.run.decoding === "scored";
  }

  get whole() {
    return this.run.decoding === "whole";
  }

  // Whether it is known how likely the symbols of the steps so far were.
  get likely() {
    return this.view.steps.length > 0;
  }

  // The true symbols in the model's own order; nothing where many answers are right.
  get expected() {
    const truth = this.trial.problem.truth;
    if (truth === null) return null;
    return this.backward ? truth.toReversed() : truth;
  }

  get forceable() {
    return this.scored && this.trial.problem.truth !== null;
  }

  // The step whose probabilities are shown: the one chosen, the open one, or the last.
  get looked() {
    const last = this.view.steps.length - 1;
    return this.selected === null ? last : Math.min(this.selected, last);
  }

  place(step) {
    return this.backward ? this.trial.problem.length - 1 - step : step;
  }

  // White space is made visible.
  symbol(token) {
    return this.run.symbols[token].replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥");
  }

  // The token of a symbol as it is or as it is shown; -1 where there is none.
  tokenOf(text) {
    const exact = this.run.symbols.indexOf(text);
    return exact >= 0 ? exact : this.run.symbols.findIndex((_, token) => this.symbol(token) === text);
  }

  async begin() {
    await this.#take(await this.#fresh(await call("draw", { number: 0 }), "free"), "");
    this.past = [];
  }

  async draw() {
    this.number += 1;
    await this.#ask(await call("draw", { number: this.number }), "A new example.");
  }

  async shuffle() {
    this.shuffles += 1;
    const { prompt } = this.trial.problem;
    await this.#ask(await call("shuffle", { prompt, number: this.shuffles }), "The same graph, its edges in another order.");
  }

  async chooseGoal(goal) {
    const { prompt } = this.trial.problem;
    await this.#ask(await call("goal", { prompt, goal }), `The goal is now ${this.symbol(goal)}.`);
  }

  async read(line) {
    await this.#ask(await call("read", { line }), "Your prompt.");
  }

  async step() {
    if (this.view.complete) return;
    if (this.trial.mode === "forced") await this.#reveal(this.trial.begun.length + 1);
    else await this.#continue(1);
  }

  async end() {
    if (this.view.complete) return;
    if (this.trial.mode === "forced") await this.#reveal(this.expected.length);
    else await this.#continue(EVERYTHING);
  }

  // Writes a symbol at a step, whatever the model would have written; what came after it is dropped.
  async write(token, step = this.looked) {
    if (this.whole) return;
    const { problem, begun, origins, mode } = this.trial;
    const at = this.scored ? step : begun.length;
    if (at >= problem.length || (this.view.complete && at >= begun.length)) return;
    const trial = { problem, begun: [...begun.slice(0, at), token], origins: [...origins.slice(0, at), "you"], mode: "free" };
    const left = mode === "forced" ? " From here on it is free." : "";
    await this.#take(trial, `You wrote ${this.symbol(token)}.${left}`);
  }

  async setMode(mode) {
    if (mode === this.trial.mode || (mode === "forced" && !this.forceable)) return;
    const { problem, begun, origins } = this.trial;
    if (mode === "free") {
      await this.#take({ problem, begun, origins, mode }, "Free: it reads what is written, right or wrong.");
      return;
    }
    const shown = this.expected.slice(0, begun.length);
    const said = "Forced: whatever it would write, it is shown the true symbols.";
    await this.#take({ problem, begun: shown, origins: shown.map(() => "shown"), mode }, said);
  }

  async restart() {
    if (this.trial.begun.length) await this.#take(await this.#fresh(this.trial.problem, this.trial.mode), "Started over.");
  }

  async undo() {
    if (!this.past.length) return;
    const trial = this.past.pop();
    await this.#look(trial, 0);
    this.#show("Undone.");
  }

  select(step) {
    this.selected = step === this.selected ? null : step;
    this.#show("");
  }

  async #continue(ahead) {
    const before = this.trial.begun.length;
    const trial = this.trial;
    await this.#look(trial, ahead);
    this.past.push(trial);
    const written = this.view.begun.slice(before);
    this.trial = { ...trial, begun: this.view.begun, origins: [...trial.origins, ...written.map(() => "model")] };
    this.#show(written.length === 1 ? this.#toldStep(before) : "");
  }

  async #reveal(length) {
    const begun = this.expected.slice(0, length);
    const at = this.trial.begun.length;
    await this.#take({ ...this.trial, begun, origins: begun.map(() => "shown") }, "");
    this.#show(length === at + 1 ? this.#toldStep(at) : "");
  }

  #toldStep(step) {
    if (!this.scored) return "";
    const token = this.trial.begun[step];
    const wanted = this.view.steps[step].shares[0][0];
    if (this.trial.origins[step] !== "shown") return `It wrote ${this.symbol(token)}.`;
    if (wanted === token) return `It would have written ${this.symbol(token)}, which is right.`;
    return `It would have written ${this.symbol(wanted)}; it was shown ${this.symbol(token)}.`;
  }

  #fresh(problem, mode) {
    const keeps = mode === "forced" && this.scored && problem.truth !== null;
    return { problem, begun: [], origins: [], mode: keeps ? "forced" : "free" };
  }

  async #ask(problem, message) {
    await this.#take(this.#fresh(problem, this.trial.mode), message);
  }

  async #take(trial, message) {
    const before = this.trial;
    await this.#look(trial, 0);
    if (before) this.past.push(before);
    this.#show(message);
  }

  // Asks what the model makes of a trial, and only then makes it the current one.
  async #look(trial, ahead) {
    const { problem, begun } = trial;
    this.view = await call("decide", { prompt: problem.prompt, begun, ahead });
    this.trial = trial;
    this.selected = null;
  }

  #show(message) {
    this.message = message;
    this.changed();
  }
}
