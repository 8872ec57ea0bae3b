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

GB = 1e9

# Parameters of the models we know. The 7B's number is an estimate, nano's is what 60 MB of float32 can hold at most.
PARAMETERS = {
    "nano": 15e6,
    "PolyU-ChenLab/UniPixel-3B": 3.88e9,
    "PolyU-ChenLab/UniPixel-7B": 8.4e9,
}

# Beside the weights: activations of 16 frames, the cache of the language model, SAM 2's memory. A rule of thumb.
WORKING_GB = {"nano": 1.0}
WORKING_GB_LARGE = 4.0


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report; 0 if the installation is sound, 1 if something is missing or does not load."""
    parser = argparse.ArgumentParser(prog="unipixel doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    args = parser.parse_args(argv)
    found = report()
    print(json.dumps(found, indent=2) if args.json else render(found))
    return 1 if found["problems"] else 0


def report() -> dict[str, Any]:
    """Everything the doctor looks at, as JSON values. Imports torch."""
    devices, packages = list_devices(), list_packages()
    modules = {name: module_health(name) for name in ("torch", "cv2", "sam2", "torchvision")}
    problems = [
        f"{p['name']} {p['wanted']} is wanted, {p['installed'] or 'none'} is installed" for p in packages if not p["ok"]
    ]
    # torchvision is asked for by sam2 only and used by nobody here: a CPU build of torch cannot load it, which is fine.
    problems += [
        f"{name} does not load: {state}" for name, state in modules.items() if state != "ok" and name != "torchvision"
    ]
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "disk_free_gb": round(shutil.disk_usage(".").free / GB, 1),
        "zero_gpu": bool(os.environ.get("SPACES_ZERO_GPU")),
        "default_model": os.environ.get("UNIPIXEL_MODEL") or "nano",
        "devices": devices,
        "models": [{"name": name, **model_fit(name, devices)} for name in PARAMETERS],
        "packages": packages,
        "modules": modules,
        "problems": problems,
    }


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


def model_fit(name: str, devices: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """About how much memory `name` needs (GB: float32 on the CPU, 16 bit elsewhere), and the devices it fits on now."""
    working = WORKING_GB.get(name, WORKING_GB_LARGE)
    needs = {width: round(PARAMETERS[name] * width / GB + working, 1) for width in (2, 4)}
    fitting = [d["name"] for d in devices if (d["free_gb"] or 0) >= needs[4 if d["name"] == "cpu" else 2]]
    return {"needs_gb": needs[2], "needs_gb_cpu": needs[4], "fits_on": fitting}


def render(found: Mapping[str, Any]) -> str:
    """The report as text."""
    lines = [
        f"Python {found['python']} on {found['system']}, {found['cpus']} CPUs, {found['disk_free_gb']} GB of disk free",
        f"Default model: {found['default_model']}" + (" (ZeroGPU)" if found["zero_gpu"] else ""),
        "",
        "Devices",
        *(f"  {d['name']}: {d['free_gb']} of {d['total_gb']} GB free {d['title']}".rstrip() for d in found["devices"]),
        "",
        "Models (memory needed is an estimate)",
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
    need = f"{model['name']}: about {model['needs_gb']} GB ({model['needs_gb_cpu']} GB on a CPU)"
    return f"{need}, fits on {', '.join(model['fits_on'])}" if model["fits_on"] else f"{need}, fits nowhere here"


def _module_line(name: str, state: str) -> str:
    if name == "torchvision" and state != "ok":
        return "not usable beside this torch, which is fine: nothing here uses it"
    return state
