"""The recordings of BDD100K: the motion they tell, and everything that may be wrong with them."""

from __future__ import annotations

import importlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmbench.plugins import shipped

info = importlib.import_module(f"{shipped('tasks', 'bdd100k').__name__}.info")
START = 1_500_000_000_000


def points(speed: Any, course: Any = lambda t: 0.0, times: Any = range(40)) -> list[dict[str, Any]]:
    return [{"timestamp": START + 1000 * t, "speed": speed(t), "course": course(t)} for t in times]


def sensor(x: Any, y: Any, z: Any, times: Any = range(40)) -> list[dict[str, Any]]:
    return [{"timestamp": START + round(1000 * t), "x": x(t), "y": y(t), "z": z(t)} for t in times]


def told(content: dict[str, Any], seconds: float = 1.0) -> Any:
    return info.motion({"startTime": START} | content, seconds)


def test_speed_and_acceleration_are_those_of_the_second_around_the_frame() -> None:
    speed, acceleration, turn = told({"locations": points(lambda t: 4 + 0.5 * t)})
    assert len(speed) == 21
    np.testing.assert_allclose(speed, 4 + 0.5 * np.linspace(9.5, 10.5, 21))
    np.testing.assert_allclose(acceleration, 0.5)
    assert not turn.any()
    long = told({"locations": points(lambda t: t)}, seconds=40)
    np.testing.assert_allclose(long[0], np.linspace(0, 40, 801).clip(max=39))
    early = told({"locations": points(lambda t: t)}, seconds=24)  # it cannot begin before the clip
    np.testing.assert_allclose(early[0], np.linspace(0, 24, 481))


@pytest.mark.parametrize("down", [(0.0, 0.0, -1.0), (0.6, -0.8, 0.0), (3.0, 4.0, 12.0)])
def test_the_turn_rate_is_the_part_around_gravity(down: tuple[float, float, float]) -> None:
    along = np.array(down) / np.linalg.norm(down)
    across = np.cross(along, [0.3, 0.5, 0.7])
    rate = 0.25 * along + 2.0 * across  # the second part tilts the phone and turns nothing
    content = {
        "locations": points(lambda t: 5.0),
        "gyro": sensor(*((lambda t, value=value: float(value)) for value in rate)),
        "accelerometer": sensor(*((lambda t, value=value: value) for value in down)),
    }
    np.testing.assert_allclose(np.abs(told(content)[2]), 0.25)


@pytest.mark.parametrize("missing", ["gyro", "accelerometer"])
def test_without_a_sensor_the_course_tells_the_turn_rate(missing: str) -> None:
    content = {
        "locations": points(lambda t: 5.0, course=lambda t: (350 + 4 * t) % 360),
        "gyro": sensor(*[lambda t: 1.0] * 3),
        "accelerometer": sensor(*[lambda t: 1.0] * 3),
    }
    content[missing] = None
    np.testing.assert_allclose(told(content)[2], np.deg2rad(4))
    content["locations"] = points(lambda t: 0.5, course=lambda t: (97 * t) % 360)  # standing: the course is noise
    assert not told(content)[2].any()


def test_what_is_no_measurement_is_left_out() -> None:
    good = points(lambda t: 7.0)
    bad: list[Any] = [
        *(None, 3, "x", [], {}, {"timestamp": START}, {"timestamp": None, "speed": 1.0}),
        *(
            {"timestamp": START, "speed": wrong}
            for wrong in (-1.0, float("nan"), float("inf"), 10**400, True, 500, "fast")
        ),
        *({"timestamp": wrong, "speed": 5} for wrong in (1e300, {"a": 1}, "now", None)),
    ]
    draw = random.Random(0)
    mixed = [*good, *bad]
    draw.shuffle(mixed)
    expected = told({"locations": good})
    np.testing.assert_array_equal(told({"locations": mixed}), expected)
    np.testing.assert_array_equal(told({"locations": None, "gps": mixed}), expected)
    np.testing.assert_array_equal(told({"locations": bad, "gps": good}), expected)
    texts = [{key: str(value) for key, value in point.items()} for point in good]
    np.testing.assert_array_equal(told({"locations": texts}), expected)
    # without a start the first location is the start
    np.testing.assert_array_equal(info.motion({"locations": good}, 1.0), expected)


@pytest.mark.parametrize(
    "content",
    [
        {}, {"locations": []}, {"locations": None}, {"locations": "x"}, {"locations": {"a": 1}},
        {"locations": points(lambda t: -1.0)}, {"locations": points(lambda t: 5.0, times=range(20, 40))},
        {"locations": points(lambda t: 5.0), "startTime": START + 10**9},
    ],
)  # fmt: skip
def test_without_a_speed_near_the_frame_there_is_no_motion(content: dict[str, Any]) -> None:
    assert told(content) is None


def test_one_speed_is_a_constant_one() -> None:
    speed, acceleration, turn = told({"locations": points(lambda t: 6.0, times=[11])})
    assert (speed == 6).all() and not acceleration.any() and not turn.any()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "invalid JSON"), (b"{", "invalid JSON"), (b"[]", "invalid JSON"), (b"null", "invalid JSON"),
        (b"\xff", "invalid JSON"), (b"[" * 200_000, "invalid JSON"), (b'{"a":' * 100_000, "invalid JSON"),
        (b'{"a": ' + b"9" * 6000 + b"}", "invalid JSON"), (b"{}", ""), (b'{"rideID": NaN}', ""),
    ],
)  # fmt: skip
def test_files_that_are_no_recording_have_a_reason(tmp_path: Path, raw: bytes, reason: str) -> None:
    (tmp_path / "x.json").write_bytes(raw)
    assert info.read_info(tmp_path / "x.json")[1] == reason
    assert info.read_info(tmp_path / "absent.json") == ({}, "no info file")
    assert info.read_info(tmp_path) == ({}, "info unreadable")


def test_recordings_are_read_once_and_again_where_they_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "home" / "info" / "100k" / "val"
    folder.mkdir(parents=True)
    contents = {
        "a": {"rideID": " r1 ", "startTime": START, "locations": points(lambda t: 9.0)},
        "b": {"rideID": 7},
        "c": None,
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text("{" if content is None else json.dumps(content))
    clips = [(name, "val") for name in ("a", "b", "c", "d")]

    def read() -> Any:
        return info.read_recordings(tmp_path / "home", clips, 1.0, tmp_path / "scratch")

    first = read()
    assert first.rides == ("r1", "7", "", "")
    assert first.motions[0].clip == "a" and first.motions[0].seconds == 1 and first.motions[1:] == (None, None, None)
    assert first.why_missing() == "1 no speed near the frame, 1 invalid JSON, 1 no info file"
    opened: list[Path] = []
    read_info = info.read_info
    monkeypatch.setattr(info, "read_info", lambda path: (opened.append(path), read_info(path))[1])
    again = read()
    assert not opened and again.rides == first.rides and again.reasons == first.reasons
    assert (again.motions[0].speed == first.motions[0].speed).all()
    (kept,) = (tmp_path / "scratch").iterdir()
    kept.write_bytes(b"damaged")
    assert read().reasons == first.reasons and len(opened) == 4
    (folder / "d.json").write_text(json.dumps(contents["a"]))
    assert read().reasons[3] == ""
