"""The model that answers now, and its replacement when another one is promoted."""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass

from mer_pnao.predict import Predictor


@dataclass(frozen=True)
class ModelSource:
    """Where the service's model comes from."""

    load: Callable[[Predictor | None], Predictor]  # the model; encoders may be taken from the one before
    latest: Callable[[str], str]  # the version that should answer instead of the given one, or that
    seconds: float = 5.0  # between two looks


class CurrentModel:
    """Holds a predictor and watches its source; a request keeps the predictor that it began with."""

    def __init__(self, source: ModelSource) -> None:
        """Load the model. Raises InputError when it cannot be used."""
        self._source = source
        self.predictor = source.load(None)
        self.stale = False  # whether another version should answer and cannot

    async def watch(self) -> None:
        """Look for another version until cancelled, and load it beside the one that goes on answering."""
        wait, told = self._source.seconds, ""
        while True:
            await asyncio.sleep(wait)
            wait = self._source.seconds
            try:
                version = self.predictor.version
                if await asyncio.to_thread(self._source.latest, version) != version:
                    self.predictor = await asyncio.to_thread(self._source.load, self.predictor)
                    print(f"model {self.predictor.version} answers now", file=sys.stderr, flush=True)
                self.stale, told = False, ""
            except Exception as error:  # whatever it is, the model that is there goes on answering
                self.stale = True
                wait = max(wait, 60.0 if told else wait)  # a checkpoint takes seconds to check
                if str(error) != told:
                    told = str(error)
                    print(f"model {self.predictor.version} goes on answering: {told}", file=sys.stderr, flush=True)
