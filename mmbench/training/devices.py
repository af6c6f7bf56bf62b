"""Where networks are trained: ``--device cpu|cuda|auto``. Only who has to look for a GPU loads torch."""

from __future__ import annotations

from mmbench.errors import UsageError, unknown


def find_device(asked: str) -> str:
    """The device that is meant: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; auto takes a GPU where there is one.

    Raises:
        UsageError: an unknown device, or a GPU that is not there.
    """
    if asked == "cpu":
        return "cpu"
    import torch

    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, colon, number = asked.partition(":")
    if kind != "cuda" or (colon and not number.isdecimal()):
        raise unknown("device", asked, ["cpu", "cuda", "cuda:N", "auto"])
    instead = "use --device cpu, or auto, which takes a GPU where there is one"
    if not torch.backends.cuda.is_built():  # type: ignore[no-untyped-call]
        raise UsageError(f"--device {asked}: torch {torch.__version__} was built without CUDA: {instead}")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if there <= int(number or 0):
        raise UsageError(f"--device {asked}: torch finds {there or 'no'} CUDA GPU{'s' * (there > 1)} here: {instead}")
    return asked


def reset_peak(device: str) -> None:
    """Begin to count a GPU's memory anew."""
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def describe_device(device: str) -> dict[str, object]:
    """What a cell's record says of its device: ``device``, and of a GPU its name and the most memory that was used."""
    import torch

    if torch.device(device).type != "cuda":
        return {"device": device}
    return {
        "device": device,
        "gpu": torch.cuda.get_device_name(device),
        "gpu_peak_bytes": torch.cuda.max_memory_allocated(device),
    }
