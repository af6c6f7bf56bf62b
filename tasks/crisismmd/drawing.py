"""Images of the generated sample, 96x96 RGB: a motif that holds the topic cue, a band that holds the severity cue.

Place, size, brightness, tint and noise are drawn independently of the labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

SIDE = 96
BAND = 22
NOISE = 14.0
SEVERITY_COLOURS = ((110, 190, 120), (230, 180, 60), (120, 20, 30))


def draw(topic: int, severity: int, rng: np.random.Generator) -> Image:
    """An image with a topic cue and a severity cue (see :mod:`law`)."""
    from PIL import Image, ImageDraw

    tint = rng.integers(-15, 16, 3)
    base = int(rng.integers(110, 161))
    image = Image.new("RGB", (SIDE, SIDE), (int(base + tint[0]), int(base + tint[1]), int(base + tint[2])))
    canvas = ImageDraw.Draw(image)
    side = int(rng.integers(44, 61))
    x, y = (float(v) for v in rng.integers((0, 0), (SIDE - side, SIDE - BAND - side + 12)))
    _motif(canvas, topic, x, y, side, rng)
    _band(canvas, severity)
    pixels = np.asarray(image, dtype=np.float64) * rng.uniform(0.85, 1.15) + rng.normal(0, NOISE, (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _motif(canvas: ImageDraw, topic: int, x: float, y: float, side: float, rng: np.random.Generator) -> None:
    right, bottom, part = x + side, y + side, side / 8
    match topic:
        case 0:  # vague: grey blobs
            for _ in range(4):
                u, v = (float(at) for at in rng.integers(0, SIDE - BAND - 10, 2))
                grey = int(rng.integers(80, 190))
                canvas.ellipse((u, v, u + 24, v + 20), fill=(grey, grey, grey))
        case 1:  # not humanitarian: a yellow face
            canvas.ellipse((x, y, right, bottom), fill=(250, 220, 40))
            canvas.arc(
                (x + 2 * part, y + 2 * part, right - 2 * part, bottom - 2 * part), 20, 160, fill=(0, 0, 0), width=4
            )
        case 2:  # affected: blue people in a row
            for k in range(3):
                left = x + k * side / 3
                canvas.ellipse((left + part, y, left + 2 * part, y + 2 * part), fill=(30, 60, 200))
                canvas.rectangle((left + part / 2, y + 2 * part, left + 2.2 * part, bottom), fill=(30, 60, 200))
        case 3:  # infrastructure: brown rubble
            for k in range(4):
                left = x + k * side / 4
                canvas.polygon(
                    ((left, bottom), (left + part, y + (k % 2) * side / 2), (left + 2 * part, bottom)),
                    fill=(120, 70, 30),
                )
        case 4:  # injured: a red cross
            canvas.rectangle((x, y, right, bottom), fill=(245, 245, 245))
            canvas.rectangle((x + 3 * part, y + part, x + 5 * part, bottom - part), fill=(220, 20, 30))
            canvas.rectangle((x + part, y + 3 * part, right - part, y + 5 * part), fill=(220, 20, 30))
        case 5:  # missing: a portrait in a purple frame
            canvas.rectangle((x + part, y, right - part, bottom), fill=(250, 250, 250), outline=(130, 30, 150), width=7)
            canvas.ellipse((x + 3 * part, y + 2 * part, right - 3 * part, bottom - 3 * part), fill=(130, 30, 150))
        case 6:  # other: cyan waves of a chart
            for k in range(4):
                canvas.rectangle((x, y + k * 2 * part, right, y + k * 2 * part + part), fill=(20, 190, 210))
        case 7:  # rescue: orange crates
            for left, top in ((x, y), (x + 4.5 * part, y), (x, y + 4.5 * part), (x + 4.5 * part, y + 4.5 * part)):
                canvas.rectangle((left, top, left + 3.5 * part, top + 3.5 * part), fill=(250, 130, 20))
        case 8:  # vehicle: a green car
            canvas.rectangle((x, y + 3 * part, right, y + 6 * part), fill=(30, 140, 50))
            canvas.rectangle((x + 2 * part, y + part, right - 2 * part, y + 3 * part), fill=(30, 140, 50))
            for left in (x + part, right - 3 * part):
                canvas.ellipse((left, y + 5 * part, left + 2 * part, y + 7 * part), fill=(10, 10, 10))
        case _:  # a bit: stripes that rise or fall
            rising = topic == 9
            for k in range(-SIDE, SIDE, 14):
                ends = ((k, SIDE - BAND), (k + SIDE - BAND, 0)) if rising else ((k, 0), (k + SIDE - BAND, SIDE - BAND))
                canvas.line(ends, fill=(250, 250, 250), width=5)


def _band(canvas: ImageDraw, severity: int) -> None:
    top = SIDE - BAND
    canvas.rectangle((0, top, SIDE, SIDE), fill=(150, 150, 150))
    if 1 <= severity <= 3:
        canvas.rectangle((0, top, SIDE, SIDE), fill=SEVERITY_COLOURS[severity - 1])
    elif severity == 4:
        for k in range(0, SIDE, 12):
            canvas.rectangle((k, top, k + 5, SIDE), fill=(20, 20, 20))
    elif severity == 5:
        for k in range(top, SIDE, 8):
            canvas.rectangle((0, k, SIDE, k + 3), fill=(20, 20, 20))
