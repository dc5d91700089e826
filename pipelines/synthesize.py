"""Stage `synthesize`: make what the demo has no download for, its clips or its encoders' checkpoints."""

import sys
from pathlib import Path

from mer_pnao.foundations.console import input_errors, progress
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.parallel import usable_cores
from mer_pnao.params.profile import load_params


def main(what: str) -> None:
    """Make `clips` or `checkpoints` where params say."""
    params = load_params()
    if what not in params.synthesize:
        raise InputError(f"params.yaml: synthesize has no {what!r}, only {', '.join(params.synthesize) or 'nothing'}")
    out = Path(params.synthesize[what])
    out.parent.mkdir(parents=True, exist_ok=True)
    if what == "clips":  # each imports alone what it needs: the one a renderer, the other torch and transformers
        from mer_pnao.demo.render import render_corpus

        config = params.synthetic
        with progress("rendering clips", config.train_clips + config.test_clips) as done:
            render_corpus(config, out, usable_cores(), done)
    else:
        from mer_pnao.demo.checkpoints import write_demo_checkpoints

        with progress("making checkpoints", 1) as done:
            write_demo_checkpoints(out, params.seed)
            done(1)


if __name__ == "__main__":
    with input_errors():
        main(sys.argv[1])
