"""The aiohttp application: API, pages, control, and the tasks that run behind them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from .api import Api, Handler
from .control import Control
from .pages import Pages
from .sandbox import Sandbox

MAX_BODY_BYTES = 256 * 1024


def build(sandbox: Sandbox) -> web.Application:
    api = Api(sandbox)

    @web.middleware
    async def outage(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await api.outage(request, handler)

    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[outage])
    app.add_routes(Control(sandbox).routes())
    app.add_routes(Pages(sandbox).routes())
    app.router.add_route("*", "/{anything:.*}", api.handle)

    async def background(_: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(sandbox.webhooks.run()), asyncio.create_task(sandbox.agenda.run())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        sandbox.state.close()

    app.cleanup_ctx.append(background)
    return app
