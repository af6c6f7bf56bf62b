"""Frames of the generated sample: a road under a sky, what stands beside it, and what is on it."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT, HORIZON = 160, 90, 40
SKY = {
    "clear": (90, 150, 235),
    "partly cloudy": (130, 175, 230),
    "overcast": (165, 168, 172),
    "rainy": (120, 125, 135),
    "snowy": (205, 208, 214),
    "foggy": (190, 190, 190),
}
SIDES = {
    "city street": (120, 100, 95),
    "residential": (70, 125, 65),
    "highway": (150, 140, 100),
    "parking lot": (105, 105, 110),
    "gas stations": (140, 60, 60),
    "tunnel": (60, 58, 55),
}
LIGHT = {"daytime": (1.0, 1.0, 1.0), "dawn/dusk": (0.85, 0.6, 0.45), "night": (0.25, 0.25, 0.32)}
Box = tuple[float, float, float, float]


def draw(shown: dict[str, str | None], objects: list[str], rng: np.random.Generator) -> tuple[Image.Image, list[Box]]:
    """A frame and where its objects are, each (x1, y1, x2, y2) in pixels.

    Args:
        shown: what the frame tells of weather, scene and time of day; None where it tells nothing.
        objects: official categories, drawn in this order.
        rng: where things are, and noise.
    """
    sky = SKY[shown["weather"] or "overcast"]
    image = Image.new("RGB", (WIDTH, HEIGHT), sky)
    canvas = ImageDraw.Draw(image)
    canvas.rectangle((0, HORIZON, WIDTH, HEIGHT), fill=SIDES[shown["scene"] or "residential"])
    _surroundings(canvas, shown["scene"], rng)
    half = 75 if shown["scene"] == "highway" else 50
    canvas.polygon([(80 - half, HEIGHT), (72, HORIZON), (88, HORIZON), (80 + half, HEIGHT)], fill=(85, 85, 88))
    for row in range(HORIZON + 4, HEIGHT, 12):
        canvas.line((80, row, 80, row + 5), fill=(230, 230, 230), width=2)
    if shown["weather"] == "partly cloudy":
        for _ in range(4):
            x, y = int(rng.integers(0, WIDTH - 30)), int(rng.integers(0, HORIZON - 14))
            canvas.ellipse((x, y, x + 30, y + 10), fill=(245, 245, 245))
    boxes = [_object(canvas, category, rng) for category in objects]
    pixels = np.asarray(image, dtype=np.float64) * LIGHT[shown["timeofday"] or "daytime"]
    pixels = _weather(pixels, shown["weather"], rng) + rng.normal(0, 6, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), boxes


def _surroundings(canvas: ImageDraw.ImageDraw, scene: str | None, rng: np.random.Generator) -> None:
    if scene == "city street":
        for x in range(0, WIDTH, 20):
            if not 55 < x < 95:
                top = int(rng.integers(2, 22))
                canvas.rectangle((x, top, x + 16, HORIZON + 8), fill=(95, 85, 90))
                for y in range(top + 3, HORIZON, 6):
                    canvas.rectangle((x + 3, y, x + 12, y + 2), fill=(200, 190, 130))
    elif scene == "residential":
        for x in (5, 30, 108, 135):
            canvas.polygon([(x, 30), (x + 10, 20), (x + 20, 30)], fill=(140, 60, 50))
            canvas.rectangle((x, 30, x + 20, HORIZON + 4), fill=(200, 185, 160))
    elif scene == "parking lot":
        for x in range(0, WIDTH, 16):
            canvas.line((x, HORIZON + 6, x - 12, HEIGHT), fill=(235, 235, 235), width=2)
    elif scene == "gas stations":
        canvas.rectangle((100, 12, 158, 22), fill=(230, 40, 40))
        for x in (108, 148):
            canvas.line((x, 22, x, HORIZON + 12), fill=(220, 220, 220), width=3)
    elif scene == "tunnel":
        canvas.rectangle((0, 0, WIDTH, HORIZON), fill=(50, 48, 46))
        for x in range(10, WIDTH, 25):
            canvas.ellipse((x, 8, x + 8, 12), fill=(255, 220, 120))


def _object(canvas: ImageDraw.ImageDraw, category: str, rng: np.random.Generator) -> Box:
    scale = float(rng.uniform(0.8, 1.4))
    x, y = float(rng.integers(12, WIDTH - 45)), float(rng.integers(HORIZON + 6, HEIGHT - 30))

    def at(*points: float) -> list[float]:
        return [(x, y)[place % 2] + scale * value for place, value in enumerate(points)]

    if category == "car":
        canvas.rectangle(at(0, 5, 22, 13), fill=(40, 70, 170))
        canvas.rectangle(at(4, 0, 18, 6), fill=(150, 190, 220))
    elif category == "truck":
        canvas.rectangle(at(0, 0, 30, 20), fill=(235, 235, 240))
        canvas.rectangle(at(30, 8, 38, 20), fill=(200, 60, 30))
    elif category == "person":
        canvas.ellipse(at(2, 0, 6, 4), fill=(240, 195, 160))
        canvas.rectangle(at(2, 4, 6, 18), fill=(190, 30, 140))
    elif category == "rider":
        canvas.ellipse(at(4, 0, 8, 4), fill=(240, 195, 160))
        canvas.rectangle(at(4, 4, 8, 12), fill=(30, 190, 170))
    elif category == "bike":
        for start in (0, 9):
            canvas.ellipse(at(start, 10, start + 8, 18), outline=(20, 20, 20), width=2)
    elif category == "motor":
        for start in (0, 12):
            canvas.ellipse(at(start, 8, start + 7, 15), fill=(15, 15, 15))
        canvas.rectangle(at(3, 3, 16, 9), fill=(210, 20, 20))
    else:
        canvas.line(at(5, 8, 5, 24), fill=(120, 120, 120), width=2)
        canvas.polygon(at(5, 0, 10, 5, 5, 10, 0, 5), fill=(250, 215, 30))
    x1, y1, x2, y2 = at(0, 0, 38 if category == "truck" else 22, 24)
    return x1, y1, min(x2, WIDTH), min(y2, HEIGHT)


def _weather(pixels: np.ndarray[Any, np.dtype[np.float64]], weather: str | None, rng: np.random.Generator) -> Any:
    if weather == "foggy":
        return 0.45 * pixels + 0.55 * pixels.max()
    if weather in ("rainy", "snowy"):
        length, count = (5, 120) if weather == "rainy" else (1, 260)
        rows, columns = rng.integers(0, HEIGHT - 5, count), rng.integers(0, WIDTH, count)
        for step in range(length):
            pixels[rows + step, columns] = 170 if weather == "rainy" else 240
    return pixels
