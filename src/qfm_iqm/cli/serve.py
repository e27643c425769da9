"""`qfm serve`: serves scores over HTTP, and a web page."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated

import typer

from qfm_iqm.cli.options import (
    Device,
    Model,
    check_device,
    extra,
    messages,
    millions,
    refuse_idle,
    say,
)
from qfm_iqm.errors import QFMError

if TYPE_CHECKING:
    from qfm_iqm.model.model import QualityModel


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.", min=0, max=65535)] = 8000,
    model: Model = "default",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="QFM_TOKEN",
            help="Clients must send it; required when other machines can reach the service.",
        ),
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Let anybody who can reach the service use it.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that decode. Default: one per core, at most 4.", min=1),
    ] = None,
    max_megapixels: Annotated[float, typer.Option(help="Largest image.", min=0.001)] = 50,
    max_file_mb: Annotated[
        float | None,
        typer.Option(help="Largest image file. Default: 50, if a request may have as many."),
    ] = None,
    max_request_mb: Annotated[float, typer.Option(help="Largest request.", min=0.001)] = 200,
    device: Device = None,
) -> None:
    """Serve scores over HTTP, with a page at / and a description at /docs."""
    from dataclasses import replace

    from qfm_iqm.scoring.runtimes.load import load_runtime

    with extra("serve", "The service"):
        from qfm_iqm.serve.app import create_app
        from qfm_iqm.serve.limits import Limits
        from qfm_iqm.serve.middleware import LOOPBACK, is_loopback
        from qfm_iqm.serve.server import listen, run

    if not host:
        raise QFMError("--host is empty: name an address to listen on, like 127.0.0.1.")
    local = is_loopback(host)
    if token is not None:
        refuse_idle({"--no-token": no_token}, "with --token (or QFM_TOKEN)")
    if local:
        refuse_idle({"--no-token": no_token}, f"on {host}, which needs no token")
    if token is not None and (not token.isascii() or len(token) < 8):
        raise QFMError("A token must have at least 8 characters, all ASCII.")
    if not local and token is None and not no_token:
        raise QFMError(
            f"On {host} others can reach the service: give --token (or QFM_TOKEN), or --no-token "
            "to let anybody use it."
        )
    check_device(device)
    limits = Limits(
        pixels=millions(max_megapixels, "--max-megapixels"),
        file_bytes=millions(
            min(50, max_request_mb) if max_file_mb is None else max_file_mb, "--max-file-mb"
        ),
        request_bytes=millions(max_request_mb, "--max-request-mb"),
    )
    if max_file_mb is not None and max_file_mb > max_request_mb:
        raise QFMError(
            f"--max-file-mb {max_file_mb:g} exceeds --max-request-mb {max_request_mb:g}: a file "
            "cannot be larger than its request."
        )
    if workers is not None:
        limits = replace(limits, workers=workers)
    listener = listen(host, port)
    loaded = load_runtime(model, device=device)

    @cache
    def explainer() -> QualityModel:
        """The torch model for quality maps, loaded on the first call unless it also scores."""
        from qfm_iqm.model.folder import load_model

        return getattr(loaded, "model", None) or load_model(model)

    app = create_app(
        loaded,
        explainer=explainer,
        limits=limits,
        token=token,
        hosts=LOOPBACK | {host.lower()} if local else None,
        device=device,
    )
    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listener.getsockname()[1]}"
    console = messages()

    def ready() -> None:
        say(console, f"Serving {model} at {url}  (Ctrl-C stops it)")

    run(app, listener, ready)
    console.print("Ended.")
