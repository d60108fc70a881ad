"""What runs in the Jupyter server and needs no kernel: the review page with its routes, and a hook that saves our views readable."""

from __future__ import annotations

from typing import Any


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]


def _load_jupyter_server_extension(app: Any) -> None:
    # Imported now and not before: this module alone is loaded wherever somebody lists the server's extensions.
    from llmops_lab.server.routes import handlers
    from llmops_lab.server.saving import readable_views

    app.web_app.add_handlers(".*$", handlers(app.base_url))
    app.contents_manager.register_pre_save_hook(readable_views)
