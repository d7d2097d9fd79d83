"""Log lines on standard output: JSON for programs, or one readable line for people.

Every room logs through structlog; the libraries' own logging ends here too. Text from outside (names, labels, an
engine's words) may say what it likes: it never begins a line of its own and never sends a terminal code. Imports
nothing of ours, so that every room may use it; and structlog only where it is needed, because `clean` is also used by
`agentdctl healthcheck`, which an engine runs every few seconds and which should cost next to nothing.
"""

import json
import logging
import unicodedata
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Final, Protocol

Event = MutableMapping[str, object]

VALUE_MAX_CHARS: Final = 8_192
"""No single value of a log line is longer."""
LIBRARY_MESSAGE_MAX_CHARS: Final = 1_000
CONSOLE_VALUE_MAX_CHARS: Final = 400

_SHORT_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNSAFE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Controls (C0, C1, ESC, DEL), format marks (bidi among them), lone surrogates, line and paragraph separators."""
_CONSOLE_HIDES: Final = ("ts", "level", "event", "session", "from", "to", "reason", "message", "exception")
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}


def clean(text: str, limit: int) -> str:
    """Text as one harmless line of at most `limit` characters; what it hid is shown as an escape."""
    cut = text if len(text) <= limit else text[: max(limit - 1, 0)] + "…"
    shown = cut if cut.isascii() and cut.isprintable() else "".join(_visible(char) for char in cut)
    return shown if len(shown) <= limit else shown[: max(limit - 1, 0)] + "…"


def _visible(char: str) -> str:
    if unicodedata.category(char) not in _UNSAFE_CATEGORIES:
        return char
    code = ord(char)
    if code <= 0xFF:
        return _SHORT_ESCAPES.get(char, f"\\x{code:02x}")
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


class Stream(Protocol):
    """Where lines go: a file of text, or what writes to one."""

    def write(self, text: str, /) -> object:
        """Whole lines."""
        ...

    def flush(self) -> object:
        """Whoever reads shall have them now."""
        ...

    def isatty(self) -> bool:
        """Whether a person reads."""
        ...


def configure(output: str, level: str, *, stream: Stream) -> None:
    """Log from now on as `json`, `console`, or `auto` (console on a terminal); safe to call again."""
    import structlog

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _stamp,
            _renderer(output, stream),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=_Lines(stream),
        cache_logger_on_first_use=False,
    )
    _capture_libraries(_LEVELS[level])


def lost(output: str, stream: Stream, count: int) -> str:
    """The line that stands where so many others would have been."""
    event: Event = {"event": "log lines lost", "level": "warning", "count": count}
    _stamp(None, "", event)
    return _renderer(output, stream)(None, "", event) + "\n"


def _renderer(output: str, stream: Stream) -> Callable[[object, str, Event], str]:
    is_readable = output == "console" or (output == "auto" and stream.isatty())
    return _as_console if is_readable else _as_json


class _Lines:
    """Makes loggers that write whole lines."""

    def __init__(self, out: Stream) -> None:
        self._out = out

    def __call__(self, *_names: object) -> "_Lines":
        return self

    def write(self, line: str) -> None:
        try:
            self._out.write(line + "\n")
            self._out.flush()
        except UnicodeEncodeError:
            self._out.write(line.encode("ascii", "backslashreplace").decode("ascii") + "\n")
            self._out.flush()
        except (OSError, ValueError):
            # Whoever read the log has gone. The journal holds what happened; the sessions must not suffer for it.
            return

    msg = debug = info = warning = error = critical = exception = write


def _stamp(_logger: object, _name: str, event: Event) -> Event:
    # The wall clock, and not the injected one: a log line says when it was written.
    event["ts"] = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return event


def _as_json(_logger: object, _name: str, event: Event) -> str:
    first = {key: event[key] for key in ("ts", "level", "event") if key in event}
    rest = {key: _bounded(value) for key, value in event.items() if key not in first}
    # ensure_ascii escapes all but DEL, which may stand only inside a string.
    return json.dumps(first | rest, default=str).replace("\x7f", "\\u007f")


def _bounded(value: object) -> object:
    if isinstance(value, str) and len(value) > VALUE_MAX_CHARS:
        return value[: VALUE_MAX_CHARS - 1] + "…"
    return value


def _as_console(_logger: object, _name: str, event: Event) -> str:
    head = f"{str(event['ts'])[11:23]} {event.get('level', '')!s:<7} {_flat(event.get('event', ''))}"
    story = [_flat(event["session"])] if event.get("session") else []
    if event.get("to"):
        story.append(_flat(event["to"]) if event.get("from") in (None, event["to"]) else _change(event))
    story += [_flat(event[key]) for key in ("reason", "message") if event.get(key)]
    story += [f"{_flat(key)}={_quoted(value)}" for key, value in event.items() if _worth_showing(key, value)]
    if event.get("exception"):
        story.append(f"exception={clean(str(event['exception']), VALUE_MAX_CHARS)}")
    return "  ".join([head, *story])


def _change(event: Mapping[str, object]) -> str:
    return f"{_flat(event['from'])} -> {_flat(event['to'])}"


def _worth_showing(key: str, value: object) -> bool:
    return key not in _CONSOLE_HIDES and value is not None and value != ""


def _flat(value: object) -> str:
    return clean(str(value), CONSOLE_VALUE_MAX_CHARS)


def _quoted(value: object) -> str:
    text = _flat(value)
    return f'"{text}"' if " " in text else text


class _LibraryLog(logging.Handler):
    """Turns a library's log record into a line like ours, bounded."""

    def emit(self, record: logging.LogRecord) -> None:
        import structlog

        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            message = str(record.msg)
        facts = {"library": record.name, "message": message[:LIBRARY_MESSAGE_MAX_CHARS]}
        if record.exc_info and record.exc_info[0] is not None:
            kind, error = record.exc_info[0].__name__, record.exc_info[1]
            facts["error"] = f"{kind}: {error}"[:LIBRARY_MESSAGE_MAX_CHARS]
        structlog.get_logger().log(min(record.levelno, logging.CRITICAL), "library", **facts)


def _capture_libraries(level: int) -> None:
    # Below WARNING a library tells of its own affairs, request by request: never into the story of the sessions.
    root = logging.getLogger()
    root.handlers[:] = [_LibraryLog()]
    root.setLevel(max(level, logging.WARNING))
    logging.captureWarnings(capture=True)
