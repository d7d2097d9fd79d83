"""Whose a container is, what it is called, and what a sweep makes of it."""

from dataclasses import replace

import pytest

from controller.core.admission import COPIED, Directory, Spared, admit, adoption
from controller.core.drift import FindingKind, compare, is_mass_absence
from controller.core.ownership import Owner, classify, external_key, may_act_on, name_for
from controller.core.specs import labels_for
from controller.model.action import OutcomeKind
from controller.model.container import ContainerState, EventAction, ListedContainer
from controller.model.ids import ActionId, ContainerId, SessionId, SessionName
from controller.model.observation import ContainerAdmitted, LookCause
from controller.model.phase import Health
from controller.model.session import Origin, Session
from controller.model.spec import RestartMode
from tests.support import builders as make
from tests.support.story import Story, running_session

OTHER = ContainerId("d" * 64)
EMPTY = Directory(known={}, by_key={}, taken=())
OURS = {"agentd.prefix": "agentd", "agentd.controller": make.RULES.controller_id}


@pytest.mark.parametrize(
    ("labels", "owner"),
    [
        ({"agentd.role": "controller", **OURS, "agentd.watch": "true"}, Owner.CONTROLLER),
        ({"agentd.prefix": "agentd", "agentd.controller": "somebody", "agentd.watch": "true"}, Owner.FOREIGN),
        ({"agentd.watch": "true"}, Owner.EXTERNAL),
        ({"agentd.watch": "true", "agentd.prefix": "agentd"}, Owner.EXTERNAL),
        (OURS, Owner.OURS),
        ({"agentd.prefix": "agentd"}, Owner.OURS),
        ({"agentd.prefix": "another"}, Owner.NONE),
        ({"agentd.watch": "false"}, Owner.NONE),
        ({}, Owner.NONE),
    ],
)
def test_the_first_match_decides_whose_it_is(labels: dict[str, str], owner: Owner) -> None:
    assert classify(OTHER, labels, known={}, rules=make.RULES) is owner


@pytest.mark.parametrize(
    "labels", [{"agentd.controller": "x"}, {"agentd.role": "controller"}, {"agentd.watch": "true"}]
)
def test_what_the_ledger_knows_beats_every_label(labels: dict[str, str]) -> None:
    assert classify(OTHER, OURS | labels, known={OTHER: SessionId("s1")}, rules=make.RULES) is Owner.KNOWN


def test_a_container_of_ours_says_that_it_is_a_sessions_whatever_its_image_says() -> None:
    labels = labels_for(running_session().session, make.RULES, create=ActionId("s1/1"))
    assert labels["agentd.role"] == "session"


def test_a_session_whose_image_calls_it_a_controller_is_looked_at_like_any_other() -> None:
    session = running_session().session
    called = make.facts(agentd_role="controller")
    ended = make.seen(replace(make.exited(0), facts=called), seconds=10)
    directory = replace(EMPTY, known={make.CONTAINER: session.id})
    assert admit(ended, directory=directory, engine_now=make.at(10), rules=make.RULES) == session.id
    assert _kinds([session], [_listed(session, labels=called.labels, state=ContainerState.EXITED)]) == [
        FindingKind.MISMATCH
    ]


def test_watch_with_a_prefix_lets_only_that_controller_act() -> None:
    assert may_act_on({"agentd.watch": "true"}, make.RULES)
    assert may_act_on({"agentd.watch": "agentd"}, make.RULES)
    assert not may_act_on({"agentd.watch": "other"}, make.RULES)


def test_a_compose_service_keeps_its_key_and_its_name_across_recreation() -> None:
    labels = {
        "com.docker.compose.project": "shop",
        "com.docker.compose.service": "Web",
        "com.docker.compose.container-number": "2",
    }
    key = external_key("docker", "abc_shop-web-2", labels)
    assert key == "docker:compose:shop/Web/2"
    assert name_for("abc_shop-web-2", labels, key=key, taken=(), rules=make.RULES) == "shop-web-2"
    suffixed = name_for("x", labels, key=key, taken=(SessionName("shop-web-2"),), rules=make.RULES)
    assert suffixed.startswith("shop-web-2-")
    assert len(suffixed) == len("shop-web-2-") + 6


def test_labels_that_ask_for_a_suffixed_name_too_make_no_two_of_one_name() -> None:
    labels = {"agentd.session": "web"}
    taken = [SessionName("web")]
    for _ in range(3):
        found = name_for("box", labels, key="k", taken=taken, rules=make.RULES)
        assert found not in taken
        taken.append(found)


@pytest.mark.parametrize("name", ["../../etc", "\x1b[31mred", "<script>", "-", "", "ä" * 100, "_x\n"])
def test_a_hostile_name_is_made_to_fit_the_rule(name: str) -> None:
    from controller.core.specs import NAME_RULE

    found = name_for("box", {"agentd.session": name}, key="k", taken=(), rules=make.RULES)
    assert NAME_RULE.fullmatch(found)


