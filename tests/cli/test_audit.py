"""``mmbench data audit``, on the generated sample and on CrisisMMD itself."""

from __future__ import annotations

import json


def records(outcome):
    return {(f["check"], f["where"], f["splits"]): f for f in json.loads(outcome.out)}


def test_the_sample_as_text_markdown_and_json(mmbench, tmp_path):
    told = mmbench("data", "audit", "crisismmd", "--protocol", "mt25-rows")
    assert told.code == 0 and "GENERATED DATA" in told.err
    assert "error    group in two splits · joint · train, test" in told.out
    assert mmbench("data", "audit", "crisismmd", "--protocol", "mt25-rows", "--strict").code == 1
    written = mmbench("data", "audit", "crisismmd", "--format", "markdown", "--output", "audit.md")
    assert written.code == 0 and written.out == ""
    assert "| annotations disagree |" in " ".join((tmp_path / "audit.md").read_text().split())
    found = records(mmbench("data", "audit", "crisismmd", "--modalities", "text", "--format", "json"))
    assert ("missing input", "image", "") not in found
    assert set(found[("annotations disagree", "humanitarian", "")]) == {
        "severity", "check", "where", "splits", "count", "of", "detail", "examples",
    }  # fmt: skip


def test_strict_passes_where_nothing_is_wrong(mmbench):
    assert mmbench("data", "audit", "synthetic", "--strict").code == 0


def test_mistakes(mmbench):
    assert (
        "unknown format 'tabel': did you mean table?"
        in mmbench("data", "audit", "digits", "--format", "tabel").complaint
    )
    assert "unknown task 'digit'" in mmbench("data", "audit", "digit").complaint
    assert "cannot write" in mmbench("data", "audit", "digits", "--output", "no/such/file").complaint


def test_crisismmd_itself(mmbench, test_data):
    data = ("--data", str(test_data / "crisismmd"), "--format", "json")
    official = mmbench("data", "audit", "crisismmd", "--protocol", "official", "--modalities", "text", *data)
    found = records(official)
    assert official.code == 0
    for part, count in (("val", 71), ("test", 67)):
        leak = found[("group in two splits", "damage", f"train, {part}")]
        assert (leak["severity"], leak["count"], leak["of"]) == ("error", count, 529)
    crossing = [f for f in json.loads(official.out) if f["where"] == "informative" and f["splits"] == "train, test"]
    assert any(f["count"] == 1603 and "train rows of humanitarian" in f["detail"] for f in crossing)
    joint = records(mmbench("data", "audit", "crisismmd", *data))
    assert not any(check == "group in two splits" for check, _, _ in joint)
    shares = [round(f["count"] / f["of"], 3) for key, f in joint.items() if key[0] == "annotations disagree"]
    assert shares == [0.295, 0.552]
    missing = joint[("missing input", "image", "")]
    assert (missing["count"], missing["of"]) == (18082 - 1310, 18082)


def test_near_duplicates_made_groups_are_gone_from_the_audit_and_named_in_the_table(mmbench):
    text = ("crisismmd", "--modalities", "text", "--set", "near_duplicates=group")
    found = records(mmbench("data", "audit", *text, "--format", "json"))
    assert not any(check in ("near-duplicate", "group in two splits") for check, _, _ in found)
    assert any(key[0] == "near-duplicate" for key in records(
        mmbench("data", "audit", *text[:3], "--format", "json")
    ))  # fmt: skip
    ran = mmbench("run", *text, "--method", "majority", "--seeds", "1", "--no-energy")
    assert ran.code == 0 and "near_duplicates=group (" in ran.out
    assert "near_duplicates was given 'all'" in mmbench("run", *text[:3], "--set", "near_duplicates=all").complaint
