"""From a query's options to how its vectors are answered, kept in the View for queries with the same options.

Checking and planning take longer than walking a graph does, and they depend on the View and the options alone. A filter
is known by its text and by its normal form, so equivalent filters share a plan; what is kept with filters, which are
bitmaps, is bounded in bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.answers import to_scores
from vicinal.bits import count_bits
from vicinal.casting import as_query, check_count, sure_squares
from vicinal.errors import InvalidArgument
from vicinal.filter.model import Filter
from vicinal.filter.normal import canonical
from vicinal.filter.parse import parse_filter
from vicinal.filter.stretch import Stretch
from vicinal.limits import EF_MAX, K_MAX
from vicinal.planner import STEPS_MOST, Plan, Target, default_ef, ef_for, plan_search
from vicinal.recall_checks import Check, Kind, RecallChecks
from vicinal.schema import Dense, Schema
from vicinal.searching import Answer, prepare
from vicinal.stretches import Stretched, stretched
from vicinal.types import Bits, Metric
from vicinal.view import DenseView, View

__all__ = ["Preparer", "Ready"]

_KEPT_MAX: Final = 64
_STRETCHED_MAX: Final = 4096  # which hold no bitmap
_KEPT_BITS: Final = 1 << 27  # of all bitmaps kept by a View
_ARRAY: Final = np.ndarray
_FLOAT32: Final = np.dtype(np.float32)


class Ready(NamedTuple):
    """How to check a query's vector, answer it and turn distances into scores.

    `sampled` is to hear of each vector and its distances, where recall is estimated.
    """

    checked: Callable[[Any], NDArray[Any]]
    answer: Answer
    to_scores: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    plan: Plan | None  # None: it was chosen for about as many matches, or each query makes its own
    sampled: Check | None = None
    bits: Bits | None = None  # of slots that may be returned, where they were made for this filter and there is no plan


class _Asked(NamedTuple):
    """A query's options but for its filter, checked."""

    name: str
    field: DenseView
    metric: Metric
    k: int
    beam: int
    goal: float | None
    checked: Callable[[Any], NDArray[Any]]
    shaped: Callable[[Any], NDArray[Any]]  # the same for answers that look at the numbers themselves
    to_scores: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    stretched: Stretched | None


