"""The garbage collector, paused where much is made and all of it is kept.

With 10,000 VMs, looking through all of it for garbage takes several times as long as making it.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused() -> Iterator[None]:
    """Within, nobody looks for garbage; what was made counts as old afterwards, so is looked at rarely."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()  # to the oldest generation, without a look
        gc.enable()
