// Five steps that show what a model does at its one decision, each done by a click.

import { find, make, replace } from "./elements.js";

const STEPS = [
  ["The decision", "The first symbol is a copy of the start. The second, framed, is the only decision: which arm? Look at how likely it finds each.",
    (explorer) => explorer.toDecision()],
  ["Freely", "Let it write to the end.",
    async (explorer) => {
      await explorer.toDecision();
      await explorer.end();
    }],
  ["A wrong arm", "Put it on an arm that does not lead to the goal, and let it go on. A model that learned the shortcut walks that arm, wherever the goal is.",
    async (explorer) => {
      await explorer.toDecision();
      await explorer.write(explorer.wrongArm[1]);
      await explorer.end();
    }],
  ["The truth shown", "As in training: at every step it is shown the true symbols so far. Which steps would it get wrong?",
    async (explorer) => {
      await explorer.toDecision();
      await explorer.setMode("forced");
      await explorer.end();
    }],
  ["Another goal", "The same graph, with the goal at the end of another arm. A model that looks ahead changes its mind at the decision.",
    async (explorer) => {
      await explorer.chooseGoal(explorer.wrongArm.at(-1));
      await explorer.toDecision();
    }],
];

// Offered wherever it can be walked: decided from the first symbol to the last, with a decision and arms to choose from.
export function showWalk(explorer, act) {
  find("walk").hidden = !explorer.walkable;
  if (!explorer.walkable) return;
  replace(find("steps"), ...STEPS.map(([name, text, does], at) =>
    make("li", {}, make("button", { type: "button", "data-key": `walk ${at}`, onclick: () => act(async () => {
      if (explorer.walkable) await does(explorer);
    }) }, name), " ", text)));
}
