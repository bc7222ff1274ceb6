"""The sections of the page around the charts: headline, choice, findings, figures and provenance.

Each is empty when there is nothing to say; what a section cannot know it says, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from edgewright.compiler.pages.markup import Html, join, tag
from edgewright.compiler.pages.model import Baseline, Figure, Outcome, ReportPage, Role, Unit, Variant
from edgewright.compiler.pages.numbers import MISSING, compare, show, show_change, show_interval
from edgewright.compiler.pages.tradeoff import points
from edgewright.contracts.findings import Finding, Severity

_SHOWN = 10
# A reason of more characters would make a card higher than all its figures.
_BRIEF = 40
_COLUMNS: Mapping[str, Callable[[Variant], Figure]] = {
    "quality": lambda variant: variant.metric,
    "size": lambda variant: variant.size_bytes,
    "latency": lambda variant: variant.latency_us,
}


def header(page: ReportPage) -> Html:
    """The model, what it was, and the verdict over all profiles."""
    base = page.baseline
    about = ""
    if base is not None:
        about = f"float32: {page.metric} {show(base.metric)}, {show(base.size_bytes)}"
    judged = [outcome for outcome in page.outcomes if outcome.is_met is not None]
    missed = sum(not outcome.is_met for outcome in judged)
    if not page.outcomes:
        verdict = tag("p", "Nothing was built.", class_="verdict none")
    elif not judged:
        verdict = tag("p", f"{_count(len(page.outcomes))} built; the recipe sets no goals", class_="verdict none")
    elif missed:
        verdict = tag("p", f"✗ {missed} of {_count(len(judged))} missed a goal", class_="verdict missed")
    else:
        word = "meets" if len(judged) == 1 else "meet"
        verdict = tag("p", f"✓ {len(judged)} of {_count(len(judged))} {word} every goal", class_="verdict met")
    return tag("header", tag("div", tag("h1", page.model), tag("p", about, class_="quiet")), verdict)


def headline(page: ReportPage) -> Html:
    """A card for each profile: how much smaller, how much worse, how much faster."""
    return tag("div", *(_card(outcome, page) for outcome in page.outcomes), class_="cards")


def _card(outcome: Outcome, page: ReportPage) -> Html:
    badge = {
        True: tag("span", "✓ goals met", class_="badge met"),
        False: tag("span", "✗ goal missed", class_="badge missed"),
        None: tag("span", "no goals", class_="badge none"),
    }[outcome.is_met]
    built = " ".join(part for part in (outcome.target, outcome.precision) if part)
    titles = [tag("h3", outcome.profile), tag("p", " · ".join(filter(None, (outcome.board, built))), class_="quiet")]
    numbers = [_size(outcome, page.baseline), _quality(outcome, page), _speed(outcome)]
    goals = [
        tag(
            "li",
            tag("span", "✓" if goal.is_met else "✗", class_="met" if goal.is_met else "missed"),
            f" {goal.name}: {show(goal.reached)} {'≥' if goal.is_met else '<'} {show(goal.needed)}",
        )
        for goal in outcome.goals
    ]
    return tag(
        "article",
        tag("div", tag("div", *titles), badge, class_="card-head"),
        tag("dl", *numbers),
        tag("ul", *goals, class_="goals") if goals else Html(),
        class_="card missed" if outcome.is_met is False else "card",
    )


def _size(outcome: Outcome, base: Baseline | None) -> Html:
    ours, theirs = outcome.size_bytes.value, base.size_bytes.value if base is not None else None
    if ours is None or theirs is None or ours <= 0 or theirs <= 0:
        return _number(show(outcome.size_bytes), "size", outcome.size_bytes.note)
    ratio = theirs / ours
    return _number(*compare(ratio, "smaller", "larger"), f"{show(outcome.size_bytes)} of files", worse=ratio < 1)


def _quality(outcome: Outcome, page: ReportPage) -> Html:
    how = "" if outcome.metric.how in ("", "measured") else f", {outcome.metric.how}"
    if page.baseline is None or outcome.metric.value is None:
        return _number(show(outcome.metric), page.metric or "quality", outcome.metric.note + how)
    change = show_change(outcome.metric, page.baseline.metric)
    return _number(change, page.metric, show(outcome.metric) + how)


def _speed(outcome: Outcome) -> Html:
    latency, speedup = outcome.latency_us, outcome.speedup
    how = "" if latency.how in ("", "measured") else f", {latency.how}"
    if speedup.value is not None and math.isfinite(speedup.value) and speedup.value > 0:
        ratio = speedup.value
        interval = f", 95 %: {show_interval(speedup)}" if ratio >= 1 and show_interval(speedup) else ""
        about = show(latency) + how + interval
        return _number(*compare(ratio, "faster", "slower"), about, worse=ratio < 1)
    if latency.value is not None:
        about = speedup.note or "float32 was not timed beside it"
        return _number(show(latency), "median latency", about + how)
    why = latency.note or "not measured"
    return _number(MISSING, "latency", why if len(why) <= _BRIEF else "not measured; the table below says why")


def _number(value: str, name: str, about: str, *, worse: bool = False) -> Html:
    number, space, unit = value.partition("\u00a0")
    shown = (number, tag("small", space + unit)) if space else (value,)
    value_tag = tag("dd", *shown, class_="big worse" if worse else "big")
    # The name comes first for those who listen, and second for those who look.
    return tag("div", tag("dt", name), value_tag, tag("dd", about, class_="quiet"))


def variants_table(variants: Sequence[Variant]) -> Html:
    """What was tried, the front first; the rest folded away."""
    front = {variant for point in points(variants) if point.is_front for variant in point.variants}
    order = list(Role)
    ranked = sorted(
        variants,
        key=lambda variant: (
            variant.role not in (Role.CHOSEN, Role.BASELINE),
            variant not in front,
            order.index(variant.role),
            -(variant.metric.value if variant.metric.value is not None else -math.inf),
        ),
    )
    columns = [name for name, figure in _COLUMNS.items() if any(figure(one).value is not None for one in variants)]
    rest = ranked[_SHOWN:]
    more = [tag("details", tag("summary", f"{len(rest)} more"), _variant_rows(rest, columns, front))] if rest else []
    return tag("div", _variant_rows(ranked[:_SHOWN], columns, front), *more)


def _variant_rows(variants: Sequence[Variant], columns: Sequence[str], front: set[Variant]) -> Html:
    rows = []
    for variant in variants:
        state = str(variant.role) if variant.role is not Role.TRIED else "on the front" if variant in front else ""
        about = [tag("span", state, class_=f"state {variant.role}")] if state else []
        about += [tag("span", variant.note, class_="quiet")] if variant.note else []
        name = tag("th", variant.name, *(part for item in about for part in (" ", item)), scope="row")
        cells = (tag("td", show(_COLUMNS[column](variant)), class_="num") for column in columns)
        rows.append(tag("tr", name, *cells))
    heads = [tag("th", column, scope="col", class_="num") for column in columns]
    head = tag("thead", tag("tr", tag("th", "variant", scope="col"), *heads))
    return _scroll(tag("table", head, tag("tbody", *rows), class_="plain"))


def choices(outcomes: Sequence[Outcome]) -> Html:
    """For each profile what was chosen and why; profiles with the same reasons together."""
    reasons: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for outcome in outcomes:
        if outcome.why:
            reasons.setdefault((outcome.target, outcome.precision, outcome.why), []).append(outcome.profile)
    parts = [
        tag(
            "article",
            tag("h3", f"{target} {precision}".strip() or "the float model"),
            tag("p", ", ".join(profiles), class_="quiet"),
            tag("ul", *(tag("li", reason) for reason in why)),
            class_="card",
        )
        for (target, precision, why), profiles in reasons.items()
    ]
    return tag("div", *parts, class_="cards") if parts else Html()


def findings(outcomes: Sequence[Outcome]) -> Html:
    """Every different finding once, warnings first, with what to do next."""
    profiles: dict[Finding, list[str]] = {}
    for outcome in outcomes:
        for finding in outcome.findings:
            profiles.setdefault(finding, []).append(outcome.profile)
    ranked = sorted(profiles.items(), key=lambda item: item[0].severity is not Severity.WARNING)
    return tag("ul", *(_finding(*item) for item in ranked), class_="findings") if ranked else Html()


def _finding(finding: Finding, profiles: list[str]) -> Html:
    is_warning = finding.severity is Severity.WARNING
    parts = [
        tag("span", "⚠ warning" if is_warning else "note", class_=f"badge {'warning' if is_warning else 'none'}"),
        " ",
        tag("code", finding.code),
        tag("p", finding.message),
    ]
    if finding.where:
        parts.append(tag("p", "at ", tag("code", finding.where)))
    if finding.next_step:
        parts.append(tag("p", tag("b", "Next: "), finding.next_step))
    return tag("li", *parts, tag("p", ", ".join(profiles), class_="quiet"))


def figures(page: ReportPage) -> Html:
    """Every figure of the page and how it was got."""
    rows: list[Html] = []
    if page.baseline is not None:
        base = page.baseline
        rows += _figure_rows("float32", ((page.metric, base.metric), ("size", base.size_bytes)))
    for outcome in page.outcomes:
        named = (
            (page.metric or "quality", outcome.metric),
            ("size", outcome.size_bytes),
            ("latency, median", outcome.latency_us),
            ("speedup", outcome.speedup),
            *outcome.figures,
        )
        rows += _figure_rows(outcome.profile, named)
    if not rows:
        return Html()
    names = ("of", "figure", "value", "95 % interval", "how", "where, or why not")
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    return _scroll(tag("table", head, tag("tbody", *rows), class_="plain figures"))


def _figure_rows(subject: str, named: Iterable[tuple[str, Figure]]) -> list[Html]:
    rows: list[Html] = []
    for name, figure in named:
        missing = figure.value is None
        how = "not available" if missing else figure.how or "not said"
        value = show(figure)
        if figure.unit is Unit.BYTES and figure.value is not None:
            value += f" ({figure.value:,.0f})"
        cells = (name, value, show_interval(figure), tag("span", how, class_="state"), _about(figure))
        first = tag("th", subject if not rows else "", scope="row")
        rows.append(tag("tr", first, *(tag("td", cell) for cell in cells), class_="" if rows else "first"))
    return rows


def _about(figure: Figure) -> str:
    return "; ".join(part for part in (figure.where, figure.note) if part)


def provenance(page: ReportPage) -> Html:
    """Digests, versions and the recipe: what all have in common, then what is each profile's own."""
    parts = [_facts(page.provenance)] if page.provenance else []
    for outcome in page.outcomes:
        if outcome.provenance:
            parts.append(tag("details", tag("summary", outcome.profile), _facts(outcome.provenance)))
    return join(parts)


def _facts(facts: Sequence[tuple[str, str]]) -> Html:
    rows = (tag("tr", tag("th", name, scope="row"), tag("td", tag("code", value))) for name, value in facts)
    return _scroll(tag("table", tag("tbody", *rows), class_="plain facts"))


def _scroll(table: Html) -> Html:
    return tag("div", table, class_="scroll", tabindex="0")


def _count(number: int) -> str:
    return f"{number} artifact" + ("" if number == 1 else "s")
