"""Which numbers to compute with, as a word that needs no torch to be read."""

from typing import Literal

Precision = Literal["auto", "fp32", "bf16"]
