"""The model that answers now, and its replacement when another one is promoted."""

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from mer_pnao.predict import Predictor

_AGAIN = 60.0  # seconds until a version that could not be loaded is tried again: a checkpoint takes seconds to check


@dataclass(frozen=True)
class ModelSource:
    """Where the service's model comes from."""

    load: Callable[[Predictor | None], Predictor]  # the model; encoders may be taken from the one before
    latest: Callable[[], str] | None = None  # the version that should answer now; None: the model stays as it is
    seconds: float = 5.0  # between two questions for the version


class CurrentModel:
    """Holds a predictor and watches its source; a request keeps the predictor that it began with."""

    def __init__(self, source: ModelSource) -> None:
        """Load the model. Raises InputError when it cannot be used."""
        self._source = source
        self.predictor = source.load(None)
        self.stale = False  # whether another version should answer and cannot

    async def watch(self) -> None:
        """Ask for the version until cancelled, and load it beside the one that goes on answering."""
        latest, printed, failed, again = self._source.latest, "", "", 0.0
        while latest is not None:
            await asyncio.sleep(self._source.seconds)
            try:
                version = await asyncio.to_thread(latest)
                if version != self.predictor.version:
                    if version == failed and time.monotonic() < again:
                        continue
                    failed, again = version, time.monotonic() + _AGAIN  # unless it can be loaded
                    self.predictor = await asyncio.to_thread(self._source.load, self.predictor)
                    print(f"model {self.predictor.version} answers now", file=sys.stderr, flush=True)
                self.stale, printed, failed = False, "", ""
            except Exception as error:  # whatever it is, the model that is there goes on answering
                self.stale = bool(failed)  # whoever cannot be asked has promoted nothing
                if str(error) != printed:
                    printed = str(error)
                    print(f"model {self.predictor.version} goes on answering: {printed}", file=sys.stderr, flush=True)
