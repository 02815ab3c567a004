"""What the Router chooses beside the replica: the model, fallbacks, arms, cascades, copies, regions."""

from __future__ import annotations

import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from chatmesh.inference.v1 import generation_pb2, status_pb2
from services.runtime.errors import Reason
from tests.rpc.router.calls import Client, client

Wait = Callable[[Callable[[], object], str], None]
Start = Callable[..., Any]

CHAT, TOOLS, EMBEDDINGS = status_pb2.CAPABILITY_CHAT, status_pb2.CAPABILITY_TOOLS, status_pb2.CAPABILITY_EMBEDDINGS


def model(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "engine": "synthetic", "context_length": 2048, "max_output_tokens": 1024, **more}


def priced(dollars: float) -> dict[str, float]:
    return {"input_per_million": dollars, "output_per_million": dollars}


SMALL = model("small", quality=0.3, prices=priced(0.1))
MEDIUM = model("medium", quality=0.6, skills={"code": 0.9}, prices=priced(1.0))
LARGE = model("large", quality=0.95, prices=priced(10.0), capabilities=["chat", "tools"])
AUTO = {"models": ["small", "medium", "large"]}

CODE = "Write a python function that reverses a list"
HARD = "Explain step by step why this argument fails, compare it with others and analyze the consequences"


@pytest.fixture
def write(models_file: Path) -> Callable[..., None]:
    """Write the models file."""

    def write(*models: dict[str, Any], **sections: Any) -> None:
        models_file.write_text(yaml.safe_dump({"models": list(models), **sections}))

    return write


@contextmanager
def routed(router: Any, wait_until: Wait, **ready: int) -> Iterator[Client]:
    """A client of the router once these models have as many ready replicas."""
    with client(router) as calls:
        wait_until(
            lambda: {name: calls.model(name).ready_replicas for name in ready} == ready, f"replicas report: {ready}"
        )
        yield calls


