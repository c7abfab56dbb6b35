// The graph of a prompt, with what has been written along it and how likely each node is next.

import { draw, find, percent, replace } from "./elements.js";
import { RADIUS, UNIT, layout, line } from "./layout.js";

const ARROWS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
const NOTABLE = 0.005;

let current = null; // the node that the tab key leads to

export function showGraph(holder, explorer) {
  const { graph } = explorer.trial.problem;
  holder.hidden = graph === null;
  find("graph-key").hidden = graph === null;
  if (graph === null) return replace(holder);
  const walk = walked(explorer);
  const known = new Set(graph.paths.flat());
  const strays = new Map();
  for (const { token, place } of walk) if (!known.has(token) && !strays.has(token)) strays.set(token, place);
  const { spots, box } = layout(graph, strays);
  const svg = draw("svg", {
    viewBox: `${box.left} ${box.top} ${box.width} ${box.height}`, role: "group",
    "aria-label": `The graph: ${graph.paths.length} ways out of ${explorer.symbol(graph.start)}; the goal is ${explorer.symbol(graph.goal)}`,
  });
  svg.style.minWidth = `${Math.round(0.62 * box.width)}px`;
  svg.style.maxWidth = `${Math.round(1.5 * box.width)}px`;
  svg.append(arrowheads(), ...goalPath(graph, spots), ...edges(graph, spots), ...arrows(graph, walk, spots));
  if (!spots.has(current) || strays.has(current)) current = graph.start;
  const shares = nextShares(explorer);
  for (const [node, spot] of spots) svg.append(nodeAt(explorer, node, spot, walk, shares, strays.has(node)));
  svg.addEventListener("keydown", (event) => moveFocus(event, svg, spots));
  replace(holder, svg);
  find("graph-key").textContent = key(explorer, graph);
}

function key(explorer, graph) {
  const goal = graph.goals.length ? "Click the end of an arm to make it the goal" : "";
  const write = explorer.whole ? "" : "click another node to write it next";
  const told = [goal, write].filter(Boolean).join("; ");
  const scored = explorer.scored ? " Percentages: how likely each node is next." : "";
  const shown = explorer.whole && explorer.likely ? " Percentages: how likely each node was at the place looked at." : scored;
  return told ? `${told[0].toUpperCase()}${told.slice(1)}.${shown}` : shown.trim();
}

// What is written, in the task's order, as { token, place, by }; it begins at the start also where the answer does not.
function walked(explorer) {
  const { problem, begun, origins } = explorer.trial;
  const steps = begun.map((token, step) => ({ token, place: explorer.place(step), by: origins[step] }));
  steps.sort((one, other) => one.place - other.place);
  const { graph, truth } = problem;
  const from = truth !== null && truth[0] !== graph.start ? [{ token: graph.start, place: -1, by: "shown" }] : [];
  return [...from, ...steps];
}

function nextShares(explorer) {
  const step = explorer.likely ? explorer.view.steps[explorer.looked] : undefined;
  return new Map(step === undefined ? [] : step.shares);
}

function arrowheads() {
  const heads = ["model", "you", "shown"].map((by) =>
    draw("marker", { id: `head-${by}`, viewBox: "0 0 10 10", refX: 6, refY: 5, markerWidth: 11, markerHeight: 11,
      markerUnits: "userSpaceOnUse", orient: "auto" }, draw("path", { d: "M0 0L10 5L0 10z", class: `head ${by}` })));
  return draw("defs", {}, ...heads);
}

function goalPath(graph, spots) {
  const path = graph.paths.find((each) => each.includes(graph.goal));
  const points = path.slice(0, path.indexOf(graph.goal) + 1).map((node) => `${spots.get(node).x},${spots.get(node).y}`);
  return [draw("polyline", { points: points.join(" "), class: "goal-path" })];
}

function edges(graph, spots) {
  const drawn = new Map();
  for (const path of graph.paths) path.slice(1).forEach((node, at) => drawn.set(node, [path[at], node]));
  return [...drawn.values()].map(([from, to]) => {
    const [a, b] = [spots.get(from), spots.get(to)];
    return draw("line", { x1: a.x, y1: a.y, x2: b.x, y2: b.y, class: "edge" });
  });
}