class Preparer:
    """Plans queries over one collection; `bits` gives a filter's bitmap in a View, `stretch` its stretches, if any."""

    def __init__(
        self,
        schema: Schema,
        bits: Callable[[Any, View], Bits | None],
        stretch: Callable[[Filter, View], Stretch | None],
    ) -> None:
        self._schema, self._bits, self._stretch = schema, bits, stretch
        self.checks = RecallChecks()
        self.kept_bits = _KEPT_BITS  # of bitmaps, with which plans of a View are kept

    def ready(
        self,
        view: View,
        k: Any,
        filter: Any,
        using: Any,
        ef: Any,
        recall_target: Any,
        exact: bool,
        explain: bool = False,
    ) -> Ready:
        """What was kept for these options, else they are checked and planned; a typed error names what is wrong."""
        if exact or explain:
            return self._planned(view, k, filter, using, ef, recall_target, exact)
        tree = filter
        if filter is None or type(filter) is str:
            options: tuple[Any, ...] = (using, k, ef, recall_target, filter)
        else:
            if type(filter) is not Filter:
                tree = parse_filter(filter)
            # remembered by its normal form
            options = (using, k, ef, recall_target, None if tree is None else canonical(tree))
        try:
            known: Ready | None = view.stretched.get(options) or view.prepared.get(options)
        except TypeError:  # not hashable, so refused below
            known = None
        # True is equal to 1, and refused
        if known is not None and k is not True and ef is not True and recall_target is not True:
            return known
        if type(tree) is str:
            ready = self.ready(view, k, parse_filter(tree), using, ef, recall_target, exact)
        else:
            tree = parse_filter(tree)
            ready = self._briefly(view, k, tree, using, ef, recall_target) or self._planned(
                view, k, tree, using, ef, recall_target, exact
            )
        self._keep(view, options, ready)
        return ready

    def _keep(self, view: View, options: tuple[Any, ...], ready: Ready) -> None:
        """Keep an answer for queries with the same options, as far as there is room."""
        if ready.plan is None and ready.bits is None:
            kept, room = view.stretched, _STRETCHED_MAX
        else:
            kept, room = view.prepared, _KEPT_MAX
            if options[-1] is not None:
                room = min(room, self.kept_bits // max(view.n, 1))
        if not room:
            return
        if len(kept) >= room:
            kept.clear()
        kept[options] = ready

    def _briefly(
        self, view: View, k: Any, tree: Filter | None, using: Any, ef: Any, recall_target: Any
    ) -> Ready | None:
        """How a filter is answered where ways are kept; None where each filter is planned for itself.

        One that is made of stretches of sorted columns is planned anew by each query.
        """
        if tree is None:
            return None
        asked = self._asked(view, k, using, ef, recall_target)
        kept = asked.stretched
        if kept is None:
            return None
        stretch = self._stretch(tree, view)
        allowed = None if stretch is not None else view.allowed(asked.field.present, self._bits(tree, view))
        matches = 0 if allowed is None else count_bits(allowed)
        steps, sampled = 0, None
        if asked.goal is not None:
            kind = Kind.of(asked.name, asked.k, asked.goal, matches if stretch is None else kept.matches(stretch))
            steps = self.checks.steps(kind)
            if steps >= STEPS_MOST:
                return None
            sampled, _ = self.checks.of(kind, lambda: self._target(view, asked, tree), view.forget)
        if stretch is not None:
            one = kept.answer(stretch, steps)
        else:
            assert allowed is not None, "a filter has bits"
            one = kept.over(allowed, matches, steps)
        return Ready(asked.checked, Answer(one, slow=True), asked.to_scores, None, sampled, allowed)

    def _target(self, view: View, asked: _Asked, filter: Any) -> Target:
        field = asked.field
        allowed = view.allowed(field.present, self._bits(filter, view))
        return Target(asked.metric, field.rows, field.graph, field.indexed, view.n, allowed, filter is not None)

    def answers(
        self, view: View, k: Any, filters: Sequence[Any], using: Any, ef: Any, recall_target: Any, exact: bool
    ) -> list[Answer]:
        """How queries with these filters are answered: equivalent ones are evaluated and planned once."""
        known: dict[bytes | None, Answer] = {}
        answers = []
        for one in filters:
            tree = parse_filter(one)
            key = None if tree is None else canonical(tree)
            answer = known.get(key)
            if answer is None:
                answer = known[key] = self.ready(view, k, tree, using, ef, recall_target, exact).answer
            answers.append(answer)
        return answers[:1] if len(known) == 1 else answers

    def _planned(self, view: View, k: Any, filter: Any, using: Any, ef: Any, recall_target: Any, exact: bool) -> Ready:
        asked = self._asked(view, k, using, ef, recall_target)
        started = perf_counter()
        target = self._target(view, asked, filter)
        evaluated = perf_counter()
        sampled = None
        if asked.goal is None:
            plan = plan_search(target, asked.k, asked.beam, exact)
        else:
            kind = Kind.of(asked.name, asked.k, asked.goal, target.matches)
            steps = self.checks.steps(kind)
            plan = plan_search(target, asked.k, asked.beam, exact or steps >= STEPS_MOST, asked.goal, steps)
            if plan.way is not None:
                sampled, plan.checked = self.checks.of(kind, target, view.forget)
        answer = prepare(target, asked.k, plan)
        ready = Ready(asked.shaped if answer.looks else asked.checked, answer, asked.to_scores, plan, sampled)
        plan.filter_seconds, plan.plan_seconds = evaluated - started, perf_counter() - evaluated
        return ready

    def _asked(self, view: View, k: Any, using: Any, ef: Any, recall_target: Any) -> _Asked:
        """What the options say whatever the filter, kept in the View; a typed error names what is wrong."""
        options = (_Asked, using, k, ef, recall_target)
        try:
            known: _Asked | None = view.prepared.get(options)
        except TypeError:  # not hashable, so refused below
            known = None
        if known is not None and k is not True and ef is not True and recall_target is not True:
            return known
        name, spec = self._schema.dense(using)
        k = check_count("k", k, K_MAX)
        field = view.fields[name]
        assert isinstance(field, DenseView), "the view follows the schema"
        beam = _effort(field, k, ef, recall_target)
        goal = None if recall_target is None else float(recall_target)
        short = stretched(view, field, k, beam, goal)
        made = _Asked(name, field, spec.metric, k, beam, goal, *_checks_of(spec), to_scores(spec.metric), short)
        if len(view.prepared) >= _KEPT_MAX:
            view.prepared.clear()
        view.prepared[options] = made
        return made


def _effort(field: DenseView, k: int, ef: Any, recall_target: Any) -> int:
    """The beam width of a query."""
    if recall_target is None:
        return default_ef(k, field.graph) if ef is None else check_count("ef", ef, EF_MAX)
    if ef is not None:
        raise InvalidArgument("give either ef or recall_target", field="recall_target", value=recall_target)
    fits = isinstance(recall_target, float | int | np.floating) and not isinstance(recall_target, bool)
    if not fits or not 0 < recall_target <= 1:
        raise InvalidArgument(
            "recall_target is a number above 0, at most 1", field="recall_target", value=recall_target, limit=1
        )
    return ef_for(field.graph, k, float(recall_target))


def _checks_of(spec: Dense) -> tuple[Callable[[Any], NDArray[Any]], Callable[[Any], NDArray[Any]]]:
    """How vectors of a field are checked, quickly where they come as the kernels read them; and without a look at such.

    The second is for answers that look at the numbers themselves.
    """
    dim, metric, dtype, shape = spec.dim, spec.metric, spec.dtype, (spec.dim,)
    least, most = sure_squares(metric)

    def whole(vector: Any) -> NDArray[Any]:
        return as_query(vector, dim, metric, dtype=dtype)

    def checked(vector: Any) -> NDArray[Any]:
        if type(vector) is _ARRAY and vector.dtype is _FLOAT32 and vector.shape == shape:
            query: NDArray[np.float32] = vector
            if least < np.vdot(query, query) < most:  # finite, and not of length zero
                return query
        return as_query(vector, dim, metric)

    def shaped(vector: Any) -> NDArray[Any]:
        if type(vector) is _ARRAY and vector.dtype is _FLOAT32 and vector.shape == shape:
            query: NDArray[np.float32] = vector
            return query
        return as_query(vector, dim, metric)

    return (checked, shaped) if dtype == "float32" else (whole, whole)
