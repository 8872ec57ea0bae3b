"""Hide a torchvision that cannot load.

sam2 requires torchvision, whose published wheel is built for CUDA and fails to load beside a CPU build of torch.
Nothing here uses it, but transformers imports it whenever it is installed and would fail with it. With a healthy
torchvision this does nothing. It must run before transformers loads a model's code.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys


def hide_broken_torchvision() -> None:
    """Make `import torchvision` fail cleanly (as if not installed) when the installed one cannot load."""
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    # Its version says for which torch build it was made ("+cpu" or not); importing it would cost seconds.
    torch_is_cpu = importlib.metadata.version("torch").endswith("+cpu")
    if torch_is_cpu == importlib.metadata.version("torchvision").endswith("+cpu"):
        return
    try:
        importlib.import_module("torchvision")
    except Exception:  # it raises whatever its extension's loader raises
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # pyright: ignore[reportArgumentType]
        _let_transformers_look_again()


def _let_transformers_look_again() -> None:
    """If transformers was imported first, it remembers that torchvision is installed."""
    remembered = sys.modules.get("transformers.utils.import_utils")
    for name in ("is_torchvision_available", "is_torchvision_v2_available"):
        forget = getattr(getattr(remembered, name, None), "cache_clear", None)
        if forget is not None:
            forget()
