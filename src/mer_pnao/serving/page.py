"""The page of the service, on which a person gives it a clip."""

import base64
import hashlib
import re
from importlib.resources import files

from fastapi.responses import HTMLResponse

from mer_pnao.corpus.readers.labelled_folder import EXTENSIONS


def the_page() -> HTMLResponse:
    """With a Content-Security-Policy that allows the page's own script and style and nothing else."""
    page = files("mer_pnao.serving").joinpath("page.html").read_text(encoding="utf-8")
    page = page.replace("EXTENSIONS", ",".join(EXTENSIONS))

    def allowed(tag: str) -> str:
        inner = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in inner)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    policy = (
        f"default-src 'none'; script-src {allowed('script')}; style-src {allowed('style')}; media-src blob:; "
        "img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
    }
    return HTMLResponse(page, headers=headers)
