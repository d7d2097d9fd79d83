"""An engine that introduces itself and then answers as a rule says: no engine is needed."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from controller.engine.docker import DockerBackend
from tests.engine.test_translating import ABOUT
from tests.support.backends import SHORT, backend_at
from tests.support.fault_proxy import Fault, FaultProxy, Refuse, Request, Rule, Status


def answering(rule: Rule, *, version: object = None) -> Rule:
    """An engine that introduces itself, and then does as the rule says."""
    about = {"/version": version or ABOUT["version"], "/info": ABOUT["info"], "/networks": []}

    def whole(request: Request) -> Fault | None:
        if request.path in about:
            return Status(200, json.dumps(about[request.path]).encode())
        return rule(request) or Refuse()

    return whole


@asynccontextmanager
async def connected(
    folder: Path, rule: Rule, *, version: object = None
) -> AsyncIterator[tuple[DockerBackend, FaultProxy]]:
    proxy = FaultProxy(listen=folder / "p", upstream=folder / "none", rule=answering(rule, version=version))
    async with proxy, backend_at(proxy.url, limits=SHORT) as backend:
        await backend.connect()
        yield backend, proxy
