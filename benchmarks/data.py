"""How fast path-star examples are drawn: 200,000 of G(2,5) with 50 labels.

    python benchmarks/data.py

``sample`` makes examples; ``draw`` also keeps those of the training split, which is what a run does.
"""

from __future__ import annotations

from common import Target, in_turn, parser, write

from foresee.core.seeds import stream
from foresee.core.spec import resolve
from foresee.tasks.base import tasks
from foresee.training.data import draw

MOST_SECONDS = 0.5


def main() -> None:
    """Measures both."""
    arguments = parser(__doc__).parse_args()
    examples = 2_000 if arguments.quick else 200_000
    resolved = resolve(tasks, "path-star:degree=2,length=5,nodes=50,goals=one")
    task = resolved.build()
    seconds = in_turn(
        {
            "sample": lambda: task.sample(examples, stream("bench data")),
            "draw": lambda: draw(task, resolved.text, "train", examples, 0),
        },
        rounds=1 if arguments.quick else 5,
        burst=0.0,
    )
    targets = [Target(f"seconds to draw {examples:,} training examples", seconds["draw"], most=MOST_SECONDS)]
    lines = [f"{name}: {each:.3f} s, {examples / each:,.0f} examples a second" for name, each in seconds.items()]
    write(arguments.json, {"examples": examples, "seconds": seconds}, lines, targets)


if __name__ == "__main__":
    main()
