"""A class of torch's, replaced by name: it makes the device's objects for the device, and torch's for every other.

torch's `Generator`, `Event` and `Stream` are written in C++, ask hooks that Python cannot register, and cannot be
amended. The class that stands in for one is a subclass of it that makes no instances of its own, so `isinstance` and
subclasses written for torch's class go on as before, and so does every call for another device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def stand_in(name: str, make: Callable[..., Any | None]) -> None:
    """Replace `torch.<name>`.

    Args:
        name: of the class.
        make: what makes an object of the device from the class's own arguments; None if they ask for another device.
    """
    original: type = getattr(torch, name)

    class Meta(type(original)):
        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            if cls is not replacement:
                return super().__call__(*args, **kwargs)
            made = make(*args, **kwargs)
            return original(*args, **kwargs) if made is None else made

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, original) if cls is replacement else super().__instancecheck__(instance)

        def __subclasscheck__(cls, subclass: type) -> bool:
            return issubclass(subclass, original) if cls is replacement else super().__subclasscheck__(subclass)

    replacement = Meta(name, (original,), {"__doc__": original.__doc__, "__module__": original.__module__})
    setattr(torch, name, replacement)
