"""report.html: the report of a compile for people, pictures first, as one file that needs nothing else.

The page holds its style and its charts, runs no script and asks no server: its own content policy forbids both. It has
no date, so that equal reports give equal bytes. What it can show is `pages.model`; what it shows of a compile,
`pages.adapter`.
"""

from __future__ import annotations

from edgewright.compiler.pages import sections
from edgewright.compiler.pages.bars import layer_bars, size_bars
from edgewright.compiler.pages.markup import Html, join, tag
from edgewright.compiler.pages.model import Figure, Outcome, ReportPage, Role, Unit, Variant
from edgewright.compiler.pages.style import STYLE
from edgewright.compiler.pages.tradeoff import by_latency, chart

PAGE_NAME = "report.html"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_LEGEND = (
    (Role.CHOSEN, "c-blue", "◉", "chosen"),
    (Role.BASELINE, "", "◇", "float baseline"),
    (Role.TRIED, "c-blue", "●", "on the front"),
    (Role.TRIED, "", "○", "tried"),
    (Role.REFUSED, "c-orange", "×", "refused"),
)


def render(page: ReportPage) -> str:
    """The page as one HTML document."""
    metric = page.metric or "quality"
    parts = (
        sections.header(page),
        _section("", "", sections.headline(page)),
        _section(
            "What it costs, and what it is worth",
            "Each mark is a way to build the model. The line is the front: nothing is both cheaper and better than "
            "what lies on it. Point at a mark for its figures.",
            _tradeoffs(page, metric),
        ),
        _section(
            "Where the bytes went",
            "Size after each step; the pale part is what the step took away.",
            _panel(size_bars(page.outcomes)),
        ),
        _section("Layer by layer", "", _layers(page)),
        _section("What was chosen, and why", "", sections.choices(page.outcomes)),
        _section("Findings", "", sections.findings(page.outcomes)),
        _section(
            "Every figure, and how it was got",
            "Measured: the built artifact ran. Simulated: another runtime stood in for it. Emulated: another kind of "
            "processor was imitated. Estimated: computed, not run.",
            _panel(sections.figures(page)),
        ),
        _section("Provenance", "", _panel(sections.provenance(page))),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{page.model}: compile report"),
        Html(f"<style>{STYLE}</style>"),
    )
    body = tag("body", tag("main", *parts, tag("footer", "Made by edgewright compile.")))
    return "<!doctype html>\n" + tag("html", head, "\n", body, lang="en") + "\n"


def _section(title: str, about: str, content: Html) -> Html:
    if not content:
        return Html()
    heading = [tag("h2", title)] if title else []
    quiet = [tag("p", about, class_="quiet")] if about else []
    return join(["\n", tag("section", *heading, *quiet, content)])


def _panel(content: Html) -> Html:
    return tag("div", content, class_="panel") if content else Html()


def _tradeoffs(page: ReportPage, metric: str) -> Html:
    """A chart for each profile that had a choice of variants; one over all profiles where none had."""
    parts = []
    for outcome in page.outcomes:
        needed = _needed(outcome)
        drawn = chart(outcome.variants, metric, needed)
        if drawn:
            title = [tag("h3", outcome.profile)] if len(page.outcomes) > 1 else []
            about = "" if by_latency(outcome.variants) else "By size: no two of them have a measured latency."
            parts.append(_panel(join([*title, _split(drawn, outcome.variants, needed, about)])))
    if parts:
        return join(parts)
    variants = _overview(page)
    goals = {_needed(outcome) for outcome in page.outcomes}
    needed = goals.pop() if len(goals) == 1 else None
    drawn = chart(variants, metric, needed)
    about = "By size: latencies on different hardware cannot be compared." if len(page.outcomes) > 1 else "By size."
    return _panel(_split(drawn, variants, needed, about)) if drawn else Html()


def _split(drawn: Html, variants: tuple[Variant, ...], needed: Figure | None, about: str) -> Html:
    """The chart with its legend, and beside it the same as a table."""
    has = {variant.role for variant in variants}
    signs = [row for row in _LEGEND if row[0] in has]
    legend = [tag("li", tag("b", sign, class_=colour), f" {name}") for _, colour, sign, name in signs]
    if needed is not None:
        legend.append(tag("li", tag("b", "┄", class_="c-orange"), " goal"))
    quiet = [tag("p", about, class_="quiet")] if about else []
    picture = tag("div", drawn, tag("ul", *legend, class_="legend"))
    return tag("div", picture, tag("div", *quiet, sections.variants_table(variants)), class_="split")


def _overview(page: ReportPage) -> tuple[Variant, ...]:
    """The artifacts of all profiles by size: latencies on different hardware cannot be compared."""
    nothing = Figure(value=None, unit=Unit.MICROSECONDS)
    artifacts = [
        Variant(
            name=outcome.profile,
            metric=outcome.metric,
            size_bytes=outcome.size_bytes,
            latency_us=nothing,
            role=Role.CHOSEN,
            note=f"{outcome.target} {outcome.precision}".strip(),
        )
        for outcome in page.outcomes
    ]
    if page.baseline is not None and artifacts:
        base = Variant(
            name="float32",
            metric=page.baseline.metric,
            size_bytes=page.baseline.size_bytes,
            latency_us=nothing,
            role=Role.BASELINE,
        )
        artifacts.insert(0, base)
    return tuple(artifacts)


def _needed(outcome: Outcome) -> Figure | None:
    """The value that all goals on the metric together ask for."""
    needed = [
        goal.needed
        for goal in outcome.goals
        if goal.needed.unit is outcome.metric.unit and goal.needed.value is not None
    ]
    return max(needed, key=lambda figure: figure.value or 0.0) if needed else None


def _layers(page: ReportPage) -> Html:
    """The layers' bars; profiles that have the same layers share them."""
    same: dict[tuple[object, ...], list[Outcome]] = {}
    for outcome in page.outcomes:
        same.setdefault((outcome.layers, outcome.layers_how), []).append(outcome)
    parts = []
    for outcomes in same.values():
        first = outcomes[0]
        drawn = layer_bars(first, first.metric.unit)
        if drawn:
            names = ", ".join(outcome.profile for outcome in outcomes)
            how = f"{names}: {first.layers_how}" if first.layers_how else names
            parts.append(_panel(join([tag("p", how, class_="quiet"), drawn])))
    return join(parts)
