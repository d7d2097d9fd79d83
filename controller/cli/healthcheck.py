"""healthcheck: is the controller here ready? What the image's HEALTHCHECK calls, so it imports next to nothing."""

import http.client
import json
from typing import Final
from urllib.parse import urlsplit

from controller.cli.failure import ExitCode
from controller.cli.invocation import Invocation, local_url

TIMEOUT_S: Final = 4.0
_BODY_MAX_BYTES: Final = 64 * 1024


def healthcheck(call: Invocation) -> int:
    """Exit 0 when ready, else 1 with one line why."""
    host = urlsplit(local_url(call.settings())).netloc
    connection = http.client.HTTPConnection(host, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        body = response.read(_BODY_MAX_BYTES)
    except (OSError, http.client.HTTPException) as error:
        call.complain(f"not reachable at {host}: {error}")
        return ExitCode.REFUSED
    finally:
        connection.close()
    if response.status == 200:
        call.say("ready")
        return ExitCode.DONE
    call.complain(f"not ready: {_failing(body)}")
    return ExitCode.REFUSED


def _failing(body: bytes) -> str:
    try:
        answer: object = json.loads(body)
    except ValueError:
        return "no answer that can be read"
    checks = answer.get("checks") if isinstance(answer, dict) else None
    if not isinstance(checks, dict):
        return "no checks in the answer"
    return "; ".join(f"{name}: {said}" for name, said in checks.items() if said != "ok") or "no reason given"
