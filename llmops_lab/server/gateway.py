"""Kernels of a Jupyter gateway (or of any Jupyter server that lets its kernels be used): listed, started, stopped over HTTP."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
from collections.abc import Callable
from threading import Thread
from typing import Any

import websocket
from jupyter_server.gateway.gateway_client import GatewayClient, gateway_request
from jupyter_server.gateway.managers import ChannelQueue, GatewayKernelClient, GatewayKernelManager
from jupyter_server.utils import ensure_async, url_path_join
from tornado import web
from tornado.escape import url_escape

from llmops_lab.errors import BadInput, Unreachable

_DEAD = ("restarting", "autorestarting", "dead")


def names(url: str) -> dict[str, str]:
    """Kernel -> what it is called for people. Raises Unreachable when the gateway does not answer."""
    specs = _asked(url)
    return {name: str((each.get("spec") or {}).get("display_name") or name) for name, each in specs.items()}


def manager_for(url: str) -> type[Any]:
    """The class that starts and stops kernels there, as nbclient wants it. Raises BadInput when no gateway is configured."""
    if not url:
        raise BadInput("no gateway is configured. Set kernel_gateway (LLMOPS_LAB_KERNEL_GATEWAY) to its URL.")
    _point_to(url)
    return RemoteKernelManager


class _Iopub(ChannelQueue):
    """What a kernel publishes. A server starts a kernel that has died again, under the same name: what ran in the old one is lost."""

    on_death: Callable[[], object] = staticmethod(lambda: None)

    async def get_msg(self, *given: Any, **named: Any) -> Any:
        told = await super().get_msg(*given, **named)
        if told["header"]["msg_type"] == "status" and told["content"].get("execution_state") in _DEAD:
            self.on_death()
        return told


class RemoteKernelClient(GatewayKernelClient):
    """jupyter_server's, which leaves out the gateway's token when it opens the channels."""

    async def start_channels(self, *given: Any, **named: Any) -> None:
        """Open them."""
        client = GatewayClient.instance()
        place = url_path_join(client.ws_url or "", client.kernels_endpoint, url_escape(self.kernel_id), "channels")
        ssl = {"ca_certs": client.ca_certs, "certfile": client.client_cert, "keyfile": client.client_key}
        headers = client.load_connection_args().get("headers") or {}
        self.channel_socket = websocket.create_connection(
            place, timeout=client.KERNEL_LAUNCH_TIMEOUT, enable_multithread=True, sslopt=ssl, header=headers
        )
        await ensure_async(super(GatewayKernelClient, self).start_channels(*given, **named))
        self.response_router = Thread(target=self._route_responses, daemon=True)
        self.response_router.start()

    async def is_alive(self) -> bool:
        """Whether the gateway still knows the kernel and has not seen it die."""
        return bool(await self.parent.is_alive())

    def stop_channels(self) -> None:
        """Close them, where they were opened."""
        if self.channel_socket is not None:
            super().stop_channels()  # type: ignore[no-untyped-call]

    @property
    def iopub_channel(self) -> Any:
        """What the kernel publishes."""
        if self._iopub_channel is None and self.channel_socket is not None and self._channel_queues is not None:
            self._iopub_channel = _Iopub("iopub", self.channel_socket, self.log)
            self._iopub_channel.on_death = self.parent.has_died
            self._channel_queues["iopub"] = self._iopub_channel
        return self._iopub_channel


class RemoteKernelManager(GatewayKernelManager):
    """jupyter_server's, for one kernel by itself: it starts the kernel that it was made for, and says when that is gone."""

    client_factory = RemoteKernelClient
    _is_gone = False

    def has_died(self) -> None:
        """The gateway said so."""
        self._is_gone = True

    async def start_kernel(self, **given: Any) -> None:
        """Start it. What a process here would get beside its environment (a folder, files) means nothing there."""
        self._is_gone = False
        there = {name: value for name, value in given.items() if name == "env"}
        await super().start_kernel(kernel_name=self.kernel_name, **there)

    async def is_alive(self) -> bool:
        """Whether the gateway still knows it and has not seen it die."""
        if not self.has_kernel or self._is_gone:
            return False
        self.kernel = await self.refresh_model()  # type: ignore[no-untyped-call]
        return bool(self.kernel and self.kernel.get("execution_state") not in _DEAD)


def _point_to(url: str) -> GatewayClient:
    client: GatewayClient = GatewayClient.instance()
    if client.url != url:
        client.url = url
    return client


def _asked(url: str) -> dict[str, Any]:
    place = url_path_join(url, str(_point_to(url).kernelspecs_endpoint))
    # In a thread, as this one may have an event loop that runs: a notebook's kernel has.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        try:
            told = json.loads(thread.submit(asyncio.run, _got(place)).result(60))
        except (OSError, ValueError, web.HTTPError, concurrent.futures.TimeoutError) as error:
            said = getattr(error, "log_message", "") or error
            raise Unreachable(f"the kernel gateway {url} does not answer: {said}. Is it running, and is its address right?") from error
    return dict(told.get("kernelspecs") or {})


async def _got(address: str) -> bytes:
    return bytes((await gateway_request(address, method="GET")).body)
