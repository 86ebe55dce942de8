"""Synthetic portraits: drawn faces whose appearance depends on age, gender and race codes.

A face detector finds them, and a small network can learn the three labels from a few hundred: race
decides the skin tone, gender hair length, brows and lips, age proportions, hairline, wrinkles and
grey hair. The cues are chosen, not measured: scores on these pictures say nothing about people.
"""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]
Random = np.random.Generator

SUPERSAMPLING = 2
SUBPIXEL_BITS = 4

SKIN_TONES = np.array(
    [[241, 209, 193], [92, 61, 47], [219, 173, 132], [136, 92, 64], [180, 131, 98]], dtype=float
)
HAIR_TONES = np.array([[38, 28, 24], [58, 40, 30], [84, 58, 40]], dtype=float)
GREY_HAIR = np.array([214.0, 212.0, 208.0])
LIP_PAINT = np.array([176.0, 38.0, 58.0])
EYE_WHITE = np.array([240.0, 237.0, 232.0])
IRIS_TONES = np.array([[70, 45, 30], [95, 65, 40], [60, 70, 60]], dtype=float)
PUPIL = np.array([16.0, 12.0, 12.0])


@dataclass
class _Canvas:
    """Pixels addressed in head units: the chin is at (0, 1), the crown at (0, -1)."""

    pixels: Image
    to_pixels: Floats

    def fill(self, outline: Floats, colour: Floats | float) -> None:
        points, tone = [self._fixed_point(outline)], np.ravel(colour).tolist()
        cv2.fillPoly(self.pixels, points, tone, cv2.LINE_AA, SUBPIXEL_BITS)

    def stroke(self, line: Floats, colour: Floats | float, width: float) -> None:
        points, tone = [self._fixed_point(line)], np.ravel(colour).tolist()
        thickness = max(1, round(width * self.scale()))
        cv2.polylines(self.pixels, points, False, tone, thickness, cv2.LINE_AA, SUBPIXEL_BITS)

    def grey(self, value: int, reduction: int = 1) -> "_Canvas":
        shape = (self.pixels.shape[0] // reduction, self.pixels.shape[1] // reduction)
        return _Canvas(np.full(shape, value, np.uint8), self.to_pixels / reduction)

    def scale(self) -> float:  # pixels in one head unit
        return math.hypot(self.to_pixels[0, 0], self.to_pixels[1, 0])

    def _fixed_point(self, points: Floats) -> NDArray[np.int32]:
        pixels = points @ self.to_pixels[:, :2].T + self.to_pixels[:, 2]
        return np.rint(pixels * (1 << SUBPIXEL_BITS)).astype(np.int32)


def draw_portrait(age: int, gender: int, race: int, generator: Random, size: int = 200) -> Image:
    """Draw one face with UTKFace's codes as labels: uint8 RGB (size, size, 3)."""
    face = _choose_appearance(age, gender, race, generator)
    canvas = _Canvas(_draw_scene(size * SUPERSAMPLING, 3, generator), _choose_pose(size, generator))
    _draw_body(canvas, face, generator)
    _draw_head(canvas, face, generator)
    for side in (-1.0, 1.0):
        _draw_eye(canvas, face, side)
    _draw_nose(canvas, face)
    _draw_mouth(canvas, face)
    _draw_hair(canvas, face, generator)
    return _photograph(canvas.pixels, size, generator)


def draw_background(generator: Random, size: int = 200) -> Image:
    """Draw a scene of coloured shapes, without any face: uint8 RGB (size, size, 3)."""
    shapes = int(generator.integers(3, 9))
    return _photograph(_draw_scene(size * SUPERSAMPLING, shapes, generator), size, generator)


def _choose_appearance(age: int, gender: int, race: int, generator: Random) -> SimpleNamespace:
    # Apparent age differs a little from the label, so that the age groups overlap at their edges.
    years = max(0.5, age * math.exp(generator.normal(0, 0.05)))
    jitter = generator.normal(0, 0.04, 7)
    child = _rise(-years, -14.5, 1.2) * (0.75 + 0.25 * _rise(-years, -6, 2))
    adult, middle, old = _rise(years, 25.5, 1.5), _rise(years, 40.5, 2), _rise(years, 60.5, 3)
    grey = float(np.clip(0.42 * middle + 0.5 * old + jitter[0], 0, 1))
    maturity = float(np.clip(0.3 * adult + 0.32 * middle + 0.38 * old + jitter[1], 0, 1))
    fringe = (1 - adult) * (1 - child)
    skin = SKIN_TONES[race] * generator.normal(1, 0.025) + generator.normal(0, 3, 3)
    hair = HAIR_TONES[generator.integers(len(HAIR_TONES))]
    hair = _mix(HAIR_TONES[0], hair, skin[0] / 255) * generator.uniform(0.85, 1.15)
    paint = gender * (1 - 0.45 * child) * generator.uniform(0.6, 0.85)
    return SimpleNamespace(
        child=child,
        maturity=maturity,
        hairline=-0.56 + 0.30 * fringe - 0.04 * middle - 0.07 * old + jitter[2],
        recession=(0.25 if gender else 1.0) * (0.10 * adult + 0.13 * middle + 0.12 * old),
        long_hair=bool(gender),
        half_width=0.72 + 0.09 * child + jitter[3] * 0.7,
        eye_level=0.17 * child + jitter[4] * 0.5,
        eye_size=(1 + 0.32 * child - 0.13 * old) * (1 + jitter[5]),
        brow_width=(0.052 if gender else 0.092) * (1 - 0.35 * child) * (1 + 3 * jitter[6]),
        smile=float(generator.uniform(0.015, 0.06)),
        skin=skin,
        hair=_mix(hair, GREY_HAIR, grey),
        lips=_mix(skin * [0.80, 0.62, 0.62], LIP_PAINT * (0.55 + 0.45 * skin[0] / 255), paint),
        iris=IRIS_TONES[generator.integers(len(IRIS_TONES))],
    )


def _choose_pose(size: int, generator: Random) -> Floats:
    """The affine map from head units to pixels of the oversized canvas."""
    pixels = size * SUPERSAMPLING
    scale = pixels * generator.uniform(0.29, 0.36)
    angle = math.radians(float(np.clip(generator.normal(0, 5), -15, 15)))
    centre = pixels * (0.5 + generator.uniform(-0.05, 0.05, 2))
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[cos, -sin, centre[0]], [sin, cos, centre[1]]])


