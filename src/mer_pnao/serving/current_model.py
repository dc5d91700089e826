"""The model that answers now, and its replacement when another one is promoted."""

import asyncio
import sys
import time
from collections.abc import Callable

from mer_pnao.foundations.errors import InputError
from mer_pnao.predict import Predictor

_AGAIN = 60.0  # seconds until a version that could not be loaded is tried again: a checkpoint takes seconds to check


class CurrentModel:
    """Holds a predictor and watches for its successor; a request keeps the predictor that it began with.

    Args:
        load: gives the model, which may take encoders from the one before.
        latest: tells the version that should answer now; None: the model stays as it is.
        seconds: between two questions for the version.

    Raises:
        InputError: the model cannot be used, or not on uploads.
    """

    def __init__(
        self,
        load: Callable[[Predictor | None], Predictor],
        latest: Callable[[], str] | None = None,
        seconds: float = 5.0,
    ) -> None:
        self._load, self._latest, self._seconds = load, latest, seconds
        self.predictor = self._loaded(None)
        self.stale = False  # whether another version should answer and cannot

    def _loaded(self, before: Predictor | None) -> Predictor:
        predictor = self._load(before)
        for name, plan in predictor.plans().items():
            if plan.limits.crops:
                called = f"the encoder {name} of model {predictor.version}"
                raise InputError(f"{called} reads ready face crops, which an upload has none of")
        return predictor

    async def watch(self) -> None:
        """Ask for the version until cancelled, and load it beside the one that goes on answering."""
        printed, failed, again = "", "", 0.0
        while self._latest is not None:
            await asyncio.sleep(self._seconds)
            try:
                version = await asyncio.to_thread(self._latest)
                if version != self.predictor.version:
                    if version == failed and time.monotonic() < again:
                        continue
                    failed, again = version, time.monotonic() + _AGAIN  # unless it can be loaded
                    self.predictor = await asyncio.to_thread(self._loaded, self.predictor)
                    print(f"model {self.predictor.version} answers now", file=sys.stderr, flush=True)
                self.stale, printed, failed = False, "", ""
            except Exception as error:  # whatever it is, the model that is there goes on answering
                self.stale = bool(failed)  # whoever cannot be asked has promoted nothing
                if str(error) != printed:
                    printed = str(error)
                    print(f"model {self.predictor.version} goes on answering: {printed}", file=sys.stderr, flush=True)
