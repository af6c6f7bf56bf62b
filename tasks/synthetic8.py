"""The law of ``synthetic`` with eight modalities, m1 to m8: how a method scales with their number.

mmbench run synthetic8 --set task.modalities=5 --modalities m1,m2,m3,m4,m5
"""

from __future__ import annotations

from mmbench.plugins import shipped

NAME = "synthetic8"
SUMMARY = "as synthetic, with eight modalities; --modalities and task.modalities choose among them"

TASK = shipped("tasks", "synthetic").make_task(8)