function arrows(graph, walk, spots) {
  const real = new Set(graph.paths.flatMap((path) => path.slice(1).map((node, at) => `${path[at]} ${node}`)));
  return walk.slice(1).flatMap((to, at) => {
    const from = walk[at];
    if (to.place !== from.place + 1 || to.token === from.token) return [];
    const edge = real.has(`${from.token} ${to.token}`);
    const d = line(spots.get(from.token), spots.get(to.token), !edge);
    return [draw("path", { d, class: `walk ${to.by}${edge ? "" : " jump"}`, "marker-end": `url(#head-${to.by})` })];
  });
}

function nodeAt(explorer, node, spot, walk, shares, stray) {
  const { graph } = explorer.trial.problem;
  const ends = new Set(graph.paths.map((path) => path.at(-1)));
  const goal = node === graph.goal;
  const choosesGoal = ends.has(node) && graph.goals.includes(node);
  const usable = choosesGoal || !explorer.whole;
  const share = shares.get(node) ?? 0;
  const written = walk.filter((each) => each.token === node && each.place >= 0).at(-1);
  const name = explorer.symbol(node);
  const classes = ["node", goal ? "goal" : "", stray ? "stray" : "", written ? `written ${written.by}` : ""];
  const where = place(graph, node);
  const does = choosesGoal ? (goal ? "the goal" : "make it the goal") : explorer.whole ? "" : "write it next";
  const label = [name, where, does, share >= NOTABLE ? `${percent(share)} likely next` : ""].filter(Boolean).join(", ");
  const act = () => {
    current = node;
    if (!usable) return;
    if (!choosesGoal) explorer.act(() => explorer.write(node));
    else if (!goal) explorer.act(() => explorer.chooseGoal(node));
    else explorer.say(`${name} is the goal already. To write it, choose it in the list of symbols.`);
  };
  return draw(
    "g",
    {
      class: classes.filter(Boolean).join(" "), role: "button", tabindex: node === current ? 0 : -1,
      "data-key": `node ${node}`, "data-node": node, "aria-label": label, "aria-disabled": usable ? null : "true",
      transform: `translate(${spot.x} ${spot.y})`, onclick: act,
      onkeydown: (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        act();
      },
    },
    draw("circle", { r: RADIUS + 6, class: "ring" }),
    draw("circle", { r: RADIUS, class: "body" }),
    draw("circle", { r: RADIUS, class: "likely", "fill-opacity": (0.75 * share).toFixed(3) }),
    draw("text", { class: name.length > 3 ? "name long" : "name" }, name.length > 5 ? `${name.slice(0, 4)}…` : name),
    share >= NOTABLE ? draw("text", { class: "share", y: RADIUS + (goal ? 15 : 12) }, percent(share)) : null,
    goal ? draw("text", ends.has(node) ? { class: "flag beside", x: RADIUS + 11 } : { class: "flag", y: -RADIUS - 15 }, "goal") : null,
  );
}

function place(graph, node) {
  if (node === graph.start) return "the start";
  const arm = graph.paths.findIndex((path) => path.includes(node));
  if (arm < 0) return "not in the graph";
  const path = graph.paths[arm];
  return path.at(-1) === node ? `the end of arm ${arm + 1}` : `arm ${arm + 1}, step ${path.indexOf(node)}`;
}

function moveFocus(event, svg, spots) {
  const direction = ARROWS[event.key];
  if (direction === undefined) return;
  event.preventDefault();
  const here = spots.get(current);
  const [dx, dy] = direction;
  const cost = (spot) => {
    const along = (spot.x - here.x) * dx + (spot.y - here.y) * dy;
    const aside = Math.abs((spot.x - here.x) * dy) + Math.abs((spot.y - here.y) * dx);
    return along > UNIT / 10 ? along + 2 * aside : Infinity;
  };
  const best = [...spots.entries()].reduce((one, other) => (cost(other[1]) < cost(one[1]) ? other : one));
  if (cost(best[1]) === Infinity) return;
  current = best[0];
  for (const node of svg.querySelectorAll(".node")) {
    const here_ = Number(node.dataset.node) === current;
    node.setAttribute("tabindex", here_ ? "0" : "-1");
    if (here_) node.focus();
  }
}
