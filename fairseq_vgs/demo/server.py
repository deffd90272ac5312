"""Serve the page to this machine's browsers, without a word to any other."""

from __future__ import annotations

import errno
import logging
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fairseq_vgs.files.faults import FaultError, fault
from fairseq_vgs.files.packages import optional_package
from fairseq_vgs.report.page import render_page

MAX_UPLOAD_BYTES = 50_000_000
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
# Gradio's page is full of scripts of its own; none may talk to others.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'self'"
)


def free_port(host: str, port: int) -> int:
    """Return the port after trying it; 0 becomes a free one.

    Raises:
        FaultError: ``server.address``: it is taken, or no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
            return int(tried.getsockname()[1])
    except (OSError, OverflowError) as error:
        is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        step = (
            "choose another with --port, or end the program that uses it"
            if is_taken
            else "correct --host or --port"
        )
        expected = "must be a free address of this machine"
        raise FaultError(
            fault(f"{host}:{port}", expected, str(error), step, code="server.address")
        ) from error


@contextmanager
def quiet_gradio() -> Iterator[Any]:
    """Import Gradio without its telemetry, with a folder for uploads that is removed at the end.

    Raises:
        FaultError: ``package.missing``.
    """
    with tempfile.TemporaryDirectory(prefix="fairseq_vgs_demo_") as uploads:
        # it asks itself whether it is there, which a proxy would not know
        own = ",".join(filter(None, (os.environ.get("no_proxy"), "localhost,127.0.0.1,::1")))
        os.environ.update(
            GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=uploads, no_proxy=own, NO_PROXY=own
        )
        yield optional_package("gradio", "demo", place="fairseq-vgs demo")


def serve(
    page: Any, gradio: Any, *, host: str, port: int, open_browser: bool, ready: Callable[[str], None]
) -> None:
    """Serve a page until the program is interrupted; ``ready`` gets its address."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # Gradio asks itself whether it is there
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        inbrowser=open_browser,
        prevent_thread_lock=True,
        show_error=True,
        max_file_size=MAX_UPLOAD_BYTES,
        allowed_paths=[],
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        theme=gradio.themes.Default(**FONTS),
        head=render_page("demo_head.html.j2"),
        app_kwargs={"middleware": [_policy_middleware()]},
    )
    try:
        ready(page.local_url)
        threading.Event().wait()
    finally:
        page.close(verbose=False)


def _policy_middleware() -> Any:
    """Return a layer that adds ``POLICY`` to every answer."""
    from starlette.middleware import Middleware

    class AddPolicy:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def send_with_policy(message: Any) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [
                        *message.get("headers", ()),
                        (b"content-security-policy", POLICY.encode()),
                    ]
                await send(message)

            await self.app(scope, receive, send_with_policy)

    return Middleware(AddPolicy)
