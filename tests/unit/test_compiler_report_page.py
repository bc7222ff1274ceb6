"""The report's page as data and as markup; what a browser makes of it is in tests/system/test_report_page.py."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import report_samples
from hypothesis import given, settings
from hypothesis import strategies as st
from report_samples import SAMPLES, latency, outcome, page, share, size

from edgewright.compiler.goals import Goal
from edgewright.compiler.pages.adapter import page_of
from edgewright.compiler.pages.axis import score_axis, size_axis
from edgewright.compiler.pages.bars import layer_bars, size_bars
from edgewright.compiler.pages.labels import Box, Wanted, place, shorten
from edgewright.compiler.pages.markup import tag
from edgewright.compiler.pages.model import Figure, Layer, Role, SizeStep, Unit, Variant
from edgewright.compiler.pages.numbers import show, show_change, show_interval
from edgewright.compiler.pages.tradeoff import chart, points
from edgewright.compiler.report import ArtifactReport, Baseline, CompileReport, MeasuredLatency
from edgewright.compiler.report_page import render
from edgewright.contracts.findings import Finding, Severity
from edgewright.contracts.ids import ProfileId, digest_of

VOID = {"meta", "br", "hr", "col"}
AMOUNT = st.floats(min_value=1e-3, max_value=1e12)
ANY = st.floats(allow_nan=True, allow_infinity=True)


class Reader(HTMLParser):
    """Reads a page: its text, its elements with their attributes, and whether every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.elements, self.open = "", [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(html: str) -> Reader:
    reader = Reader(html)
    assert reader.open == []
    return reader


@pytest.mark.parametrize("name", SAMPLES)
def test_a_page_asks_for_nothing_and_runs_nothing(name):
    html = render(SAMPLES[name]())
    reader = read(html)
    tags = {element for element, _ in reader.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "a", "form", "base"}
    attributes = {key for _, found in reader.elements for key in found}
    assert not {key for key in attributes if key.startswith("on") or key in ("src", "href", "srcset", "xlink:href")}
    assert not re.search(r"url\(|@import|//[a-z]", html)
    policy = [found for _, found in reader.elements if found.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0]["content"].startswith("default-src 'none'")


def test_the_same_report_gives_the_same_bytes():
    assert render(report_samples.everything()) == render(report_samples.everything())


HOSTILE = "<script>alert(1)</script>\"'&amp;</title></style>\x00\ud800"


def test_hostile_names_stay_text_everywhere():
    finding = Finding(code=HOSTILE, message=HOSTILE, where=HOSTILE, next_step=HOSTILE)
    hostile = outcome(
        HOSTILE,
        board=HOSTILE,
        target=HOSTILE,
        precision=HOSTILE,
        why=(HOSTILE,),
        findings=(finding,),
        layers=(Layer(name=HOSTILE, kind=HOSTILE, precision=HOSTILE, latency_us=1.0, sqnr_db=3.0),),
        layers_how=HOSTILE,
        sizes=(SizeStep(name=HOSTILE, size_bytes=2, note=HOSTILE), SizeStep(name="b", size_bytes=1)),
        variants=tuple(
            Variant(name=HOSTILE, metric=share(0.9), size_bytes=size(n), latency_us=latency(n), note=HOSTILE, role=role)
            for n, role in enumerate(Role, 1)
        ),
        figures=((HOSTILE, replace(size(3), how=HOSTILE, where=HOSTILE, note=HOSTILE)),),
        provenance=((HOSTILE, HOSTILE),),
    )
    harmless = render(page(outcome("p", **{k: getattr(hostile, k) for k in ("sizes", "variants", "layers")})))
    html = render(replace(page(hostile, model=HOSTILE), metric=HOSTILE))
    reader = read(html)
    assert "script" not in {element for element, _ in reader.elements}
    assert len(re.findall(r"</(?:style|title)>", html)) <= len(re.findall(r"</(?:style|title)>", harmless))
    assert html.encode()  # no lone surrogate is left
    assert "\x00" not in html
    assert reader.text.count("<script>alert(1)</script>") > 20


@given(st.text(st.characters(), max_size=40))
def test_any_text_comes_back_as_it_was_or_marked_as_unprintable(text):
    reader = read(tag("p", text, title=text))
    shown = reader.text.replace("\r\n", "\n").replace("\r", "\n")
    kept = re.sub("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)
    assert shown == kept.replace("\r\n", "\n").replace("\r", "\n")


def test_the_headline_says_how_much_smaller_worse_and_faster():
    text = read(render(page(outcome()))).text
    for said in (
        "3.87×",
        "smaller",
        "−0.12\u00a0pt",
        "98.71\u00a0%",
        "3.42×",
        "faster",
        "3.32× to 3.52×",
        "✓ goals met",
    ):
        assert said in text


def test_a_slower_or_larger_artifact_is_not_called_faster_or_smaller():
    text = read(
        render(page(outcome(speedup=report_samples.ratio(0.5), size_bytes=size(9_807_952), sizes=())))
    ).text.partition("What it costs")[0]
    assert re.search(r"slower\s*2\.00×", text)
    assert re.search(r"larger\s*2\.00×", text)
    assert "faster" not in text
    assert "smaller" not in text


def test_a_missed_goal_is_told_first_and_with_its_numbers():
    text = read(render(report_samples.five_profiles())).text
    assert "✗ 1 of 5 artifacts missed a goal" in text
    assert "accuracy: max-degradation 0.01: 94.12\u00a0% < 97.83\u00a0%" in text


def test_what_could_not_be_measured_says_why():
    text = read(render(SAMPLES["all missing"]())).text
    assert text.count("this host is x86_64, not aarch64") == 2  # in the card and in the table
    assert "there are no labels" in text


def test_sections_without_content_are_left_out():
    text = read(render(SAMPLES["nothing"]())).text
    assert "Nothing was built." in text
    for title in ("Layer by layer", "Findings", "Provenance", "Every figure", "Where the bytes went"):
        assert title not in text


def variant(name: str, cost: float, quality: float, role: Role = Role.TRIED) -> Variant:
    return Variant(name=name, metric=share(quality), size_bytes=size(cost), latency_us=latency(cost), role=role)


def test_the_front_is_what_nothing_is_both_cheaper_and_better_than():
    tried = [
        variant("cheap", 1, 0.5),
        variant("dominated", 3, 0.4),
        variant("middle", 2, 0.7),
        variant("same cost, worse", 2, 0.6),
        variant("best", 5, 0.9),
        variant("refused", 0.5, 0.99, Role.REFUSED),
    ]
    assert [point.names for point in points(tried) if point.is_front] == [("cheap",), ("middle",), ("best",)]


@given(st.lists(st.tuples(AMOUNT, st.floats(0, 1)), max_size=30))
def test_nothing_beats_the_front_and_everything_else_is_beaten(costs):
    found = points([variant(str(n), cost, quality) for n, (cost, quality) in enumerate(costs)])
    for point in found:
        as_good = [other for other in found if other is not point and other.x <= point.x and other.y >= point.y]
        beaten = any((other.x, other.y) != (point.x, point.y) for other in as_good)
        assert point.is_front is not beaten


def test_variants_at_one_place_are_one_mark_that_names_all():
    drawn = chart([variant("a", 1, 0.5), variant("b", 1, 0.5), variant("c", 2, 0.6)], "accuracy", None)
    assert drawn.count("a, b") == 2  # once in each layout
    assert "a +1" in drawn


def test_latency_is_the_axis_only_where_two_variants_have_it():
    one = [replace(variant("a", 1, 0.5), latency_us=latency(None)), variant("b", 2, 0.6)]
    assert "size, B" in chart(one, "accuracy", None)
    assert "latency, median, µs" in chart([*one, variant("c", 3, 0.7)], "accuracy", None)


def test_a_variant_that_lost_everything_does_not_flatten_the_others():
    good = [variant(str(n), 10 + n, 0.95 + n / 1000) for n in range(8)]
    drawn = chart([*good, variant("lost", 5, 0.1)], "accuracy", share(0.94))
    axis = [float(label) for label in re.findall(r'class="tick end">([\d.]+)<', drawn)]
    assert min(axis) > 90
    assert "▼ 10.00" in drawn


def test_a_chart_needs_two_variants():
    assert chart([variant("a", 1, 0.5)], "accuracy", None) == ""
    assert chart([variant("a", 1, 0.5), variant("b", math.nan, 0.5)], "accuracy", None) == ""


@settings(max_examples=40)
@given(st.lists(st.tuples(ANY, ANY, ANY, st.sampled_from(Role)), max_size=8), ANY)
def test_no_figure_breaks_a_page(rows, any_number):
    variants = tuple(
        Variant(name=str(n), metric=share(a), size_bytes=size(b), latency_us=replace(latency(1.0), value=c), role=role)
        for n, (a, b, c, role) in enumerate(rows)
    )
    layers = tuple(Layer(name="l", latency_us=a, sqnr_db=b, recovered=c) for a, b, c, _ in rows)
    steps = tuple(SizeStep(name="s", size_bytes=abs(b)) for _, b, _, _ in rows if math.isfinite(b))
    one = outcome(
        variants=variants, layers=layers, sizes=steps, metric=share(any_number), size_bytes=size(any_number),
        speedup=report_samples.ratio(any_number),
    )  # fmt: skip
    html = render(page(one))
    read(html)
    assert not re.search(r'(?:x|y|x1|y1|x2|y2|cx|cy|r|width|height|d)="[^"]*(?:nan|inf)', html)


@given(st.lists(AMOUNT, min_size=1, max_size=9), st.integers(2, 8))
def test_an_amounts_axis_holds_its_values_and_has_distinct_round_ticks(values, count):
    axis = size_axis(Unit.BYTES, values, 50, 400, count)
    assert all(axis.low <= value <= axis.high for value in values)
    assert all(50 <= axis.at(value) <= 400 for value in values)
    labels = [label for _, label in axis.ticks]
    assert len(set(labels)) == len(labels) <= count + 2
    assert axis.is_log or len(labels) >= 2


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=9))
def test_a_scores_axis_runs_upwards_and_its_labels_differ(values):
    axis = score_axis(Unit.SCORE, values, 300, 20, 5)
    pixels = [axis.at(value) for value in sorted(values)]
    assert pixels == sorted(pixels, reverse=True)
    labels = [label for _, label in axis.ticks]
    assert len(set(labels)) == len(labels)


