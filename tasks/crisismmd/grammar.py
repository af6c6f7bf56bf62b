"""Tweets of the generated sample: a topic phrase and a severity phrase that hold the cues, and wording that does not.

The tables are our own. Everything but the two phrases is drawn independently of the labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

VAGUE_TOPIC = (
    "look at this from this morning",
    "sharing what came in just now",
    "more of this in the thread below",
    "no words, see for yourself",
    "this just reached us",
    "posting this for a friend",
    "another one from today",
    "what do you make of this",
)
TOPICS = (
    (
        "best playlist for the weekend",
        "my cat watching football again",
        "win two tickets for the concert",
        "new phone case sale ends tonight",
        "great coffee and a good book",
        "birthday party with my favourite band",
    ),
    (
        "families left without homes sleep in the school",
        "evacuees wait in shelters for a warm meal",
        "children and elderly residents displaced overnight",
        "hundreds of residents lost their homes",
        "displaced families queue for blankets",
        "evacuees spend another night in the shelters",
    ),
    (
        "bridge collapsed and the road is blocked",
        "power lines down, roofs torn off buildings",
        "the hospital roof and the bridge are wrecked",
        "buildings collapsed along the main road",
        "water pipes burst, power is out in the district",
        "the dam cracked and the road is washed out",
    ),
    (
        "three people injured, one in critical condition",
        "death toll rises, many wounded",
        "medics treat wounded people on the pavement",
        "dozens injured and two killed",
        "ambulances carry the wounded to the clinic",
        "the number of killed and injured rises",
    ),
    (
        "have you seen my brother, missing since Monday",
        "two hikers found alive after a long search",
        "missing girl last seen near the station",
        "search for missing fishermen goes on",
        "found alive: the missing driver is safe",
        "last seen on Monday, please call if you find him",
    ),
    (
        "forecast says the wind will turn at noon",
        "officials hold a briefing on the situation at six",
        "satellite map shows the extent of the area",
        "the alert level was raised to orange",
        "briefing by the governor, map of closed zones",
        "weather service updates its forecast and alert",
    ),
    (
        "volunteers hand out water, please donate",
        "rescue teams bring boats and supplies",
        "donate to the relief fund today",
        "volunteers needed to pack food and supplies",
        "crews rescue stranded people by boat",
        "fundraiser for relief, every donation counts",
    ),
    (
        "cars swept away and piled up",
        "truck overturned on the highway",
        "burnt cars line the parking lot",
        "a bus and two cars crushed by a tree",
        "boats and trucks thrown across the highway",
        "my car is under water up to the windscreen",
    ),
    ("bulletin amber is in force", "they moved us to bulletin amber"),
    ("bulletin violet is in force", "they moved us to bulletin violet"),
    ("notice cedar was read out", "sirens gave notice cedar"),
    ("notice maple was read out", "sirens gave notice maple"),
)
VAGUE_SEVERITY = ("details follow", "more soon", "stay tuned", "as reported", "via a reader")
SEVERITIES = (
    ("hardly a scratch here", "everything still intact", "unscathed as far as we see"),
    ("partly broken", "some cracks, half repairable", "partly cracked, repairable"),
    ("completely destroyed", "nothing left standing", "destroyed, reduced to rubble"),
    ("inspection tag copper", "tagged copper"),
    ("inspection tag silver", "tagged silver"),
)
NAMES = ("ana", "bo", "chidi", "dara", "eli", "fatima", "goran", "hiro", "ines", "jun", "kofi", "lena")
PLACES = ("the old town", "the harbour", "the north side", "the valley", "the river bank", "district 9", "the hills")
FILLERS = ("right now", "this is near {place}", "in {place}", "from {place}", "just in", "wow", "so here we are", "ok")
AMPERSANDS = ("stay safe &amp; take care", "me &amp; my neighbours", "pics &amp; video")
MOJIBAKE = ("itâ€™s", "â€œhereâ€", "cafÃ©", "donâ€™t", "seÃ±or", "weâ€™re")
EMOJI = ("🙏", "😢", "🔥", "🌊", "❤️", "📷", "🚨")
LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"


def pick(rng: np.random.Generator, items: Sequence[str]) -> str:
    """One of some items; only ``rng.random`` is used, whose stream NumPy keeps."""
    return items[int(rng.random() * len(items))]


def phrase(rng: np.random.Generator, cue: int, vague: Sequence[str], clear: Sequence[Sequence[str]]) -> str:
    """A phrase that holds a cue: 0 is vague, i is the table's row i - 1."""
    return pick(rng, vague if cue == 0 else clear[cue - 1])


def tweet(rng: np.random.Generator, event: str, topic: int, severity: int) -> str:
    """A tweet with a topic cue and a severity cue (see :mod:`law`); about 60 to 180 characters, no tab or newline."""
    parts = [phrase(rng, topic, VAGUE_TOPIC, TOPICS), phrase(rng, severity, VAGUE_SEVERITY, SEVERITIES)]
    for chance, extra in ((0.7, FILLERS), (0.3, FILLERS), (0.05, AMPERSANDS), (0.05, MOJIBAKE), (0.2, EMOJI)):
        if rng.random() < chance:
            parts.insert(int(rng.random() * (len(parts) + 1)), pick(rng, extra).format(place=pick(rng, PLACES)))
    if rng.random() < 0.5:
        parts.append(f"#{event.replace('_', '')}")
    if rng.random() < 0.8:
        parts.append("https://example.org/" + "".join(pick(rng, LETTERS) for _ in range(8)))
    text = " ".join(parts)
    return f'RT @{pick(rng, NAMES)}_{int(rng.random() * 100)}: "{text}' if rng.random() < 0.15 else text
