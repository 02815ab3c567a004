"""What the log of a turn that was begun says of who answers, for whoever goes on with it or ends it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.conversation.generation_log import Delta, GenerationLog, Notice, NoticeKind, Retracted, Started
from services.conversation.preparation import Prepared
from services.conversation.route_model import RouteReceipt, after_cascade
from services.runtime.errors import DomainError, Reason


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided for an answer, last by a model's being replaced."""

    model: str
    max_tokens: int
    receipt: RouteReceipt | None
    """Of the first model."""
    escalated_from: str = ""
    is_final: bool = False
    """Whether that model was replaced, and is not chosen again."""
    shown: bool = False
    """Whether something of the answer was shown."""

    @property
    def untouched(self) -> bool:
        """Whether the Router may choose as it did at first."""
        return not self.shown and not self.is_final

    def require(self, prepared: Prepared) -> None:
        """Pass when the model may go on with the answer.

        Raises:
            DomainError: NO_REPLICA. The Router falls back to another model, which has other tokens than those that were
                shown, and would speak with another voice.
        """
        if self.shown and prepared.route.model.name != self.model:
            raise DomainError(
                Reason.NO_REPLICA,
                "The model that has begun the answer cannot go on with it now; regenerate it.",
                metadata={"model": self.model},
            )

    def applied_to(self, prepared: Prepared) -> Prepared:
        """What was prepared again, with what was decided before."""
        route, sampling = prepared.route, prepared.sampling
        if self.receipt is not None:
            decided = replace(
                route.receipt,
                requested_model=self.receipt.requested_model,
                classification=self.receipt.classification,
                experiments=self.receipt.experiments,
                models=self.receipt.models,
                escalated_from=self.escalated_from,
            )
            route = replace(route, receipt=decided)
        if route.model.name == self.model:
            sampling = replace(sampling, max_tokens=self.max_tokens)
        return replace(prepared, route=route, sampling=sampling)

    def taken_over(self, prepared: Prepared) -> Notice:
        """Says that another server goes on, with what is prepared; and with which model when that is another one."""
        if prepared.route.model.name == self.model:
            return Notice(NoticeKind.OWNER_REPLACED)
        return Notice(NoticeKind.OWNER_REPLACED, prepared.route.model.name, prepared.sampling.max_tokens or 0)


def decision_of(log: GenerationLog) -> Decision | None:
    """What was decided; None when the turn was not begun."""
    decision: Decision | None = None
    shown = False
    for entry in log.entries:
        match entry.event:
            case Started(model=model, max_tokens=max_tokens, route=route):
                decision = Decision(model, max_tokens, route)
            case Notice(kind, model, max_tokens) if model and decision is not None:
                weak = decision.model if kind is NoticeKind.ESCALATED else ""
                decision = replace(
                    decision,
                    model=model,
                    max_tokens=max_tokens,
                    escalated_from=decision.escalated_from or weak,
                    is_final=True,
                )
            case Delta() | Retracted():
                shown = True
    return replace(decision, shown=shown) if decision is not None else None


def receipt_from_log(log: GenerationLog) -> RouteReceipt | None:
    """What is known of the route of an answer when who generated it is gone; None when nothing is."""
    decision = decision_of(log)
    if decision is None or decision.receipt is None:
        return None
    receipt = replace(decision.receipt, epochs=log.epoch, escalated_from=decision.escalated_from)
    if weak := decision.escalated_from:
        receipt = replace(receipt, models=after_cascade(receipt.models, weak=weak, model=decision.model))
    if decision.model == receipt.model:
        return receipt
    # The one that was chosen first has not answered, and where the other one ran nobody knows any more.
    return replace(receipt, model=decision.model, engine="", replica_id="", candidates=(), pool="", zone="", region="")
