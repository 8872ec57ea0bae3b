"""`python -m unipixel doctor`: what this machine has, whether the installation is sound, and which models fit."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from unipixel.media import MAX_SAMPLED_FRAMES

GB = 1e9

DEFAULT_FRAMES = 16


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; 0 if the installation is sound, 1 if something is missing or does not load."""
    parser = argparse.ArgumentParser(prog="unipixel doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--model", help="only the memory plan of nano, a folder or a hub id (which is not downloaded)")
    parser.add_argument("--frames", type=int, default=DEFAULT_FRAMES, help=f"frames of the clip ({DEFAULT_FRAMES})")
    args = parser.parse_args(argv)
    if not 1 <= args.frames <= MAX_SAMPLED_FRAMES:
        raise ValueError(f"--frames must be between 1 and {MAX_SAMPLED_FRAMES}, not {args.frames}.")
    if args.model is not None:
        devices = list_devices()
        plan = memory_needs(args.model, devices, args.frames)
        print(json.dumps({"devices": devices, **plan}, indent=2) if args.json else render_plan(plan, devices))
        return 0
    found = report(args.frames)
    print(json.dumps(found, indent=2) if args.json else render(found))
    return 1 if found["problems"] else 0


def report(frames: int = DEFAULT_FRAMES) -> dict[str, Any]:
    """Everything the doctor looks at, as JSON values. Imports torch."""
    devices, packages = list_devices(), list_packages()
    modules = {name: module_health(name) for name in ("torch", "cv2", "sam2", "torchvision", "unipixel.plan")}
    problems = [
        f"{p['name']} {p['wanted']} is wanted, {p['installed'] or 'none'} is installed" for p in packages if not p["ok"]
    ]
    # torchvision is asked for by sam2 only and used by nobody here: a CPU build of torch cannot load it, which is fine.
    problems += [
        f"{name} does not load: {state}" for name, state in modules.items() if state != "ok" and name != "torchvision"
    ]
    models = [memory_needs(name, devices, frames) for name in known_models()] if not problems else []
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "disk_free_gb": round(shutil.disk_usage(".").free / GB, 1),
        "zero_gpu": bool(os.environ.get("SPACES_ZERO_GPU")),
        "default_model": os.environ.get("UNIPIXEL_MODEL") or "nano",
        "devices": devices,
        "models": models,
        "packages": packages,
        "modules": modules,
        "problems": problems,
    }


def known_models() -> list[str]:
    """The embedded model and the released ones."""
    from unipixel.config import RELEASED

    return ["nano", *RELEASED]