def test_an_accuracys_axis_never_promises_more_than_all():
    assert max(value for value, _ in score_axis(Unit.SHARE, [0.97, 1.0], 300, 20, 5).ticks) <= 1


@given(
    st.lists(
        st.tuples(st.text("abc", min_size=1, max_size=20), st.floats(0, 600), st.floats(0, 300), st.booleans()),
        max_size=25,
    )
)
def test_labels_never_overlap_and_never_leave_the_chart(items):
    wanted = [Wanted(text, x, y, 5.0, must) for text, x, y, must in items]
    frame, taken = Box(0, 0, 600, 300), [Box(100, 100, 200, 120)]
    placed = place(wanted, frame, taken)
    for number, label in enumerate(placed):
        assert label.box.within(frame)
        others = taken + [other.box for other in placed[number + 1 :]]
        assert not any(label.box.overlaps(other) for other in others)


def test_a_long_label_keeps_its_ends():
    assert shorten("features.3.conv.weight", 12) == "feat….weight"
    assert shorten("short", 12) == "short"


def test_steps_that_all_profiles_share_are_drawn_once():
    drawn = size_bars([outcome("a", sizes=report_samples.steps(1)), outcome("b", sizes=report_samples.steps(2))])
    text = read(drawn).text
    assert text.count("prune_channels") == text.count("distill") == 2  # the row and its tooltip
    assert text.count("compressed") == 4