def _draw_scene(pixels: int, shapes: int, generator: Random) -> Image:
    gradient = _scene_colours(4, generator).reshape(2, 2, 3).astype(np.float32)
    smooth = cv2.resize(gradient, (pixels, pixels), interpolation=cv2.INTER_LINEAR)
    scene = _Canvas(smooth.astype(np.uint8), np.array([[pixels, 0.0, 0.0], [0.0, pixels, 0.0]]))
    for _ in range(shapes):
        corners = int(generator.choice([3, 4, 5, 24]))
        angles = generator.uniform(0, 7) + np.arange(corners) * 2 * np.pi / corners
        outline = generator.uniform(0.08, 0.3) * np.column_stack([np.cos(angles), np.sin(angles)])
        scene.fill(outline + generator.uniform(0, 1, 2), _scene_colours(1, generator)[0])
    return scene.pixels


def _scene_colours(count: int, generator: Random) -> Floats:
    # Half grey: a scene of pure random colours is garish.
    return _mix(generator.uniform(30, 235, (count, 3)), generator.uniform(40, 220, (count, 1)), 0.5)


def _draw_body(canvas: _Canvas, face: SimpleNamespace, generator: Random) -> None:
    width = face.half_width
    if face.long_hair:
        length = generator.uniform(0.95, 1.35)
        canvas.fill(_ellipse(0, length - 1.12, width + 0.22, length), face.hair * 0.8)
    neck = [[-0.34, 0.6], [0.34, 0.6], [0.42, 1.5], [-0.42, 1.5]]
    canvas.fill(np.array(neck), face.skin * 0.78)
    canvas.fill(_ellipse(0, 2.15, 1.35 - 0.25 * face.child, 0.85), _scene_colours(1, generator)[0])
    for side in (-1.0, 1.0):
        canvas.fill(_ellipse(side * width, 0.12, 0.10, 0.20), face.skin * 0.86)


def _draw_head(canvas: _Canvas, face: SimpleNamespace, generator: Random) -> None:
    x, y = _ellipse(0, 0, face.half_width, 1).T
    # Below the ears an ellipse narrows too fast for a jaw; children have rounder cheeks.
    below = np.clip(y, 0, 1)
    fullness = 1 + (0.10 - 0.05 * face.child) * np.sin(np.pi * below) - 0.04 * below
    outline = np.column_stack([x * fullness, y])
    canvas.fill(outline, face.skin)
    mask = canvas.grey(0)
    mask.fill(outline, 255.0)
    shade = _Canvas(_soft_shade(canvas, face, generator), canvas.to_pixels)
    _draw_wrinkles(shade, face, generator)
    shading = cv2.merge([np.where(mask.pixels > 0, shade.pixels, np.uint8(128))] * 3)
    canvas.pixels = cv2.multiply(canvas.pixels, shading, scale=1 / 128)


