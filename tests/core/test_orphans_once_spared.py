"""An orphan that was spared in the moment of its removal is judged again whenever a sweep comes upon it."""

from dataclasses import replace

from controller.core.admission import is_orphan_still
from controller.core.drift import FindingKind, compare
from controller.core.rules import Rules
from controller.core.transitions import decide
from controller.model.action import ActionKind, Outcome, OutcomeKind
from controller.model.container import ContainerState, ListedContainer
from controller.model.observation import LookCause, OutcomeSeen, Verb
from controller.model.phase import Health
from controller.model.reason import Reason
from controller.model.session import Origin, Session
from tests.support import builders as make

REMOVE = replace(make.RULES, orphan_grace_s=60.0)


def spared_orphan() -> Session:
    """Its stop found it started anew."""
    found = make.admitted(make.running(), origin=Origin.ORPHAN, seconds=100)
    decision = decide(None, found, now=make.at(100), rules=REMOVE)
    (stop,) = decision.actions
    assert stop.kind is ActionKind.STOP
    moved = make.running(started_s=101)
    outcome = Outcome(action=stop, kind=OutcomeKind.SUPERSEDED, snapshot=moved)
    after = decide(
        decision.session, OutcomeSeen(outcome=outcome, observed_at=make.at(102)), now=make.at(102), rules=REMOVE
    ).session
    assert after is not None
    return after


def still(session: Session, *, started_s: float, now_s: float, rules: Rules = REMOVE) -> bool:
    return is_orphan_still(session, make.running(started_s=started_s), engine_now=make.at(now_s), rules=rules)


def test_it_stays_spared_while_its_last_start_is_younger_than_the_grace() -> None:
    session = spared_orphan()
    assert not still(session, started_s=101, now_s=160)
    assert still(session, started_s=101, now_s=162)


def test_it_stays_spared_while_the_policy_does_not_remove() -> None:
    for policy in ("report", "adopt"):
        assert not still(spared_orphan(), started_s=101, now_s=900, rules=replace(REMOVE, orphan_policy=policy))
    assert not still(spared_orphan(), started_s=101, now_s=900, rules=replace(REMOVE, may_manage=False))


def test_one_that_was_renamed_since_stays_spared() -> None:
    shot = make.running(started_s=101, facts=replace(make.facts(agentd_session="worker"), name="mine-now"))
    assert not is_orphan_still(spared_orphan(), shot, engine_now=make.at(900), rules=REMOVE)


def test_nobody_elses_session_becomes_an_orphan() -> None:
    for origin in (Origin.REQUESTED, Origin.EXTERNAL, Origin.ADOPTED):
        assert not still(replace(spared_orphan(), origin=origin), started_s=101, now_s=900)


def test_once_nothing_speaks_for_it_any_more_it_is_stopped_and_removed() -> None:
    session = spared_orphan()
    look = replace(make.seen(make.running(started_s=101), seconds=200, cause=LookCause.SWEEP), orphan_still=True)
    decision = decide(session, look, now=make.at(200), rules=REMOVE)
    assert [action.kind for action in decision.actions] == [ActionKind.STOP]
    assert Reason.ORPHAN_FOUND in [row.reason for row in decision.rows]
    assert decision.session is not None
    assert decision.session.removal_wanted

    # Any other look of it moves nothing.
    plain = replace(look, orphan_still=False)
    assert not decide(session, plain, now=make.at(200), rules=REMOVE).actions


def test_a_watched_container_with_our_prefix_is_listed_as_spared() -> None:
    facts = make.facts(agentd_watch="true")
    session = decide(
        None, make.admitted(replace(make.running(), facts=facts)), now=make.at(1), rules=make.RULES
    ).session
    assert session is not None
    row = ListedContainer(
        id=facts.id,
        name=facts.name,
        image=facts.image,
        labels={"agentd.watch": "true", "agentd.prefix": "agentd"},
        state=ContainerState.RUNNING,
        created_at=make.T0,
        exit_code=None,
        health=Health.UNKNOWN,
    )
    known = {facts.id: session.id}
    (finding,) = compare([session], [row], known=known, engine_now=make.at(900), rules=make.RULES)
    assert (finding.kind, finding.session) == (FindingKind.SPARED, session.name)
    assert not finding.wants_look
    unclaimed = replace(row, labels={"agentd.watch": "true"})
    assert compare([session], [unclaimed], known=known, engine_now=make.at(900), rules=make.RULES) == ()


def test_one_that_is_on_record_can_be_taken_over() -> None:
    wish = make.verb(Verb.ADOPT, 110)
    adopted = decide(spared_orphan(), wish, now=make.at(110), rules=REMOVE)
    assert adopted.reply is not None
    assert adopted.reply.accepted
    assert adopted.session is not None
    assert (adopted.session.origin, adopted.session.removal_wanted) == (Origin.ADOPTED, False)
    again = decide(adopted.session, wish, now=make.at(111), rules=REMOVE)
    assert again.reply is not None
    assert not again.reply.accepted