def test_profiles_that_differ_in_the_last_step_alone_are_rows_of_one_table():
    first = SizeStep(name="float32", size_bytes=1000)
    sizes = {"a-board": 250, "b-board": 500}
    falls = {name: (first, SizeStep(name="artifact", size_bytes=after)) for name, after in sizes.items()}
    drawn = size_bars([outcome(name, sizes=steps) for name, steps in falls.items()])
    assert drawn.count("<table") == 1
    assert re.findall(r">([ab]-board)<", drawn) == ["a-board", "b-board"]
    assert "4.00× smaller" in drawn


def test_a_long_reason_stands_in_the_table_and_not_in_the_card():
    reason = "it is AMD EPYC, not Raspberry Pi 4 Model B; machine is x86_64, not aarch64"
    missing = Figure(value=None, unit=Unit.MICROSECONDS, note=reason)
    text = read(render(page(outcome(latency_us=missing, speedup=report_samples.ratio(None))))).text
    assert text.count(reason) == 1
    assert "the table below says why" in text


def test_a_step_says_its_ratio_to_the_float_model_and_a_growth_is_called_one():
    steps = (
        SizeStep(name="float32", size_bytes=1000),
        SizeStep(name="half", size_bytes=500),
        SizeStep(name="more", size_bytes=2000),
    )
    text = read(size_bars([outcome(sizes=steps)])).text
    assert "2.00× smaller" in text
    assert "2.00× larger" in text
    assert "-50.0 % in this step" in text


