"""Where every command works."""

from pathlib import Path

ROOT = Path()  # the checkout's root: commands run there, as DVC's do
