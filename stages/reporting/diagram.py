"""A network as an SVG drawing: its blocks, which of them are frozen, and its heads.

The page's style sheet gives the colours; frozen parts also have dashed lines and a word.
"""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from stages.core.sections import TASKS
from stages.reporting.structure import END_OF_BACKBONE, Step, Structure

WIDTH, MARGIN = 380, 14  # a phone shows this width unscaled
BLOCK_HEIGHT, BLOCK_GAP = 30, 10
STEP_WIDTH, STEP_HEIGHT, STEP_GAP = 106, 36, 20
LANE = 6  # how far beside its column an edge runs that passes other steps
ARROW = 3  # half the width of an arrow's head

_PREPROCESSING = {"unit": "pixels / 255", "native": "as the weights expect"}
_ACTIVATIONS = {"relu": "ReLU", "linear": "fixed sums"}

Point = tuple[float, float]


def draw_structure(structure: Structure, title: str) -> Markup:
    """Draw a network; the title and its description in words are the alternative text."""
    backbone, bottom = _backbone(structure)
    heads, end = _heads(structure.heads, bottom)
    return Markup(
        '<svg class="structure" viewBox="0 0 {0} {1}" width="{0}" height="{1}" role="img" '
        'aria-label="{2}: {3}">{4}</svg>'
    ).format(
        WIDTH, f"{end + MARGIN:g}", title, in_words(structure), Markup("").join(backbone + heads)
    )


def in_words(structure: Structure) -> str:
    """The structure in a sentence."""
    parts = []
    for word, learns in (("frozen", False), ("learning", True)):
        names = [block.name for block in structure.blocks if block.learns == learns]
        parts += [f"{word} {', '.join(names)}"] if names else []
    outputs = [step.name for step in structure.heads if step.name in TASKS]
    gates = [step.name for step in structure.heads if step.name.endswith(("_gate", "_attention"))]
    through = f" with {', '.join(gates)}" if gates else ""
    return f"{'; '.join(parts)}; heads {', '.join(outputs)}{through}"


def _backbone(structure: Structure) -> tuple[list[Markup], float]:
    rows = [
        ("image", f"{_size(structure.image)}, uint8", ""),
        ("preprocessing", _PREPROCESSING.get(structure.preprocessing, "none"), ""),
    ]
    for block in structure.blocks:
        layers = f"{block.convolutions} convolution{'s' * (block.convolutions > 1)}"
        rows.append((block.name, f"{layers} on {_size(block.shape)}", _state(block.learns)))
    rows.append((END_OF_BACKBONE, "global average pooling", ""))
    drawn, top = [], float(MARGIN)
    for number, (name, text, state) in enumerate(rows):
        if number:
            drawn.append(_edge([(WIDTH / 2, top - BLOCK_GAP), (WIDTH / 2, top)]))
        middle = top + BLOCK_HEIGHT / 2 + 4
        drawn += [
            _box(MARGIN, top, WIDTH - 2 * MARGIN, BLOCK_HEIGHT, state),
            _text(MARGIN + 10, middle, name, "start", "name"),
            _text(MARGIN + 112, middle, text, "start"),
            _text(WIDTH - MARGIN - 10, middle, state, "end", "state"),
        ]
        top += BLOCK_HEIGHT + BLOCK_GAP
    return drawn, top - BLOCK_GAP


def _size(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _state(learns: bool) -> str:
    return "learns" if learns else "frozen"


def _heads(steps: Sequence[Step], top: float) -> tuple[list[Markup], float]:
    columns = [task for task in TASKS if any(_task(step.name) == task for step in steps)]
    rows = {END_OF_BACKBONE: -1}  # the longest way to each step from the pooled features
    places = {}
    for step in steps:
        row = rows[step.name] = 1 + max(rows[source] for source in step.reads)
        column = (columns.index(_task(step.name)) + 0.5) / len(columns)
        x = MARGIN + (WIDTH - 2 * MARGIN) * column
        places[step.name] = (x, top + STEP_GAP + row * (STEP_HEIGHT + STEP_GAP))
    drawn = [_edge(_route(s, step.name, places, rows, top)) for step in steps for s in step.reads]
    for step in steps:
        x, y = places[step.name]
        words = step.name.removeprefix(f"{_task(step.name)}_").replace("_", " ")
        kind = _ACTIVATIONS.get(step.activation, step.activation)
        text = f"{step.units} · {kind}" if step.units else step.kind
        state = _state(step.learns) if step.units else ""
        drawn += [
            _box(x - STEP_WIDTH / 2, y, STEP_WIDTH, STEP_HEIGHT, state),
            _text(x, y + 15, words, "middle", "name step"),
            _text(x, y + 29, text, "middle"),
        ]
    return drawn, max(y for _, y in places.values()) + STEP_HEIGHT


def _task(name: str) -> str:
    return name.split("_")[0]


def _route(
    source: str, target: str, places: Mapping[str, Point], rows: Mapping[str, int], top: float
) -> list[Point]:
    """The corners of an edge: straight down, or along the side of the target's column."""
    x, y = places[target]
    if source == END_OF_BACKBONE:
        if rows[target] == 0:
            return [(x, top), (x, y)]
        side = -1 if x < WIDTH / 2 else 1  # outside, where no other edge runs
        start = [(x + side * (STEP_WIDTH / 2 + LANE), top)]
    else:
        from_x, from_y = places[source]
        if from_x == x and rows[target] == rows[source] + 1:
            return [(x, from_y + STEP_HEIGHT), (x, y)]
        side = 1 if x < WIDTH / 2 else -1
        edge = from_x + (side if from_x == x else -side) * STEP_WIDTH / 2
        middle = from_y + STEP_HEIGHT / 2
        start = [(edge, middle), (x + side * (STEP_WIDTH / 2 + LANE), middle)]
    middle = y + STEP_HEIGHT / 2
    return [*start, (start[-1][0], middle), (x + side * STEP_WIDTH / 2, middle)]


def _edge(corners: Sequence[Point]) -> Markup:
    (from_x, from_y), (x, y) = corners[-2:]
    along = (x > from_x) - (x < from_x), (y > from_y) - (y < from_y)
    back_x, back_y = x - 2 * ARROW * along[0], y - 2 * ARROW * along[1]
    across_x, across_y = ARROW * along[1], ARROW * along[0]
    head = (x, y), (back_x + across_x, back_y + across_y), (back_x - across_x, back_y - across_y)
    line, arrow = (" ".join(f"{x:g},{y:g}" for x, y in points) for points in (corners, head))
    return Markup('<polyline class="edge" points="{}"/><polygon points="{}"/>').format(line, arrow)


def _box(x: float, y: float, width: float, height: float, state: str) -> Markup:
    return Markup('<rect class="{}" x="{:g}" y="{:g}" width="{:g}" height="{:g}" rx="5"/>').format(
        state or "plain", x, y, width, height
    )


def _text(x: float, y: float, words: str, anchor: str, kind: str = "") -> Markup:
    return Markup('<text class="{}" x="{:g}" y="{:g}" text-anchor="{}">{}</text>').format(
        kind, x, y, anchor, words
    )