def test_layers_come_worst_first_and_the_many_are_folded():
    drawn = layer_bars(outcome(layers=report_samples.layers(60)), Unit.SHARE)
    assert drawn.count("<summary>48 more</summary>") == 2
    decibels = [float(text.replace("−", "-")) for text in re.findall(r">(−?[\d.]+)\u00a0dB<", drawn)]
    assert decibels == sorted(decibels)
    assert len(decibels) == 60
    assert "+1.20\u00a0pt in float" in drawn


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure(value=999, unit=Unit.BYTES), "999\u00a0B"),
        (Figure(value=1023 * 1024, unit=Unit.BYTES), "1.00\u00a0MiB"),
        (Figure(value=43.14, unit=Unit.MICROSECONDS), "43.1\u00a0µs"),
        (Figure(value=1500, unit=Unit.MICROSECONDS), "1.50\u00a0ms"),
        (Figure(value=0.9871, unit=Unit.SHARE), "98.71\u00a0%"),
        (Figure(value=-0.5, unit=Unit.SCORE), "−0.5000"),
        (Figure(value=50.4, unit=Unit.RATIO), "50.4×"),
        (Figure(value=None, unit=Unit.RATIO), "–"),
        (Figure(value=math.inf, unit=Unit.RATIO), "∞"),
        (Figure(value=21_400_000, unit=Unit.COUNT), "21.4\u00a0M"),
    ],
)
def test_figures_read_well(figure, text):
    assert show(figure) == text


def test_an_interval_names_its_unit_once():
    figure = Figure(value=45.8, unit=Unit.MICROSECONDS, low=45.5, high=46.0)
    assert show_interval(figure) == "45.5 to 46.0\u00a0µs"
    assert show_interval(replace(figure, high=1200.0)) == "45.5\u00a0µs to 1.20\u00a0ms"
    assert show_interval(replace(figure, low=None)) == ""


def test_no_change_is_neither_better_nor_worse():
    assert show_change(share(0.5), share(0.5)) == "±0\u00a0pt"
    assert show_change(share(0.49999), share(0.5)) == "±0\u00a0pt"
    assert show_change(share(0.51), share(0.5)) == "+1.00\u00a0pt"


def report(**changes) -> CompileReport:
    fields = {
        "profile": ProfileId("raspberry-pi-4"),
        "target": "tflite",
        "precision": "int8",
        "path": "raspberry-pi-4",
        "digest": digest_of(b""),
        "size_bytes": 250,
        "metric": "accuracy",
        "value": 0.97,
        "latency_us": None,
        "goals_met": True,
        "findings": (),
    }
    base = Baseline(metric="accuracy", value=0.98, size_bytes=1000)
    return CompileReport(model="digits", baseline=base, artifacts=(ArtifactReport(**(fields | changes)),))


GOAL = Goal("accuracy", "max-degradation", 0.02)


def test_a_report_becomes_a_page():
    measured = MeasuredLatency(
        p50=10, p90=12, p99=20, mean=11, p50_low=9, p50_high=11, how="measured", where="this host", machine="a CPU"
    )
    (found,) = page_of(report(latency_us=measured), [GOAL]).outcomes
    assert (found.board, found.is_met) == ("Raspberry Pi 4 Model B", True)
    assert (found.latency_us.value, found.latency_us.low, found.latency_us.where) == (10, 9, "this host a CPU")
    assert [name for name, _ in found.figures] == ["latency, mean", "latency, p90", "latency, p99"]
    assert found.goals[0].needed.value == pytest.approx(0.96)
    assert [step.size_bytes for step in found.sizes] == [1000, 250]


def test_a_report_without_latency_passes_the_reason_on():
    finding = Finding(
        code="latency-not-measured", message="no latency, because it is another machine", severity=Severity.INFO
    )
    (found,) = page_of(report(findings=(finding,))).outcomes
    assert (found.latency_us.value, found.latency_us.note) == (None, "it is another machine")
    assert found.is_met is None  # no goal, so none is met


def test_what_was_simulated_is_called_so():
    finding = Finding(code="quality-simulated", message="", severity=Severity.INFO)
    assert page_of(report(findings=(finding,))).outcomes[0].metric.how == "simulated"
    assert page_of(report()).outcomes[0].metric.how == "measured"


def test_the_reason_for_another_runtime_is_the_reason_for_the_choice():
    finding = Finding(code="target-fell-back", message="built for tflite, because openvino does not take it")
    assert page_of(report(findings=(finding,))).outcomes[0].why == (finding.message,)


def test_provenance_that_artifacts_share_is_told_once(make_artifact, tmp_path):
    from edgewright.measurement.artifact import read_manifest

    first, second = report().artifacts[0], report(profile=ProfileId("raspberry-pi-5")).artifacts[0]
    manifests = {
        first.profile: read_manifest(make_artifact(tmp_path / "a"))[0],
        second.profile: read_manifest(make_artifact(tmp_path / "b", weights=b"other"))[0],
    }
    made = page_of(replace(report(), artifacts=(first, second)), [], manifests)
    assert {"model", "recipe", "passes", "seed", "file probe.npz"} <= dict(made.provenance).keys()
    assert [list(dict(item.provenance)) for item in made.outcomes] == [["file model.bin"]] * 2
