"""What is said of lines and options that are none of a task's, task by task; path-star's are beside its own tests."""

from __future__ import annotations

from itertools import product

import pytest
from refusals import refused

from foresee.core.spec import resolve
from foresee.tasks import tasks

COPYING, SORTING = "copying:length=3,symbols=5", "sorting:length=4,symbols=6"
COUNT, PLAN = "countdown:numbers=3,largest=20,results=50", "minimal-planning:steps=2,nodes=10"
SAT, GRID = "three-sat:variables=4,clauses=3", "sudoku:box=2,clues=4"
CLAUSES, PUZZLE, PATHS = "1,-2,3/-1,2,4/2,3,-4=", "1000003001000002=", "1,2/4,2/2,5/2,3|1,3="
SIBLINGS = "sibling-discovery:parents=3,siblings=2"
CIRCLE, LINE = "circle-construction:symbols=5,nodes=4", "line-construction:symbols=5,nodes=4"
STAR, GRAPH = "star-medium", "9,6|9,0|0,19|12,15|18,17|3,9|17,13|6,12|9,18"
SEEDED = "path-star:degree=2,length=3,nodes=10,goals=one,seed_length=3"
UNSEEDED, SEED = "1,2|1,3|2,4|3,5/1,4=", "does not begin with a seed of 3 symbols in brackets"

LINES = [
    (COPYING, "4,0=", "the prompt holds 2 numbers, but must hold 3"),
    (COPYING, "4,0,5=", "'5' in the prompt is out of range: it must be from 0 to 4"),
    (COPYING, "4,0,4=4,1,4", "symbol 2 of the answer is 1, but a right answer has 0 there"),
    (COPYING, "4,0,4=4,0", "the answer has 2 symbols, but a right answer has 3"),
    (SORTING, "5,3,3,1=", "'3' is in the prompt twice"),
    ("addition", "057986=", "a prompt is 3 digits, '+', 3 digits and '='"),
    ("addition", "57+986=", "a prompt is 3 digits, '+', 3 digits and '='"),
    ("addition", "057-986=", "'-' in the prompt is not a whole number"),
    ("addition", "057+986=1044", "symbol 4 of the answer is 4, but a right answer has 3 there"),
    ("multiplication", "12*34=0508", "symbol 2 of the answer is 5"),
    (COUNT, "19,13,10=", "a problem is 3 numbers, '/', the target and '='"),
    (COUNT, "19,13/16=", "a problem is 3 numbers"),
    (COUNT, "19,0,10/16=", "the numbers must be from 1 to 50"),
    (COUNT, "19,13,10/16=19-13=6", "the answer has 5 symbols, but 3 numbers take 2 equations"),
    (COUNT, "19,13,10/16=19-13=6,19-6=13", "'19-6=13' uses a number that is not, or no longer, at hand"),
    (COUNT, "19,13,10/16=19-13=7,10+7=17", "'19-13=7' is not true"),
    (COUNT, "19,13,10/16=13-19=0,10+0=10", "'13-19=0' is not true"),
    (COUNT, "19,13,10/16=10-13=0,0+0=0", "'10-13=0' is not true"),
    (COUNT, "19,13,10/16=19-13=6,10-6=4", "the equations leave 4, but the target is 16"),
    (COUNT, "19,13,10/16=19-13,6+10+6=16", "is not an equation"),
    (COUNT, "19,13,10/16=19/13=1,10+6=16", "'19/13=1' is not true"),
    (PLAN, "1,2/4,2/2,5/2,3=", "there must be one '|' after the edges"),
    (PLAN, "1,2/4,2/2,5|1,3=", "the prompt holds 3 edges and 1 pairs of start and goal, but must hold 4 and 1"),
    (PLAN, "1,2/4,2/2,5/2|1,3=", "edge 4 is '2', but an edge is two labels joined by a comma"),
    (PLAN, "1,2/4,2/2,5/2,3|1,3/4,5=", "the prompt holds 4 edges and 2 pairs of start and goal"),
    (PLAN, "1,2/4,2/2,5/2,3|=", "edge 1 is '', but an edge is two labels"),
    (PLAN, "1,2/4,2/2,5/2,3|1,4=", "no path of 2 edges leads from 1 to 4"),
    (PLAN, "1,2/4,7/7,5/2,3|1,3=", "do not form two paths of 2 edges that cross at one node"),
    (PLAN, "1,2/4,6/6,3/2,3|1,3=", "do not form two paths of 2 edges that cross at one node before their ends"),
    (PLAN, PATHS + "1,2/2,5", "symbol 5 of the answer is 5, but a right answer has 3 there"),
    (SAT, "1,-2,3/-1,2,4=", "the problem holds 2 clauses, but must hold 3"),
    (SAT, "1,-2,3/-1,2,4/2,3,5=", "'5' in clause 3 is out of range"),
    (SAT, "1,-2,3/-1,2,4/2,-2,4=", "clause 3 is not three different variables"),
    (SAT, "1,-2,3/-1,2,4/2,4=", "clause 3 is not three different variables"),
    (SAT, CLAUSES + "1,-2,3", "not one literal for each of the variables 1 to 4"),
    (SAT, CLAUSES + "1,-2,-3,-4", "the answer does not satisfy clause 2, -1,2,4"),
    (GRID, "100000300100000=", "the prompt holds 15 numbers, but must hold 16"),
    (GRID, "1001003001000002=", "digit 1 occurs twice in row 1"),
    (GRID, PUZZLE + "2431314213244213", "cell 1 of the answer is 2, but the puzzle gives 1 there"),
    (GRID, PUZZLE + "1234", "the answer has 4 cells, but the grid has 16"),
    (GRID, PUZZLE + "1111111111111111", "cell 7 of the answer is 1, but the puzzle gives 3 there"),
    (SIBLINGS, "b0,c0,a0", "a line reads =b0,c0,a0"),
    (SIBLINGS, "x=b0,c0,a0", "'x' in the prompt is not a symbol of the task"),
    (SIBLINGS, "=b0,c0", "the answer has 2 symbols, but must have 3"),
    (SIBLINGS, "=b0,c0,c1", "the answer ends with c1, but must end with a parent"),
    (SIBLINGS, "=c0,b0,a0", "c0 stands where a child of kind b must"),
    (SIBLINGS, "=b0,c2,a0", "c2 is a child of a1, not of a0"),
    (SIBLINGS, "=b0,=,a0", "= stands where a child of kind c must"),
    (CIRCLE, "0,1|1,2|2,3|3,0", "a line reads =u,v|u,v|..."),
    (CIRCLE, "=0,1|1,2|2,3", "there are 3 edges, but 4 nodes make 4"),
    (CIRCLE, "=0,1|1,0|2,3|3,2", "the edges are not one circle through 4 nodes"),
    (CIRCLE, "=0,1|1,2|2,3|3,4", "the edges are not one circle through 4 nodes"),
    (CIRCLE, "=0,1|1,2|2,0|3,3", "the edges are not one circle through 4 nodes"),
    (CIRCLE, "=0,1|0,2|2,3|3,1", "a node is left twice"),
    (CIRCLE, "=0,1|1,2|3,2|2,0", "a node is entered twice"),
    (CIRCLE, "=0,1|1,2|2,3|3", "edge 4 is '3', but an edge is two labels"),
    (LINE, "=0,1|1,2|2,0", "the edges are not one path over 4 nodes"),
    (LINE, "=0,1|1,0|2,3", "the edges are not one path over 4 nodes"),
    (LINE, "=0,1|1,2", "there are 2 edges, but 4 nodes make 3"),
    (STAR, "9,6|9,0|0,19|12,15|18,17|3,9|17,13|6,12/9,13=", "leads to no centre"),
    (STAR, f"{GRAPH}/9,17=", "no path leads from 9 to 17"),
    (STAR, f"{GRAPH}/6,15=", "leads to no centre"),
    (STAR, f"{GRAPH.replace('3,9', '3,5')}/9,13=", "some do not lie on a path through the centre"),
    (STAR, "9,6|9,0|9,18/9,18=", "there are 3 edges, but the task has from 6 to 15"),
    (STAR, f"{GRAPH}/9=", "'9' stands between '/' and '='"),
    *((SEEDED, line, SEED) for line in (
        UNSEEDED, f"[b0]{UNSEEDED}", f"[b0aa]{UNSEEDED}", f"[b0A]{UNSEEDED}", f"b0a{UNSEEDED}", "[b0a", "",
    )),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "line", "reason"), LINES)