def _listed(session: Session, **changes: object) -> ListedContainer:
    assert session.container is not None
    row = ListedContainer(
        id=session.container.id,
        name=session.container.name,
        image="busybox:test",
        labels=session.container.labels,
        state=ContainerState.RUNNING,
        created_at=make.T0,
        exit_code=None,
        health=Health.UNKNOWN,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def _kinds(sessions: list[Session], rows: list[ListedContainer], *, now_s: float = 1000) -> list[FindingKind]:
    known = {one.container_id: one.id for one in sessions if one.container_id is not None}
    found = compare(sessions, rows, known=known, engine_now=make.at(now_s), rules=make.RULES)
    return [finding.kind for finding in found]


def test_agreement_needs_no_look() -> None:
    session = running_session().session
    assert _kinds([session], [_listed(session)]) == []


def test_a_list_that_says_otherwise_asks_for_a_look() -> None:
    session = running_session().session
    assert _kinds([session], [_listed(session, state=ContainerState.EXITED)]) == [FindingKind.MISMATCH]
    assert _kinds([session], []) == [FindingKind.MISSING]


def test_a_start_that_nobody_could_tell_of_is_looked_for() -> None:
    story = Story()
    story(make.requested())
    story(make.outcome(story.action, 1, shot=make.snapshot(ContainerState.CREATED, started_s=None)))
    listed = _listed(story.session, state=ContainerState.CREATED)
    assert _kinds([story.session], [listed]) == []
    assert _kinds([replace(story.session, open_actions=())], [listed]) == [FindingKind.MISMATCH]


def test_an_orphan_is_old_ours_and_unknown() -> None:
    stranger = _listed(running_session().session, id=OTHER)
    assert _kinds([], [stranger], now_s=301) == [FindingKind.ORPHAN]
    assert _kinds([], [stranger], now_s=299) == [FindingKind.SPARED]
    assert _kinds([], [replace(stranger, created_at=None)]) == [FindingKind.SPARED]
    foreign = replace(stranger, labels={"agentd.prefix": "agentd", "agentd.controller": "other"})
    assert _kinds([], [foreign]) == [FindingKind.FOREIGN]
    controller = replace(stranger, labels={"agentd.role": "controller", **OURS})
    assert _kinds([], [controller]) == [FindingKind.CONTROLLER]


def test_what_a_create_without_an_answer_may_have_left_is_no_orphan_while_it_is_to_be_asked_for_again() -> None:
    story = Story()
    story(make.requested())
    story(make.outcome(story.action, 130, kind=OutcomeKind.DROPPED))
    assert story.session.next_attempt_at is not None
    left = _listed(running_session().session, id=OTHER, labels={**OURS, "agentd.session": "worker"})
    assert _kinds([story.session], [left], now_s=500) == [FindingKind.SPARED]


def test_a_run_that_only_events_have_told_of_is_looked_at_though_the_list_agrees() -> None:
    story = running_session()
    row = _listed(story.session)
    assert _kinds([story.session], [row]) == []
    assert story.attempt.provisional is False
    told = replace(story.session, attempt=replace(story.attempt, provisional=True))
    died = replace(story.session, attempt=replace(story.attempt, died_at=make.at(500)))
    assert _kinds([told], [row]) == _kinds([died], [row]) == [FindingKind.MISMATCH]


def test_many_missing_at_once_are_not_believed_at_once() -> None:
    sessions = []
    for number in range(10):
        story = running_session()
        facts = replace(make.facts(), id=ContainerId(f"{number:064d}"))
        sessions.append(replace(story.session, id=SessionId(f"s{number}"), container=facts))
    known = {one.container_id: one.id for one in sessions if one.container_id is not None}
    none_left = compare(sessions, [], known=known, engine_now=make.at(1000), rules=make.RULES)
    assert is_mass_absence(none_left, sessions)
    three_gone = compare(
        sessions, [_listed(one) for one in sessions[3:]], known=known, engine_now=make.at(1000), rules=make.RULES
    )
    assert not is_mass_absence(three_gone, sessions)


def test_an_orphan_restarted_within_the_grace_is_spared() -> None:
    seen = make.seen(make.running(started_s=900), seconds=1000, cause=LookCause.SWEEP)
    verdict = admit(seen, directory=EMPTY, engine_now=make.at(1000), rules=make.RULES)
    assert isinstance(verdict, Spared)
    assert "100 s ago" in verdict.reason


@pytest.mark.parametrize(("policy", "origin"), [("remove", Origin.ORPHAN), ("adopt", Origin.ADOPTED), ("report", None)])
def test_the_policy_says_what_becomes_of_an_orphan(policy: str, origin: Origin | None) -> None:
    seen = make.seen(make.exited(3), seconds=1000, cause=LookCause.SWEEP)
    rules = replace(make.RULES, orphan_policy=policy)
    verdict = admit(seen, directory=EMPTY, engine_now=make.at(1000), rules=rules)
    found = verdict.origin if isinstance(verdict, ContainerAdmitted) else None
    assert found is origin


def test_a_recreated_container_is_an_attempt_of_the_session_with_its_key() -> None:
    labels = {"agentd.watch": "true", "com.docker.compose.project": "p", "com.docker.compose.service": "s"}
    key = external_key("docker", "p-s-1", labels)
    running = make.seen(make.snapshot(of=replace(make.facts(), id=OTHER, labels=labels)), seconds=6)
    known = Directory(known={}, by_key={key: SessionId("s1")}, taken=(SessionName("p-s-1"),))
    assert admit(running, directory=known, engine_now=make.at(6), rules=make.RULES) == SessionId("s1")


def test_adoption_takes_a_stranger_and_refuses_a_controller() -> None:
    stranger = make.seen(make.snapshot(of=replace(make.facts(), id=OTHER, labels={})), seconds=5)
    taken = adoption(stranger, actor="user:me", directory=EMPTY, rules=make.RULES)
    assert isinstance(taken, ContainerAdmitted)
    assert taken.origin is Origin.ADOPTED
    controller = replace(make.facts(), labels={"agentd.role": "controller"})
    refused = adoption(make.seen(make.snapshot(of=controller)), actor="user:me", directory=EMPTY, rules=make.RULES)
    assert isinstance(refused, Spared)


@pytest.mark.parametrize("policy", ["remove", "adopt"])
def test_what_a_create_without_an_answer_has_made_is_nobody_elses_to_take_or_to_remove(policy: str) -> None:
    facts = replace(make.facts(), id=OTHER, labels=OURS | {"agentd.session": "worker"})
    made = make.seen(make.snapshot(of=facts), seconds=1000, cause=LookCause.SWEEP)
    rules = replace(make.RULES, orphan_policy=policy)
    making = replace(EMPTY, awaiting=(SessionName("worker"),))
    asked = adoption(made, actor="user:me", directory=making, rules=rules)
    found = admit(made, directory=making, engine_now=make.at(1000), rules=rules)
    assert isinstance(asked, Spared)
    assert isinstance(found, Spared)
    assert asked.reason == found.reason == "its session is being created"


@pytest.mark.parametrize("session", ["worker", "agentd-worker"])
def test_what_is_run_from_an_image_of_a_sessions_container_is_left_alone(session: str) -> None:
    asked = replace(running_session().session, name=SessionName(session))
    labels = labels_for(asked, make.RULES, create=ActionId("s1/1"))
    made = replace(make.facts(OTHER), name=f"agentd-{session}", labels=labels)
    copy = replace(made, name="nifty_hopper", image="snap")
    for facts, kind, orphan in ((made, FindingKind.ORPHAN, True), (copy, FindingKind.SPARED, False)):
        for policy in ("remove", "adopt"):
            seen = make.seen(make.running(facts=facts), seconds=1000, cause=LookCause.SWEEP)
            rules = replace(make.RULES, orphan_policy=policy)
            verdict = admit(seen, directory=EMPTY, engine_now=make.at(1000), rules=rules)
            assert isinstance(verdict, ContainerAdmitted) is orphan
            assert orphan or verdict == Spared(reason=COPIED)
        row = _listed(running_session().session, id=OTHER, name=facts.name, labels=labels)
        assert _kinds([], [row]) == [kind]
    taken = adoption(make.seen(make.running(facts=copy)), actor="user:me", directory=EMPTY, rules=make.RULES)
    assert isinstance(taken, ContainerAdmitted)


def test_what_the_sketch_made_is_ours_under_any_name() -> None:
    sketched = _listed(running_session().session, id=OTHER, name="worker-1")
    sketched = replace(sketched, labels={"agentd.prefix": "agentd", "agentd.session": "agentd-worker"})
    assert _kinds([], [sketched]) == [FindingKind.ORPHAN]


def test_a_container_of_a_session_stays_its_own_under_another_name() -> None:
    session = running_session().session
    labels = labels_for(session, make.RULES, create=ActionId("s1/1"))
    renamed = _listed(session, name="nifty_hopper", labels=labels)
    assert _kinds([session], [renamed]) == []
    assert _kinds([session], [replace(renamed, state=ContainerState.EXITED)]) == [FindingKind.MISMATCH]


def test_the_labels_of_a_successor_say_who_may_act_on_it_and_whether_it_is_restarted() -> None:
    story = Story()
    facts = replace(make.facts(), labels={"agentd.watch": "true", "agentd.restart": "always"})
    story(make.admitted(make.running(facts=facts)))
    assert (story.session.may_act, story.session.policy.mode) == (True, RestartMode.ALWAYS)
    story(make.event(EventAction.DIE, 5, exit_code=1))
    story(make.event(EventAction.DESTROY, 6))
    successor = replace(facts, id=OTHER, labels={"agentd.watch": "another"}, created_at=make.at(7))
    story(make.seen(make.running(7, facts=successor), seconds=8))
    assert story.session.container_id == OTHER
    assert (story.session.may_act, story.session.policy.mode) == (False, RestartMode.NO)