def requirements() -> Iterator[Requirement]:
    """What we ask for: requirements.txt in a checkout, the metadata of an installed package."""
    file = Path(__file__).parents[1] / "requirements.txt"
    if file.is_file():
        lines = [line.split("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]
    else:
        lines = importlib.metadata.requires("unipixel") or []
    for line in filter(None, lines):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def list_packages() -> list[dict[str, Any]]:
    """Name, wanted range, installed version (None if missing) and verdict of each package we ask for."""
    packages = []
    for requirement in requirements():
        try:
            installed = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            installed = None
        fits = installed is not None and requirement.specifier.contains(installed, prereleases=True)
        packages.append(
            {"name": requirement.name, "wanted": str(requirement.specifier), "installed": installed, "ok": fits}
        )
    return packages


def module_health(name: str) -> str:
    """ "ok", or in one line why `name` cannot be imported."""
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken binary may raise whatever its loader raises
        return " ".join(str(error).split()) or type(error).__name__
    return "ok"


def list_devices() -> list[dict[str, Any]]:
    """The CPU and every accelerator, with total and free memory in GB (None where it is not known)."""
    total, free = host_memory()
    devices: list[dict[str, Any]] = [{"name": "cpu", "title": platform.processor(), "total_gb": total, "free_gb": free}]
    try:
        import torch
    except Exception:  # reported by module_health
        return devices
    for index in range(torch.cuda.device_count()):
        free_bytes, total_bytes = torch.cuda.mem_get_info(index)
        title = torch.cuda.get_device_name(index)
        devices.append(
            {"name": f"cuda:{index}", "title": title, "total_gb": _gb(total_bytes), "free_gb": _gb(free_bytes)}
        )
    if torch.backends.mps.is_available():
        devices.append(
            {"name": "mps", "title": "Apple GPU, shares the CPU's memory", "total_gb": total, "free_gb": free}
        )
    return devices


def host_memory() -> tuple[float | None, float | None]:
    """Total and available memory in GB, (None, None) on systems that do not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None, None
    kilobytes = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
    return _gb(kilobytes["MemTotal"] * 1024), _gb(kilobytes["MemAvailable"] * 1024)


def _gb(count: float) -> float:
    return round(count / GB, 1)


def memory_needs(name: str, devices: Sequence[Mapping[str, Any]], frames: int = DEFAULT_FRAMES) -> dict[str, Any]:
    """What the model `name` needs in each number format (GB), and the devices it fits on now; nothing is downloaded
    but its config.json."""
    from unipixel.plan import FORMATS, find_plan_config, plan_memory

    plan = plan_memory(name, find_plan_config(name), frames)
    formats: dict[str, dict[str, Any]] = {}
    for number_format in FORMATS:
        total = plan.total(number_format)
        formats[number_format] = {
            "weights_gb": round(plan.weights[number_format] / GB, 2),
            "cache_gb": round(plan.cache[number_format] / GB, 2),
            "sam2_features_gb": round(plan.features / GB, 2),
            "working_gb": round(plan.working[number_format] / GB, 2),
            "total_gb": round(total / GB, 2),
            "fits_on": [d["name"] for d in devices if (d["free_gb"] or 0) * GB >= total],
        }
    return {"name": name, "frames": frames, "tokens": plan.tokens, "parameters": plan.parameters, "formats": formats}


def render_plan(plan: Mapping[str, Any], devices: Sequence[Mapping[str, Any]]) -> str:
    """The memory plan of one model as text."""
    parts = ", ".join(f"{part} {count / 1e6:,.0f} M" for part, count in plan["parameters"].items())
    columns = ("weights_gb", "cache_gb", "sam2_features_gb", "working_gb", "total_gb")
    titles = ("weights", "KV cache", "SAM 2", "working", "total")
    lines = [
        f"{plan['name']}: {sum(plan['parameters'].values()) / 1e9:.2f} billion parameters ({parts})",
        f"Memory in GB for a clip of {plan['frames']} frames, up to {plan['tokens']:,} tokens, one object",
        "",
        "  " + "format".ljust(10) + "".join(title.rjust(10) for title in titles) + "   fits on",
    ]
    for number_format, need in plan["formats"].items():
        numbers = "".join(f"{need[column]:10.2f}" for column in columns)
        lines.append(f"  {number_format:10}{numbers}   {', '.join(need['fits_on']) or 'nothing here'}")
    free = ", ".join(f"{d['name']} {d['free_gb']} of {d['total_gb']} GB free" for d in devices)
    return "\n".join([*lines, "", f"Here: {free}"])


def render(found: Mapping[str, Any]) -> str:
    """The report as text."""
    lines = [
        f"Python {found['python']} on {found['system']}, {found['cpus']} CPUs, {found['disk_free_gb']} GB of disk free",
        f"Default model: {found['default_model']}" + (" (ZeroGPU)" if found["zero_gpu"] else ""),
        "",
        "Devices",
        *(f"  {d['name']}: {d['free_gb']} of {d['total_gb']} GB free {d['title']}".rstrip() for d in found["devices"]),
        "",
        "Models (memory for a clip; --model NAME tells more)",
        *(f"  {_fit_line(model)}" for model in found["models"]),
        "",
        "Packages",
        *(f"  {p['name']} {p['installed'] or 'missing'} (wanted {p['wanted']})" for p in found["packages"]),
        "",
        "Modules",
        *(f"  {name}: {_module_line(name, state)}" for name, state in found["modules"].items()),
        "",
        *(found["problems"] or ["No problems found."]),
    ]
    return "\n".join(lines)


def _fit_line(model: Mapping[str, Any]) -> str:
    whole, half = model["formats"]["float32"], model["formats"]["bfloat16"]
    need = f"{model['name']}: {half['total_gb']} GB in 16 bit, {whole['total_gb']} GB in 32 bit (as on a CPU)"
    places = [d for d in half["fits_on"] if d != "cpu" or d in whole["fits_on"]]
    return f"{need}, fits on {', '.join(places)}" if places else f"{need}, does not fit here like this"


def _module_line(name: str, state: str) -> str:
    if name == "torchvision" and state != "ok":
        return "not usable beside this torch, which is fine: nothing here uses it"
    return state
