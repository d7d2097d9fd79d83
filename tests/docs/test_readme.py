"""What the README says exists: settings, files, commands, make targets."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMPOSE = (ROOT / "compose.yaml").read_text(encoding="utf-8")
SETTINGS = (ROOT / "controller" / "settings.py").read_text(encoding="utf-8")


def variables(text: str) -> set[str]:
    return set(re.findall(r"\b(?:AGENTD|DOCKER)_[A-Z_]+[A-Z]\b", text))


def test_every_setting_is_in_the_readme() -> None:
    read = set(re.findall(r'"((?:AGENTD|DOCKER)_[A-Z_]+)"', SETTINGS))

    assert read - variables(README) == set()


def test_every_variable_of_compose_is_in_the_readme() -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE))

    assert asked - variables(README) == set()


def test_the_readme_names_no_variable_that_nothing_reads() -> None:
    known = variables(SETTINGS) | variables(COMPOSE) | {"AGENTD_TOKEN_FILE"}

    assert variables(README) - known == set()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]

    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


def test_every_make_target_of_the_pages_exists() -> None:
    pages = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    assert set(re.findall(r"(?:^|`)make ([a-z]+)", pages, re.MULTILINE)) <= targets


def test_the_demo_is_watched_and_does_not_pass_for_a_controller() -> None:
    services = yaml.safe_load(COMPOSE)["services"]
    demo = {name: service for name, service in services.items() if service.get("profiles") == ["demo"]}

    assert set(demo) == {"steady", "crasher", "sickly"}
    assert services["controller"]["labels"] == {"agentd.role": "controller"}
    for service in demo.values():
        assert service["labels"] == {"agentd.role": "demo", "agentd.watch": "true"}
        assert service["image"] == services["controller"]["image"]
        assert service["depends_on"] == {"controller": {"condition": "service_healthy"}}


@pytest.mark.parametrize("path", ["Dockerfile", "compose.yaml", "constraints.txt", ".ci/run", "Makefile"])
def test_no_file_that_installs_names_an_index_or_a_registry(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")

    assert re.findall(r"https?://|# syntax=|--(?:extra-)?index-url|PIP_(?:EXTRA_)?INDEX_URL", text) == []