def test_bad_lines_say_why(spec: str, line: str, reason: str) -> None:
    task = resolve(tasks, spec).build()
    with refused(reason):
        task.read_line(line)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("sorting:length=7,symbols=6", "sorting: length=7 must be from 1 to 6"),
        ("noisy-chain:key=19", "makes 10**20 prompts"),
        ("addition:digits=18", "addition: digits=18 must be from 1 to 17"),
        ("multiplication:digits=0", "multiplication: digits=0 must be from 1 to 9"),
        ("minimal-planning:steps=5,nodes=10", "nodes=10 must be from 11"),
        ("three-sat:variables=3,clauses=8", "clauses=8 must be from 1 to 7"),
        ("line-construction:symbols=4,nodes=5", "symbols=4 must be at least 5"),
        ("triangle-discovery:nodes=5,degree=5", "nodes=5 must be at least 6"),
        ("in-weights-path-star:degree=4,length=4,query=end", "must be one of goal, start-goal"),
        ("retrieval:pairs=200,symbols=14,key_length=2", "make 196 strings, but pairs=200 needs as many"),
        ("retrieval:pairs=20,both_ways=0.99", "with one pair left to ask for"),
        ("path-star:seed_length=-1", "seed_length=-1 must be at least 1, or 0 alone for no seed at all"),
        ("path-star:seed_symbols=5", "seed_length=0 must be at least 1, or 0 alone for no seed at all"),
        ("path-star:seed_length=2,seed_symbols=37", "seed_symbols=37 must be from 1 to 36"),
        ("path-star:seed_lenght=2", "has no option 'seed_lenght': did you mean 'seed_length'"),
    ],
)
def test_impossible_options_are_refused(spec: str, reason: str) -> None:
    with refused(reason):
        resolve(tasks, spec).build()


EVERY_SIGN = "/".join(",".join(clause) for clause in product(("1", "-1"), ("2", "-2"), ("3", "-3")))


def test_a_prompt_that_is_not_the_task_s_or_has_no_solution_is_refused() -> None:
    for spec, line, reason in (
        (COUNT, "1,1,1/50=", "no arithmetic up to 50 on 1,1,1 leaves 50"),
        (GRID, "1230000400000000=", "the puzzle has no solution"),
        ("three-sat:variables=4,clauses=8", f"{EVERY_SIGN}=", "no assignment satisfies all clauses"),
    ):
        task = resolve(tasks, spec).build()
        with refused(reason):
            task.solve(task.read_line(line)[0])
    for spec in (SIBLINGS, CIRCLE, LINE):
        task = resolve(tasks, spec).build()
        for prompt in ([], [0], [task.vocab.token("="), 0]):
            with refused("the prompt holds the tokens"):
                task.solve(prompt)