def _soft_shade(canvas: _Canvas, face: SimpleNamespace, generator: Random) -> Image:
    """The relief of the head as a grey map, drawn small because it is smooth."""
    width, level = face.half_width, face.eye_level
    light = generator.uniform(-0.12, 0.12)
    relief = canvas.grey(96, reduction=4)
    relief.fill(_ellipse(light, -0.05, width * 0.86, 0.88), 126.0)
    for side in (-1.0, 1.0):
        relief.fill(_ellipse(side * 0.30, level - 0.03, 0.20, 0.13), 108.0 - 6 * face.maturity)
        relief.fill(_ellipse(side * 0.36, level + 0.32, 0.15, 0.12), 136.0)
    relief.fill(_ellipse(light / 2, level + 0.15, 0.06, 0.28), 140.0)
    relief.fill(_ellipse(-0.10 if light > 0 else 0.10, level + 0.22, 0.04, 0.20), 114.0)
    relief.fill(_ellipse(0, level + 0.46, 0.13, 0.04), 100.0)
    relief.fill(_ellipse(0, 0.77, 0.16, 0.03), 108.0)
    soft = cv2.GaussianBlur(relief.pixels, (0, 0), 0.05 * relief.scale())
    full = cv2.resize(soft, canvas.pixels.shape[:2], interpolation=cv2.INTER_LINEAR)
    return np.asarray(full, np.uint8)


def _draw_wrinkles(shade: _Canvas, face: SimpleNamespace, generator: Random) -> None:
    depth, level = face.maturity, face.eye_level
    if depth < 0.1:
        return
    tone = 118.0 - 44 * depth
    for side in (-1.0, 1.0):
        fold = [[0.16, 0.40], [0.25, 0.44 + 0.03 * depth], [0.31, 0.50 + 0.12 * depth]]
        shade.stroke(np.array(fold) * [side, 1] + [0, level], tone, 0.028)
        shade.stroke(_bow(side * 0.30, level + 0.13, 0.13, 0.05), tone + 20, 0.026)
        if depth > 0.45:
            for slope in (-0.07, 0.0, 0.07):
                foot = [[side * 0.47, level + slope / 2], [side * 0.60, level + 1.8 * slope]]
                shade.stroke(np.array(foot), tone, 0.02)
    for line in range(round(5 * depth - 1.2)):
        height = level - 0.34 - 0.09 * line
        bend = generator.uniform(-0.05, 0.0)
        shade.stroke(_bow(0, height, 0.34 - 0.03 * line, bend), tone + 6, 0.024)


def _draw_eye(canvas: _Canvas, face: SimpleNamespace, side: float) -> None:
    x, y = side * 0.30, face.eye_level
    width, height = 0.145 * face.eye_size, 0.068 * face.eye_size
    upper, lower = _bow(x, y, width, -height * 1.15), _bow(x, y, width, height)
    canvas.fill(np.vstack([upper, lower[::-1]]), EYE_WHITE * (0.80 + 0.15 * face.skin[0] / 255))
    canvas.fill(_ellipse(x, y, height, height), face.iris)
    canvas.fill(_ellipse(x, y, height * 0.5, height * 0.5), PUPIL)
    glint = 0.2 * height
    canvas.fill(_ellipse(x - glint, y - 2 * glint, glint, glint), EYE_WHITE)
    canvas.stroke(upper, face.skin * 0.30, 0.030)
    canvas.stroke(lower, face.skin * 0.62, 0.014)
    brow = _bow(x + side * 0.01, y - 0.17 - 0.03 * face.child, 0.185, -0.055)
    tone = _mix(_mix(face.hair, HAIR_TONES[0], 0.5), face.skin, 0.1 + 0.3 * face.child)
    canvas.stroke(brow, tone, face.brow_width)


def _draw_nose(canvas: _Canvas, face: SimpleNamespace) -> None:
    size = 1 - 0.22 * face.child
    base = face.eye_level + 0.42 * (1 - 0.15 * face.child)
    for side in (-1.0, 1.0):
        canvas.fill(_ellipse(side * 0.058 * size, base, 0.030 * size, 0.017), face.skin * 0.48)
        wing = np.array([[0.115, -0.06], [0.13, -0.02], [0.11, 0.01]]) * [side * size, 1]
        canvas.stroke(wing + np.array([0, base]), face.skin * 0.7, 0.018)