def test_auto_takes_the_cheapest_that_is_good_enough(
    write: Start, start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    write(SMALL, MEDIUM, LARGE, auto={"auto": AUTO})
    replica = start_replica("r1", models={"small": 4, "medium": 4, "large": 4})
    with routed(start_router(replica), wait_until, small=1, medium=1, large=1) as calls:
        greeting = calls.route("", prompt="Hello!").receipt
        assert (greeting.requested_model, greeting.model, greeting.rule) == ("auto", "small", "auto:auto/only")
        assert greeting.classification == "simple:0.05"
        assert [(m.model, m.reason) for m in greeting.models] == [
            ("small", ""),
            ("medium", "price"),
            ("large", "price"),
        ]
        program = calls.route("auto", prompt=CODE).receipt
        assert (program.model, program.classification.partition(":")[0]) == ("medium", "code")
        assert [(m.model, m.reason) for m in program.models] == [
            ("medium", ""),
            ("large", "price"),
            ("small", "too_weak"),
        ]
        hard = calls.route("auto", prompt=HARD).receipt
        assert hard.classification.startswith("reasoning:")
        assert hard.model in {"medium", "large"}


def test_auto_goes_round_a_queue_that_costs_more_than_the_better_model(
    write: Start, start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    write(SMALL, MEDIUM, auto={"auto": {"models": ["small", "medium"], "wait_cost_per_s": 0.01}})
    busy = start_replica("r1", models={"small": 1})
    idle = start_replica("r2", models={"medium": 8})
    idle.report(first_token_ms=20)
    busy.report(first_token_ms=20)
    with routed(start_router(busy, idle), wait_until, small=1, medium=1) as calls:
        assert calls.route("auto", prompt="Hello!").receipt.model == "small"
        busy.report(running=400, first_token_ms=500)
        wait_until(lambda: calls.route("auto", prompt="Hello!").receipt.model == "medium", "the queue is noticed")
        receipt = calls.route("auto", prompt="Hello!").receipt
        assert [(m.model, m.reason) for m in receipt.models] == [("medium", ""), ("small", "busy")]
        assert receipt.models[0].score < receipt.models[1].score


def test_auto_leaves_out_who_may_not_or_cannot(
    write: Start, start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    tiny = {**model("tiny", quality=0.2, prices=priced(0.01)), "context_length": 500, "max_output_tokens": 100}
    inner = model("inner", tiers=["staff"], quality=1.0)
    gone = model("gone", quality=1.0)
    write(tiny, SMALL, LARGE, inner, gone, auto={"auto": {"models": ["tiny", "small", "large", "inner", "gone"]}})
    models = {"tiny": 4, "small": 4, "large": 4, "inner": 4}
    replica = start_replica("r1", models=models, capabilities={"tiny": [CHAT], "small": [CHAT], "inner": [CHAT]})
    with routed(start_router(replica), wait_until, tiny=1, small=1, large=1, inner=1) as calls:
        receipt = calls.route("auto", prompt="Hello!", prompt_characters=2100).receipt
        assert receipt.model == "small"
        reasons = {m.model: m.reason for m in receipt.models}
        assert reasons == {"small": "", "large": "price", "tiny": "context", "inner": "tier", "gone": "no_replica"}
        # One is left, so nobody has to judge the request.
        tools = calls.route("auto", prompt="Hello!", capabilities=[TOOLS]).receipt
        assert (tools.model, tools.classification) == ("large", "")
        reasons = {m.model: m.reason for m in tools.models}
        assert (reasons["tiny"], reasons["large"], reasons["inner"]) == ("capability", "", "tier")
        error = calls.refusal("small", capabilities=[TOOLS])
        assert error.reason is Reason.UNSUPPORTED_CAPABILITY
        assert error.metadata == {"model": "small", "capability": "tools"}
        # What cannot fit anywhere is refused by who counts the tokens.
        assert calls.route("auto", prompt="Hello!", prompt_characters=10**6).receipt.model in {"tiny", "small", "large"}
        error = calls.refusal("tiny", capabilities=[EMBEDDINGS])
        assert error.reason is Reason.UNSUPPORTED_CAPABILITY


def test_fallbacks_answer_while_a_pool_is_down(
    write: Start, start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    first = model("first", pools=["gpu"], fallbacks=["second"])
    second = model("second", fallbacks=["third"], tiers=["pro"])
    third = model("third")
    write(first, second, third, pools={"gpu": {}}, aliases={"best": ["first"]}, auto={"auto": {"models": ["first"]}})
    gpu = start_replica("r1", models={"first": 4}, pool="gpu")
    elsewhere = start_replica("r2", models={"first": 4}, pool="cpu")
    other = start_replica("r3", models={"second": 4})
    last = start_replica("r4", models={"third": 4})
    with routed(start_router(gpu, elsewhere, other, last), wait_until, first=1, second=1, third=1) as calls:
        receipt = calls.route("first", tier="pro").receipt
        assert (receipt.replica_id, receipt.pool, receipt.rule) == ("r1", "gpu", "model/only")
        # Also when the one that serves it has just failed: the answer goes on elsewhere.
        assert calls.route("first", tier="pro", excluded=("r1",)).receipt.rule == "model/fallback:second/only"
        gpu.stop()
        wait_until(lambda: calls.model("first").ready_replicas == 0, "the pool is down")
        receipt = calls.route("first", tier="pro").receipt
        assert (receipt.requested_model, receipt.model) == ("first", "second")
        assert receipt.rule == "model/fallback:second/only"
        assert calls.route("first", tier="free").receipt.rule == "model/fallback:second/fallback:third/only"
        assert calls.route("best", tier="pro").receipt.rule == "alias:best/fallback:second/only"
        automatic = calls.route("auto", tier="pro", prompt="Hello!").receipt
        assert (automatic.model, automatic.rule) == ("second", "auto:auto/fallback:second/only")
        assert [(m.model, m.reason) for m in automatic.models] == [("first", "no_replica")]
        last.stop()
        wait_until(lambda: calls.model("third").ready_replicas == 0, "the last resort is down")
        assert calls.refusal("first", tier="free").reason is Reason.NO_REPLICA


def test_data_of_a_residency_never_leaves_its_regions(
    write: Start, start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    here, there = model("here", fallbacks=["there"]), model("there")
    write(
        here,
        there,
        residencies={"eu": ["eu-1", "eu-2"], "us": ["us-1"]},
        shadows=[{"name": "copy", "alias": "here", "to": "there", "share": 1.0}],
    )
    eu = start_replica("r1", models={"here": 4}, region="eu-2", zone="eu-2a")
    us = start_replica("r2", models={"here": 64, "there": 64}, region="us-1")
    nowhere = start_replica("r3", models={"here": 64, "there": 64})
    router = start_router(eu, us, nowhere)
    with routed(router, wait_until, here=3, there=2) as calls:
        for _ in range(20):
            response = calls.route("here", residency="eu")
            assert (response.receipt.region, response.receipt.zone) == ("eu-2", "eu-2a")
            assert not response.shadows, "a copy is data of the user too"
        assert len({calls.route("here").lease.replica_id for _ in range(40)}) > 1
        assert calls.route("here", residency="us").shadows[0].lease.replica_id == "r2"
        error = calls.refusal("there", residency="eu")
        assert error.reason is Reason.RESIDENCY_UNAVAILABLE
        assert error.metadata == {"model": "there", "residency": "eu"}
        error = calls.refusal("here", residency="mars")
        assert error.reason is Reason.RESIDENCY_UNAVAILABLE
        assert "residency 'mars' of your token is not known here" in error.message
        assert "operator" in error.message
        # Where the data of others may go is for the operator only.
        assert "us" not in error.message.split()
        lacks = "the models file lacks a residency of a user"
        wait_until(lambda: router.logged(lacks), "the operator is told")
        [told] = router.logged(lacks)
        assert (told["residency"], told["known"]) == ("mars", ["eu", "us"])
        eu.stop()
        wait_until(lambda: calls.model("here").ready_replicas == 2, "the region is down")
        error = calls.refusal("here", residency="eu")
        assert error.reason is Reason.RESIDENCY_UNAVAILABLE
        assert "'eu'" in error.message


CASCADE = {
    "first": "small",
    "then": "best",
    "probe_tokens": 12,
    "min_mean_logprob": -1.5,
    "weak_openings": ["I cannot"],
}


def test_a_cascade_starts_cheap_and_says_when_to_escalate(
    write: Start, start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    write(SMALL, MEDIUM, LARGE, aliases={"best": ["large"]}, auto={"auto": {**AUTO, "cascade": CASCADE}})
    both = start_replica("r1", models={"small": 4, "medium": 4})
    strong = start_replica("r2", models={"large": 4})
    with routed(start_router(both, strong), wait_until, small=1, medium=1, large=1) as calls:
        response = calls.route("auto", prompt="Hello!")
        cascade = response.cascade
        assert (response.receipt.model, cascade.model, cascade.probe_tokens) == ("small", "best", 12)
        assert (cascade.min_mean_logprob, list(cascade.weak_openings)) == (-1.5, ["I cannot"])
        escalated = calls.route(cascade.model, escalated_from="small", prompt="Hello!")
        assert (escalated.receipt.model, escalated.receipt.rule) == ("large", "cascade/alias:best/only")
        assert escalated.receipt.escalated_from == "small"
        assert not escalated.HasField("cascade")
        assert not calls.route("auto", prompt=CODE).HasField("cascade"), "its model is not the cascade's first"
        assert not calls.route("small", prompt="Hello!").HasField("cascade"), "who names a model gets that model"
        assert not calls.route("auto", prompt="Hello!", background=True).HasField("cascade")
        strong.stop()
        wait_until(lambda: calls.model("large").ready_replicas == 0, "nobody is there to escalate to")
        assert not calls.route("auto", prompt="Hello!").HasField("cascade")


def test_a_cascade_is_not_for_answers_whose_beginning_tells_nothing(
    write: Start, start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    cascade = {**CASCADE, "then": "large"}
    write(SMALL, {**LARGE, "tiers": ["pro"]}, auto={"auto": {"models": ["small"], "cascade": cascade}})
    replica = start_replica("r1", models={"small": 4, "large": 4}, capabilities={"small": [CHAT, TOOLS]})
    with routed(start_router(replica), wait_until, small=1, large=1) as calls:
        assert calls.route("auto", tier="pro").HasField("cascade")
        assert not calls.route("auto", tier="pro", capabilities=[TOOLS]).HasField("cascade")
        assert not calls.route("auto", tier="free").HasField("cascade"), "the strong model is not for the tier"


def experiment(name: str, **more: Any) -> dict[str, Any]:
    arms = [{"name": "control", "weight": 1}, {"name": "strong", "weight": 1, "model": "large"}]
    return {"name": name, "alias": "auto", "arms": arms, **more}


def test_users_are_dealt_to_arms_and_the_receipt_says_so(
    write: Start, start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    write(SMALL, LARGE, auto={"auto": {"models": ["small", "large"]}}, experiments=[experiment("strong-first")])
    first, strong = start_replica("r1", models={"small": 64}), start_replica("r2", models={"large": 64})
    router = start_router(first, strong)
    with routed(router, wait_until, small=1, large=1) as calls:
        arms: dict[str, str] = {}
        for number in range(40):
            receipt = calls.route("auto", user=f"u{number}", prompt="Hello!").receipt
            (arm,) = receipt.experiments
            assert arm.experiment == "strong-first"
            assert receipt.requested_model == "auto"
            if arm.arm == "strong":
                assert (receipt.model, receipt.rule) == ("large", "experiment:strong-first/model/only")
            else:
                assert (receipt.model, receipt.rule) == ("small", "auto:auto/only")
            arms[f"u{number}"] = arm.arm
        assert set(Counter(arms.values())) == {"control", "strong"}
        for user, name in arms.items():
            assert [found.arm for found in calls.route("auto", user=user).receipt.experiments] == [name]
        in_strong = next(user for user, name in arms.items() if name == "strong")
        for without in (
            calls.route("small", user=in_strong),
            calls.route("auto", user=in_strong, background=True),
            calls.route("auto", user=""),
            calls.route("small", user=in_strong, escalated_from="large"),
        ):
            assert not without.receipt.experiments
        # An arm that cannot answer is still the user's arm, and the receipt shows what answered in its place.
        plain = calls.route("auto", user=in_strong, capabilities=[status_pb2.CAPABILITY_JSON]).receipt
        assert (plain.model, plain.rule) == ("small", "auto:auto/only")
        strong.stop()
        wait_until(lambda: calls.model("large").ready_replicas == 0, "the arm's model is gone")
        receipt = calls.route("auto", user=in_strong, prompt="Hello!").receipt
        assert (receipt.model, receipt.experiments[0].arm) == ("small", "strong")
        with urllib.request.urlopen(f"http://{router.listening('metrics_address')}/metrics") as page:
            assert 'chatmesh_router_exposures_total{arm="strong",experiment="strong-first"' in page.read().decode()


def test_an_answer_that_goes_on_is_dealt_no_other_model(
    write: Start, start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    """An experiment may be on a model that an alias has come to; its answers must find their own model again."""
    arms = [{"name": "control", "weight": 1e-9}, {"name": "strong", "weight": 1e9, "model": "large"}]
    cascade = {"first": "small", "then": "large", "weak_openings": ["I cannot"]}
    write(
        SMALL,
        LARGE,
        auto={"auto": {"models": ["small"], "cascade": cascade}},
        experiments=[{"name": "on-small", "alias": "small", "arms": arms}],
        shadows=[{"name": "s", "alias": "auto", "to": "large", "share": 1}],
    )
    replica = start_replica("r1", models={"small": 64, "large": 64})
    with routed(start_router(replica), wait_until, small=1, large=1) as calls:
        assert calls.route("small").model.name == "large"
        response = calls.route("small", continues=True)
        assert (response.model.name, list(response.receipt.experiments)) == ("small", [])
        first = calls.route("auto")
        assert first.HasField("cascade")
        assert first.shadows
        response = calls.route("auto", continues=True)
        assert not response.HasField("cascade")
        assert not response.shadows


def test_copies_go_to_the_shadow_with_a_lease_of_their_own(
    write: Start, start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    shadow = {"name": "try-large", "alias": "auto", "to": "large", "share": 0.5}
    write(SMALL, LARGE, aliases={"auto": ["small"]}, shadows=[shadow])
    first, second = start_replica("r1", models={"small": 64}), start_replica("r2", models={"large": 64})
    with routed(start_router(first, second), wait_until, small=1, large=1) as calls:
        copied = [response for response in (calls.route("auto") for _ in range(60)) if response.shadows]
        assert 10 < len(copied) < 50
        (copy,) = copied[0].shadows
        assert (copy.name, copy.model.name, copy.lease.replica_id) == ("try-large", "large", "r2")
        assert copy.lease.address == second.address
        assert copy.lease.lease_id != copied[0].lease.lease_id
        generation = next(f"x{n}" for n in range(100) if calls.route("auto", generation_id=f"x{n}").shadows)
        assert calls.route("auto", generation_id=generation).shadows
        assert not calls.route("auto", generation_id=generation, background=True).shadows
        assert not calls.route("auto", generation_id=generation, excluded=("r9",)).shadows, "it was copied before"
        assert not calls.route("small", generation_id=generation).shadows
        second.stop()
        wait_until(lambda: calls.model("large").ready_replicas == 0, "the shadow is gone")
        response = calls.route("auto", generation_id=generation)
        assert response.receipt.model == "small"
        assert not response.shadows


def test_priorities(write: Start, start_router: Start, start_replica: Start, wait_until: Wait) -> None:
    write(SMALL, tiers={"pro": {"priority": "high"}, "free": {"priority": "low"}})
    with routed(start_router(start_replica("r1")), wait_until, small=1) as calls:
        assert calls.route(tier="pro").priority == generation_pb2.PRIORITY_HIGH
        assert calls.route(tier="free").priority == generation_pb2.PRIORITY_LOW
        assert calls.route(tier="plus").priority == generation_pb2.PRIORITY_NORMAL
        assert calls.route(tier="pro", background=True).priority == generation_pb2.PRIORITY_BACKGROUND


EXAMPLES = {"code": ["repair the program"], "reasoning": ["weigh the arguments"]}
UNSURE = "Compare tea and coffee"


@pytest.fixture
def compared(write: Start, start_router: Start, start_replica: Start) -> Callable[..., tuple[Any, Any]]:
    """A router with examples, and the replica that embeds them."""

    def start(**settings: Any) -> tuple[Any, Any]:
        embedder = model("embedder", capabilities=["embeddings"])
        auto = {"models": ["small", "medium"], "examples": EXAMPLES, "embedding_model": "embedder"}
        write({**SMALL, "skills": {"reasoning": 1.0}}, MEDIUM, embedder, auto={"auto": auto})
        replica = start_replica(
            "r1",
            models={"small": 64, "medium": 64, "embedder": 64},
            vectors={"program": [1.0, 0.0], "arguments": [0.0, 1.0], "tea": [1.0, 0.0]},
        )
        return start_router(replica, **settings), replica

    return start


def outcomes(router: Any) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{router.listening('metrics_address')}/metrics") as page:
        lines = [line for line in page.read().decode().splitlines() if line.startswith("chatmesh_router_comparisons_")]
    return {line.split('outcome="')[1].split('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_examples_decide_where_the_rules_are_unsure(compared: Start, wait_until: Wait) -> None:
    router, replica = compared()
    with routed(router, wait_until, small=1, medium=1, embedder=1) as calls:
        wait_until(lambda: router.logged("examples embedded"), "the examples are embedded")
        receipt = calls.route("auto", prompt=UNSURE).receipt
        assert receipt.classification.startswith("code:"), "its vector is that of the example"
        assert receipt.model == "medium"
        assert replica.embedded == [*EXAMPLES["code"], *EXAMPLES["reasoning"], UNSURE]
        assert calls.route("auto", prompt="Hello!").receipt.classification == "simple:0.05"
        assert len(replica.embedded) == 3, "of what is plain nobody is asked"
        assert outcomes(router) == {"compared": 1}
        assert not [line for line in router.text if "coffee" in line]


def test_without_embeddings_the_rules_decide(compared: Start, wait_until: Wait) -> None:
    router, replica = compared(embed_timeout_s=0.05)
    with routed(router, wait_until, small=1, medium=1, embedder=1) as calls:
        wait_until(lambda: router.logged("examples embedded"), "the examples are embedded")
        replica.embeds = False
        for _ in range(2):
            receipt = calls.route("auto", prompt=UNSURE).receipt
            assert (receipt.model, receipt.classification.partition(":")[0]) == ("small", "reasoning")
        # One that is late is as good as none, and soon nobody is made to wait for it.
        replica.embeds, replica.embed_delay_s = True, 1.0
        for _ in range(3):
            assert calls.route("auto", prompt=UNSURE).receipt.model == "small"
        assert outcomes(router) == {"failed": 3, "paused": 2}
        assert len(replica.embedded) == 5


def test_a_file_whose_routing_does_not_fit_together_is_refused(
    write: Start, start_router: Start, start_replica: Start, wait_until: Wait, models_file: Path
) -> None:
    write(SMALL, LARGE, auto={"auto": {"models": ["small", "large"]}})
    router = start_router(start_replica("r1", models={"small": 4, "large": 4}))
    with routed(router, wait_until, small=1, large=1) as calls:
        good = models_file.read_text()
        write(SMALL, LARGE, auto={"auto": {"models": ["small", "huge"]}}, shadows=[{"name": "s"}])
        wait_until(lambda: any(line["level"] == "error" for line in list(router.lines)), "the bad file is refused")
        write(SMALL, LARGE, auto={"auto": {"models": ["small", "huge"]}})
        wait_until(
            lambda: [line for line in list(router.lines) if "chooses from huge" in str(line.get("problem", ""))],
            "and the next one, with what is wrong with it",
        )
        assert calls.route("auto", prompt="Hello!").receipt.rule == "auto:auto/only"
        assert {alias.name: list(alias.models) for alias in calls.models().aliases} == {"auto": ["small", "large"]}
        models_file.write_text(good.replace("  auto:", "  smart:"))
        wait_until(lambda: [alias.name for alias in calls.models().aliases] == ["smart"], "a good one is in force")
        assert calls.refusal("auto").metadata["known_models"] == "large, small, smart"


def test_models_are_listed_with_what_they_can_do_and_cost(
    write: Start, start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    plain = model("plain", pools=["gpu"], fallbacks=["large"], quality=0.25)
    cheap = {**priced(2.0), "cached_input_per_million": 0.5}
    auto = {"auto": {"models": ["plain", "large"]}}
    write(plain, {**LARGE, "prices": cheap}, pools={"gpu": {}}, aliases={"best": ["large"]}, auto=auto)
    replica = start_replica("r1", models={"plain": 4}, pool="gpu", capabilities={"plain": [TOOLS, CHAT]})
    with routed(start_router(replica), wait_until, plain=1) as calls:
        listed = calls.models()
        assert {alias.name: list(alias.models) for alias in listed.aliases} == {
            "auto": ["plain", "large"],
            "best": ["large"],
        }
        one, other = calls.model("plain"), calls.model("large")
        assert list(one.capabilities) == [CHAT, TOOLS], "what its replicas report"
        assert (list(one.pools), list(one.fallbacks), one.quality) == (["gpu"], ["large"], 0.25)
        assert not one.HasField("prices")
        assert list(other.capabilities) == [CHAT, TOOLS], "what the file says"
        assert (other.ready_replicas, other.prices.cached_input_per_million, other.prices.output_per_million) == (
            0,
            0.5,
            2,
        )


def test_the_fleet_is_streamed_until_the_router_drains(
    write: Start, start_router: Start, start_replica: Start, wait_until: Wait
) -> None:
    write(SMALL)
    replica = start_replica("r1", pool="gpu", zone="eu-1a", region="eu-1", capabilities={"small": [CHAT]})
    router = start_router(replica)
    with routed(router, wait_until, small=1) as calls:
        stream = calls.fleet()
        (shown,) = next(stream).replicas
        assert (shown.replica_id, shown.address) == ("r1", replica.address)
        assert (shown.pool, shown.zone, shown.region, shown.draining) == ("gpu", "eu-1a", "eu-1", False)
        (small,) = shown.models
        assert (small.loaded.name, small.loaded.slots, list(small.loaded.capabilities)) == ("small", 4, [CHAT])
        replica.report(running=3, first_token_ms=40)
        wait_until(lambda: next(stream).replicas[0].models[0].loaded.running == 3, "the stream follows")
        assert next(stream).replicas[0].models[0].score > 0
        assert router.stop() == 0
        for _ in stream:
            pass
