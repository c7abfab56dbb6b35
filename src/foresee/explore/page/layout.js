// Where the nodes of a star, or of a tree, stand: the start on the left, a row for each end, each step to the right.

export const UNIT = 60;
export const RADIUS = 18;

export function layout(graph, strays) {
  const flagAbove = graph.paths.every((path) => path.at(-1) !== graph.goal);
  const rows = graph.paths.length;
  const gap = UNIT * (rows <= 5 ? 1.05 : 0.92);
  // Many arms stand further from the start, so that the edges to them fan out.
  const fan = UNIT * Math.max(1, 0.17 * (rows - 1));
  const heights = new Map();
  const distances = new Map();
  graph.paths.forEach((path, row) =>
    path.forEach((node, distance) => {
      heights.set(node, [...(heights.get(node) ?? []), row * gap]);
      distances.set(node, distance);
    }),
  );
  const spots = new Map();
  for (const [node, each] of heights) {
    const distance = distances.get(node);
    const x = distance === 0 ? 0 : fan + (distance - 1) * UNIT;
    spots.set(node, { x, y: each.reduce((sum, y) => sum + y, 0) / each.length });
  }
  strays.forEach((place, node) => spots.set(node, { x: Math.max(0, place) * UNIT, y: rows * gap }));
  const longest = Math.max(...graph.paths.map((path) => path.length));
  const last = fan + (longest - 2) * UNIT;
  const box = {
    left: -0.5 * UNIT,
    top: -(flagAbove ? 0.8 : 0.55) * UNIT,
    width: Math.max(last, ...[...spots.values()].map((spot) => spot.x)) + 1.75 * UNIT,
    height: (strays.size ? rows : rows - 1) * gap + (flagAbove ? 1.5 : 1.25) * UNIT,
  };
  return { spots, box };
}

// A line from the rim of one node to the rim of another; a bent one where there is no edge, so that it crosses no node.
export function line(from, to, bent) {
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy);
  const bend = bent ? Math.min(0.35 * length, 0.7 * UNIT) : 0;
  const middle = { x: (from.x + to.x) / 2 + (dy / length) * bend, y: (from.y + to.y) / 2 - (dx / length) * bend };
  const start = towards(from, middle, RADIUS + 1);
  const end = towards(to, middle, RADIUS + 5);
  return `M${round(start.x)} ${round(start.y)}Q${round(middle.x)} ${round(middle.y)} ${round(end.x)} ${round(end.y)}`;
}

function towards(from, to, length) {
  const whole = Math.hypot(to.x - from.x, to.y - from.y) || 1;
  return { x: from.x + ((to.x - from.x) * length) / whole, y: from.y + ((to.y - from.y) * length) / whole };
}

const round = (value) => Math.round(value * 10) / 10;