def _draw_mouth(canvas: _Canvas, face: SimpleNamespace) -> None:
    y = 0.62 + 0.06 * face.child
    width = 0.26 - 0.06 * face.child
    fullness = 1 - 0.3 * face.maturity
    line = _bow(0, y - face.smile, width, face.smile)
    # The two humps of the upper lip.
    across = np.linspace(-1, 1, len(line))
    hump = 0.062 * fullness * (1 - across**2) * (1 - 0.35 * np.exp(-((across / 0.18) ** 2)))
    upper = np.column_stack([line[:, 0], line[:, 1] - hump])
    lower = _bow(0, y - face.smile, width * 0.92, face.smile + 0.085 * fullness)
    canvas.fill(np.vstack([lower, line[::-1]]), face.lips * 1.06)
    canvas.fill(np.vstack([upper, line[::-1]]), face.lips * 0.90)
    canvas.stroke(line, face.lips * 0.45, 0.018)


def _draw_hair(canvas: _Canvas, face: SimpleNamespace, generator: Random) -> None:
    width, volume = face.half_width, 0.09 - 0.04 * face.child + generator.uniform(-0.01, 0.02)
    # The cap runs over the crown from temple to temple and back along the hairline.
    turn = np.linspace(-0.52, 0.52, 40) * np.pi
    crown = np.column_stack([(width + volume) * np.sin(turn), -(1 + volume) * np.cos(turn)])
    across = np.linspace(1, -1, 41)
    temples = face.recession * np.exp(-(((np.abs(across) - 0.58) / 0.22) ** 2))
    edge = face.hairline - temples - (0.02 + face.hairline) * np.abs(across) ** 4
    front = np.column_stack([0.99 * width * across, np.maximum(edge, -0.96)])
    canvas.fill(np.vstack([crown, front]), face.hair)
    for spread in generator.uniform(-0.94, 0.94, 24):
        root, tip = -1 - volume * 0.8, np.interp(spread, across[::-1], edge[::-1]) - 0.03
        if tip < -0.8:  # no room for a strand above a receding hairline
            continue
        strand = np.array([[0.35, root], [0.85, (root + tip) / 2 - 0.08], [1, tip]])
        tone = face.hair * generator.uniform(0.75, 1.3)
        canvas.stroke(strand * [spread * width, 1], tone, 0.016)
    if not face.long_hair:
        return
    # The locks that hang in front of the ears.
    drop = generator.uniform(0.75, 1.15)
    outside, inside = face.half_width + volume, face.half_width * generator.uniform(0.80, 0.90)
    heights = np.linspace(-0.42, drop, 12)
    outer = outside + 0.12 * (heights + 0.42) / (drop + 0.42)
    inner = inside + 0.04 * np.sin(heights * 3)
    for side in (-1.0, 1.0):
        edges = [np.column_stack([side * x, heights]) for x in (outer, inner)]
        canvas.fill(np.vstack([edges[0], edges[1][::-1]]), face.hair * 0.94)
        for share in generator.uniform(0.1, 0.9, 5):
            strand = edges[0] * share + edges[1] * (1 - share)
            canvas.stroke(strand, face.hair * generator.uniform(0.75, 1.25), 0.016)


def _photograph(drawing: Image, size: int, generator: Random) -> Image:
    small = cv2.resize(drawing, (size, size), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (3, 3), float(generator.uniform(0.2, 0.8)))
    gain = generator.uniform(0.93, 1.06)
    light = (gain + generator.uniform(-0.09, 0.09, (2, 2))).astype(np.float32)
    light = cv2.resize(light, (size, size), interpolation=cv2.INTER_LINEAR)
    noise = generator.standard_normal((size, size), np.float32) * generator.uniform(1.0, 4.0)
    exposed = small * light[..., None] + noise.astype(np.float32)[..., None]
    return np.asarray(np.clip(exposed, 0, 255), np.uint8)


def _ellipse(x: float, y: float, width: float, height: float) -> Floats:
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.column_stack([x + width * np.cos(turn), y + height * np.sin(turn)])


def _bow(x: float, y: float, width: float, sag: float) -> Floats:
    """A parabola from side to side, with its middle `sag` below its ends."""
    across = np.linspace(-1, 1, 17)
    return np.column_stack([x + width * across, y + sag * (1 - across**2)])


def _rise(value: float, middle: float, width: float) -> float:
    """A smooth step from 0 to 1 around `middle`."""
    return 0.5 + 0.5 * math.tanh((value - middle) / (2 * width))


def _mix(first: Floats, second: Floats, share: float) -> Floats:
    return first * (1 - share) + second * share
