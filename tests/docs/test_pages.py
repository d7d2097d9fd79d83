"""The pages name every word of the closed lists, and only names that exist."""

import re
from pathlib import Path

import pytest

from controller.cli.parser import make_parser
from controller.core.diagnosis import SIGKILL_UNEXPLAINED
from controller.model.exit import Confidence, Verdict
from controller.model.phase import Phase
from controller.model.reason import Reason, Source
from tests.core.test_why import REMOVED_TEXTS, TEXTS

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {name: (DOCS / name).read_text(encoding="utf-8") for name in ("diagnosis.md", "operating.md", "glossary.md")}
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((DOCS.parent / "controller").rglob("*.py")))


def first_cells(page: str) -> set[str]:
    """The words in backticks that open a table row."""
    return set(re.findall(r"^\| `([a-z_ ]+)` \|", page, flags=re.MULTILINE))


def test_every_reason_is_explained_once() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \|", PAGES["operating.md"], flags=re.MULTILINE)
    assert {reason.value for reason in Reason} <= set(rows)
    assert len({row for row in rows if row in set(Reason)}) == sum(row in set(Reason) for row in rows)


def test_no_row_explains_a_reason_that_does_not_exist() -> None:
    section = PAGES["operating.md"].split("## Reasons, one by one")[1].split("\n## ")[0]
    assert first_cells(section) == {reason.value for reason in Reason}


def test_every_source_is_explained() -> None:
    assert {source.value for source in Source} <= first_cells(PAGES["operating.md"])


def test_every_verdict_has_a_heading_and_a_row() -> None:
    page = PAGES["diagnosis.md"]
    headings = set(re.findall(r"^### \d+ `([a-z_]+)`", page, flags=re.MULTILINE))
    rows = set(re.findall(r"^\| \d+ \|[^|]*\| `([a-z_]+)` \|", page, flags=re.MULTILINE))
    assert headings == rows == {verdict.value for verdict in Verdict}


def test_the_rows_of_the_table_are_numbered_in_order() -> None:
    numbers = [int(n) for n in re.findall(r"^\| (\d+) \|", PAGES["diagnosis.md"], flags=re.MULTILINE)]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(1, 17))


def test_every_confidence_is_explained() -> None:
    assert {confidence.value for confidence in Confidence} <= first_cells(PAGES["diagnosis.md"])


def test_the_example_sentences_are_the_programs_own() -> None:
    said = {text[1] for text in TEXTS.values()} | {text[1] for text in REMOVED_TEXTS.values()}
    shown = re.findall(r"^> (.+)$", PAGES["diagnosis.md"], flags=re.MULTILINE)
    assert len(shown) >= len(Verdict)
    assert set(shown) <= said
    assert SIGKILL_UNEXPLAINED in PAGES["diagnosis.md"]


def test_the_glossary_names_every_phase() -> None:
    assert all(phase.value in PAGES["glossary.md"] for phase in Phase)


@pytest.mark.parametrize("page", PAGES)
def test_settings_labels_and_paths_on_the_pages_exist(page: str) -> None:
    names = set(re.findall(r"\bAGENTD_[A-Z_]+\b|\bagentd\.[a-z][a-z-]+\b|/v1/[a-z]+", PAGES[page]))
    assert {name for name in names if name not in SOURCE} == set()


@pytest.mark.parametrize("page", PAGES)
def test_commands_on_the_pages_exist(page: str) -> None:
    shown = set(re.findall(r"agentdctl ([a-z][a-z-]+)", PAGES[page]))
    commands = make_parser().format_help()
    assert {name for name in shown if not re.search(rf"^ +{name}\b", commands, flags=re.MULTILINE)} == set()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGES[page]):
        assert (DOCS / target).exists(), target
