"""How BDD100K is evaluated: the field's scene attributes, the objects of MR26, and both in one model."""

from __future__ import annotations

from mmbench.contracts import Protocol

MOTION = "synthetic_motion"
TELEMETRY = "telemetry"
USUAL = ("image", MOTION)
SUITE = (
    "hybrid",
    *(f"{fusion}+equal" for fusion in ("classical", "mfn", "concat", "late")),
    "majority",
    "linear:*",
    "linear:all",
    "only:*",
)
SPLIT = "official: test is the official val part, val a tenth of train drawn by ride; one part alone: 60/20/20 by ride"
YU = "Yu et al., CVPR 2020"

PROTOCOLS = (
    Protocol(
        "scene",
        "weather, scene and time of day of the frame in one model; only:image is what the field reports",
        YU,
        SPLIT,
        SUITE,
        modalities=USUAL,
    ),
    Protocol(
        "mr26",
        "which of six kinds of object the frame shows, several at once; --modalities video,… for 30 frames a clip",
        "Minukhin & Rudoi 2026",
        SPLIT,
        SUITE,
        modalities=USUAL,
    ),
    Protocol("joint", "scene attributes and objects in one model", YU, SPLIT, SUITE, modalities=USUAL),
)

FACTS = (
    "the image is the frame at second 10 of a clip of 40; labels are of that frame alone",
    "synthetic_motion is a sound computed from GPS and gyroscope, as MR26 does it for want of audio: it holds nothing "
    "that the motion itself does not; telemetry is nine numbers of the same motion",
    "no label is derived from motion, but speed does tell a highway from a parking lot; the leakage ablation is "
    "only:image or --modalities image, without it, and --modalities image,telemetry, without the sound alone",
    "places and clock times of the recordings are not used: they would tell scene and time of day",
    "a ride is rideID in info/100k; train clips of a ride that test holds are left out of train",
    "cyclist is the official rider, who may sit on a motorcycle: of the official val frames with a rider 28 % hold a "
    "motorcycle and no bicycle; --set task.cyclist=bicycle or either reads it otherwise",
    "road sign is traffic sign, not traffic light; what the detection benchmark ignores (other person, other vehicle, "
    "trailer) makes no object present",
    "99 % of the official val frames hold a car: its F1 is high for whoever always says so",
    "MR26 calls its 30 frames about a second; here they are spread over the clip, and motion_seconds=40 with "
    "--modalities video,synthetic_motion spans the same time",
)
