"""Charts show the numbers of the summary, whatever was not measured."""

import itertools

import numpy as np
import pandas as pd
import plot_comparison
import plot_selection
import plot_training
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from cohortmorph.cohort.methods import Method
from cohortmorph.evaluation import statistics
from cohortmorph.evaluation.comparison import compare, rank
from cohortmorph.evaluation.measures import DICE, TRE
from cohortmorph.evaluation.tables import COLUMNS, FAILURES_COLUMNS, FLAGS_COLUMNS, Evaluation, table_of
from cohortmorph.figures import charts, network_charts
from cohortmorph.figures.style import colours_of, method_colours, save
from cohortmorph.run.files import write_json, write_table

WEIGHTS, EPOCHS = ("0.5", "1", "10"), (20, 100)
NETWORK, OTHER = "voxelmorph", "voxelmorph-diff"


def cohort_metrics(landmarks=True, labels=True, learned=True, subjects=None, seed=0, networks=(NETWORK,)):
    """Make a tidy table as measure_pair writes it: better methods have better values, pairs differ.

    Of several networks each has errors 3 mm larger than the one before.
    """
    rng = np.random.default_rng(seed)
    subjects = subjects or {"validation": ["P04", "P07"], "test": ["P05", "P06"]}
    # TRE in mm, Dice, squared NCC, folding in %, runtime in s
    quality = {
        "initial": (30, 0.3, 0.1, 0, None),
        "affine": (4, 0.6, 0.3, 0, 7),
        "bspline-1r": (2, 0.7, 0.4, 0.1, 18),
        "bspline-3r": (1.5, 0.8, 0.5, 0, 25),
    }
    of_networks = itertools.product(enumerate(networks if learned else ()), enumerate(WEIGHTS), EPOCHS)
    for (number, network), (place, weight), epoch in of_networks:
        tre_mm = 2 + place * 0.3 + 20 / epoch + 3 * number
        quality[Method(network, weight, epoch).id] = tre_mm, 0.75 - 2 / epoch, 0.45 - place / 20 - 2 / epoch, 0, 2
    tables = []
    for split, ids in subjects.items():
        for subject in ids:
            for image in ("T1", "T2"):
                for method, (tre_mm, dice, ncc, folding, seconds) in quality.items():
                    f = rng.normal(1, 0.05)
                    rows = [("ncc_squared", "image", ncc * f, "1"), ("folding", "image", folding * f, "%")]
                    if landmarks:
                        rows += [("tre_mean", axis, tre_mm * f * part, "mm")
                                 for axis, part in {"total": 1, "x": 0.5, "y": 0.6, "z": 0.4}.items()]  # fmt: skip
                        rows += [("tre_near_mean", "total", tre_mm * f * 0.9, "mm")]
                        rows += [("landmarks_n", "total", 40, "count"), ("landmarks_outside", "total", 0, "count")]
                    if labels:
                        rows += [("dice", label, min(dice * f, 1), "1") for label in ("1", "2", "mean")]
                    if seconds:
                        rows.append(("runtime", "image", seconds * f, "s"))
                    tables.append(table_of(rows, f"{subject}-{image}_to_{subject}-CT", split, method))
    return pd.concat(tables, ignore_index=True)


def summarized(metrics):
    return statistics.summarize(metrics, 200, 1)


NO_FAILURES = pd.DataFrame(columns=FAILURES_COLUMNS)
NO_FLAGS = pd.DataFrame(columns=FLAGS_COLUMNS)


def by_network(*choices):
    """Return choices by the network's name, as Evaluation has them."""
    return {choice["network"]: choice for choice in choices}


def evaluated(metrics, selected=None, failures=NO_FAILURES, flags=NO_FLAGS):
    """Return the evaluation of a run with these metrics; `selected`: one network's choice, or a list of them."""
    selected = by_network(*([selected] if isinstance(selected, dict) else selected or []))
    return Evaluation(
        metrics=metrics,
        summary=summarized(metrics),
        comparison=compare(Evaluation(metrics, selected=selected), 200, 1),
        ranking=rank(Evaluation(metrics, selected=selected)),
        failures=failures,
        flags=flags,
        selected=selected,
    )


def histories(epochs=30):
    epoch = np.arange(1, epochs + 1)
    tables = {}
    for weight in WEIGHTS:
        table = pd.DataFrame({"epoch": epoch, "similarity": -0.5 + 1 / epoch, "penalty": 0.01 * epoch / float(weight)})
        table["loss"] = table.similarity + float(weight) * table.penalty
        table["label_loss"] = 0.0
        for part in ("loss", "similarity", "penalty"):
            table[f"validation_{part}"] = table[part].where(epoch % 10 == 0)
        tables[weight] = table.assign(seconds=0.1)
    return tables


SELECTED = {"network": NETWORK, "weight": "1", "epoch": 100}
OTHERS = {"network": OTHER, "weight": "10", "epoch": 20}  # what was chosen of a second network


def titles(figure):
    return [
        axes.get_title(loc=where) for axes in figure.axes for where in ("left", "center") if axes.get_title(loc=where)
    ]


MISSING = [
    (landmarks, labels, learned) for landmarks in (True, False) for labels in (True, False) for learned in (True, False)
]


@pytest.mark.parametrize(("landmarks", "labels", "learned"), MISSING)
def test_figures_show_what_was_measured_and_nothing_else(tmp_path, landmarks, labels, learned):
    evaluation = evaluated(cohort_metrics(landmarks, labels, learned), SELECTED if learned else None)
    drawn = {name: draw(evaluation) for name, draw in plot_comparison.FIGURES.items()}
    drawn |= {name: draw(evaluation, NETWORK) for name, draw in plot_selection.FIGURES.items()}
    assert len(drawn) == 6
    for name, figure in drawn.items():
        save(figure, tmp_path / f"{name}.png")
        words = " ".join(titles(figure))
        if name == "folding":
            assert ("TRE" in words) == landmarks and ("Dice" in words) == (labels and not landmarks)
        elif name == "structures":
            words += figure.get_suptitle()
            assert ("Dice of each label" in words) == labels
            assert ("TRE of each axis" in words) == (landmarks and not labels)
        elif learned or name in ("methods", "runtime"):
            assert ("TRE" in words) == landmarks
            assert ("Dice" in words) == labels
            assert ("NCC" in words) == (name in ("selection", "weights") or not (landmarks or labels))
        else:
            assert figure.texts[0].get_text() == "voxelmorph was not measured on validation pairs."


def test_the_comparison_shows_means_of_the_summary_on_test_pairs_and_the_selected_network_only():
    evaluation = evaluated(cohort_metrics(), SELECTED)
    figure = charts.comparison(evaluation)
    panel = figure.axes[0]
    methods = ["initial", "affine", "bspline-1r", "bspline-3r", "voxelmorph,\nλ = 1, epoch 100"]
    assert [label.get_text() for label in panel.get_yticklabels()] == methods
    diamonds = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "D"]
    summary = evaluation.compared(evaluation.summary)
    test = TRE.rows(summary[summary.split == "test"]).set_index("method")["mean"]
    np.testing.assert_allclose(
        diamonds, test[["initial", "affine", "bspline-1r", "bspline-3r", "voxelmorph"]], rtol=1e-12
    )
    assert all(len(points.get_offsets()) == 4 for points in panel.collections if len(points.get_offsets()) > 1)
    assert [text.get_text() for text in panel.texts] == ["n = 4"] * 5


def test_methods_stand_in_the_configuration_s_order_whatever_they_are_called():
    names = {"bspline-1r": "zeta", "bspline-3r": "alpha"}
    metrics = cohort_metrics().replace({"method": names})
    evaluation = evaluated(metrics, SELECTED)
    wanted = ["initial", "affine", "zeta", "alpha", "voxelmorph"]
    shown = ["initial", "affine", "zeta", "alpha", "voxelmorph,\nλ = 1, epoch 100"]
    for figure in (charts.comparison(evaluation), charts.folding(evaluation)):
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == shown
        diamonds = [line.get_color() for line in figure.axes[0].lines if line.get_marker() == "D"]
        assert diamonds == [colours_of(evaluation)[method] for method in wanted]
        assert len(set(diamonds)) == len(wanted)
    boxes = charts.structures(evaluation).axes[0]
    assert [label.get_text() for label in boxes.get_yticklabels()] == wanted
    # They have the colours that the demo's methods have in the same places.
    assert list(colours_of(evaluation).values()) == list(colours_of(evaluated(cohort_metrics(), SELECTED)).values())


NAMES = ["initial", "harmonized", "affine", "bspline-1r", "bspline-3r", "bspline-mutual-information", "niftyreg",
         "ants-syn", "ants-elastic-syn", "demons-diffeomorphic", "deeds", "convexadam", "unigradicon"]  # fmt: skip


def many_methods(count, subjects=6, failing=0, seed=0):
    """Return a table of `count` methods beside the network, their times and errors close together."""
    random = np.random.default_rng(seed)
    tables = []
    for place, method in enumerate([*NAMES[:count], "voxelmorph_weight-1_epoch-100"]):
        tre_mm, seconds = random.uniform(1.3, 2.6), 10 ** random.uniform(0.8, 1.6)
        for subject in range(subjects):
            rows = [("tre_mean", "total", tre_mm * random.lognormal(0, 0.1), "mm"),
                    ("dice", "mean", 0.9 - tre_mm / 10, "1"), ("folding", "image", place / 10, "%"),
                    ("runtime", "image", 0.0 if place < 2 else seconds * random.lognormal(0, 0.1), "s")]  # fmt: skip
            if place == count - 1 and subject < failing:
                rows = [(name, of, np.nan, unit) for name, of, _, unit in rows]
            tables.append(table_of(rows, f"S{subject}-T1_to_S{subject}-CT", "test", method))
    return pd.concat(tables, ignore_index=True)


@pytest.mark.parametrize(("count", "subjects", "failing"), [(3, 6, 0), (7, 1, 0), (8, 6, 2), (13, 8, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_each_method_is_named_beside_its_point_and_no_name_covers_another(count, subjects, failing, seed):
    figure = charts.runtime(evaluated(many_methods(count, subjects, failing, seed), SELECTED))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert not figure.legends
    for axes in figure.axes:
        names = axes.texts
        shown = {text.get_text().split(" (")[0] for text in names}
        assert shown == {*NAMES[2:count], "voxelmorph, λ = 1, epoch 100"}, (
            "those without a time of their own are left out"
        )
        assert sum("failed" in text.get_text() for text in names) == (failing > 0)
        boxes = {text.get_text(): Text.get_window_extent(text, canvas.get_renderer()) for text in names}
        inside = axes.get_window_extent()
        points = [axes.transData.transform(text.xy) for text in names]
        for name, box in boxes.items():
            assert inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1, name
            assert not any(box.contains(*point) for point in points), f"{name} covers a point"
            assert not [other for other in boxes if other != name and box.overlaps(boxes[other])], name


def test_the_pareto_front_is_what_no_other_method_beats():
    points = pd.DataFrame({"x": [1, 2, 3, 4, 4], "y": [5, 6, 3, 3, 1]}, index=list("abcde"))
    assert charts.pareto_front(points, lower_is_better=True) == ["a", "c", "e"]
    assert charts.pareto_front(points, lower_is_better=False) == ["a", "b"]
    figure = charts.runtime(evaluated(many_methods(8), SELECTED))
    (dashed,) = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    y = dashed.get_ydata()
    assert (np.diff(dashed.get_xdata()) > 0).all() and (np.diff(y) < 0).all()


def test_runtime_shows_the_intervals_of_the_summary():
    evaluation = evaluated(cohort_metrics(), SELECTED)
    summary = evaluation.summary
    axes = charts.runtime(evaluation).axes[0]
    row = TRE.rows(summary[(summary.split == "test") & (summary.method == "affine")]).iloc[0]
    ends = [segment for lines in axes.collections for segment in lines.get_segments()]
    assert any(np.allclose(segment[:, 1], [row.ci_low, row.ci_high]) for segment in ends)


def test_folding_stands_beside_accuracy_and_zero_has_a_place():
    metrics = cohort_metrics()
    figure = charts.folding(evaluated(metrics, SELECTED))
    assert titles(figure) == ["TRE on test pairs (lower is better)", "Folding on test pairs (lower is better)"]
    panel = figure.axes[1]
    assert "% of voxels" in panel.get_xlabel() and panel.get_xlim()[0] < 0
    diamonds = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "D"]
    assert diamonds[0] == 0 and diamonds[2] == pytest.approx(0.1, abs=0.02) and max(diamonds) < panel.get_xlim()[1]
    metrics.loc[metrics.metric == "folding", "value"] = 0
    still = charts.folding(evaluated(metrics, SELECTED))
    assert "no method folds anywhere" in [text.get_text() for text in still.axes[1].texts]


def test_structures_are_drawn_one_by_one_and_of_many_the_worst():
    metrics = cohort_metrics()
    failing = (metrics.pair == "P05-T1_to_P05-CT") & (metrics.method == "affine") & (metrics.metric == "dice")
    metrics.loc[failing, "value"] = np.nan
    figure = charts.structures(evaluated(metrics, SELECTED))
    assert titles(figure) == ["label 1", "label 2"] and "4 test pairs" in figure.get_suptitle()
    crosses = [points for points in figure.axes[0].collections
               if len(points.get_offsets()) == 1 and points.get_sizes()[0] == 22]  # fmt: skip
    initial = metrics[(metrics.pair == "P05-T1_to_P05-CT") & (metrics.method == "initial")]
    assert crosses[0].get_offsets()[0][0] == DICE.rows(initial).value.iloc[0], "as bad as doing nothing"
    assert "failed" in figure.get_supxlabel()
    medians = [line.get_xdata()[0] for line in figure.axes[1].lines if line.get_linewidth() == 1.6]
    of_label = metrics[(metrics.split == "test") & (metrics.structure == "2") & (metrics.method == "bspline-3r")]
    assert medians[3] == pytest.approx(of_label.value.median())
    rows = [("dice", str(label), 1 - label / 100, "1") for label in range(1, 36)]
    many = table_of(rows, "P1-T1_to_P1-CT", "test", "affine")
    figure = charts.structures(evaluated(many))
    assert titles(figure) == [f"label {number}" for number in range(24, 36)]
    assert "the 12 worst of 35 labels" in figure.get_suptitle()


def test_failed_pairs_are_said(tmp_path):
    metrics = cohort_metrics()
    first = (metrics.pair == "P05-T1_to_P05-CT") & (metrics.method == "affine") & (metrics.metric == "tre_mean")
    metrics.loc[first, "value"] = np.nan
    figure = charts.comparison(evaluated(metrics, SELECTED))
    assert [text.get_text() for text in figure.axes[0].texts][1] == "n = 4,\n1 failed"
    # The pair is not lost: its cross lies where the worst method on that pair is.
    worst = metrics[(metrics.pair == "P05-T1_to_P05-CT") & (metrics.metric == "tre_mean")
                    & (metrics.structure == "total")].value.max()  # fmt: skip
    offsets = [
        tuple(points.get_offsets()[0]) for points in figure.axes[0].collections if len(points.get_offsets()) == 1
    ]
    assert worst in [x for x, _ in offsets]
    assert "failed: the worst of that pair counts" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_choice_of_the_network_shows_validation_pairs_only():
    metrics = cohort_metrics()
    spoiled = metrics.assign(value=metrics.value.where(metrics.split != "test", 1e6))
    lines = []
    for table in (metrics, spoiled):
        evaluation = evaluated(table, SELECTED)
        for draw in plot_selection.FIGURES.values():
            figure = draw(evaluation, NETWORK)
            lines.append([np.asarray(line.get_ydata(), float) for panel in figure.axes for line in panel.lines])
    for one, other in zip(lines[:2], lines[2:], strict=True):
        assert len(one) == len(other) > 10
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_selected_network_is_marked():
    evaluation = evaluated(cohort_metrics(), SELECTED)
    summary = evaluation.summary
    panels = network_charts.selection(evaluation, NETWORK).axes
    panel = next(axes for axes in panels if axes.get_title(loc="left").startswith("TRE"))
    (ring,) = [line for line in panel.lines if line.get_markersize() == 15]
    rows = TRE.rows(summary[(summary.split == "validation") & (summary.method == "voxelmorph")])
    chosen = rows[(rows.weight == "1") & (rows.epoch == 100)]
    np.testing.assert_allclose(ring.get_ydata(), chosen["mean"])


def test_a_chart_of_one_network_holds_nothing_of_another():
    """Its lines are those of a run without the other one; ring and name are its own."""
    both = cohort_metrics(networks=(NETWORK, OTHER))
    of_run = evaluated(both, [SELECTED, OTHERS])
    for choice in (SELECTED, OTHERS):
        network = choice["network"]
        alone = evaluated(both[both.method.isin(["initial", "affine", network])], choice)
        for name, draw in plot_selection.FIGURES.items():
            figures = [draw(evaluation, network) for evaluation in (of_run, alone)]
            assert [figure.get_suptitle() for figure in figures] == [network] * 2
            shown, expected = ([line.get_xydata() for panel in one.axes for line in panel.lines] for one in figures)
            assert len(shown) == len(expected) > 10
            for one, other in zip(shown, expected, strict=True):
                np.testing.assert_array_equal(one, other)
            texts = [text.get_text() for text in figures[0].legends[0].get_texts()]
            if name == "selection":
                assert texts[-1] == f"selected: λ = {choice['weight']}, epoch {choice['epoch']}"


def test_charts_of_methods_show_every_network_with_its_own_choice_and_colour():
    evaluation = evaluated(cohort_metrics(networks=(NETWORK, OTHER)), [SELECTED, OTHERS])
    labels = ["voxelmorph,\nλ = 1, epoch 100", "voxelmorph-diff,\nλ = 10, epoch 20"]
    for figure in (charts.comparison(evaluation), charts.folding(evaluation)):
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()][-2:] == labels
    panel = charts.comparison(evaluation).axes[0]
    diamonds = [line for line in panel.lines if line.get_marker() == "D"]
    summary = evaluation.summary
    for diamond, choice in zip(diamonds[-2:], (SELECTED, OTHERS), strict=True):
        rows = summary[(summary.split == "test") & (summary.method == choice["network"])]
        row = rows[(rows.weight == choice["weight"]) & (rows.epoch == choice["epoch"])]
        assert diamond.get_xdata()[0] == pytest.approx(TRE.rows(row)["mean"].item())
        assert diamond.get_color() == colours_of(evaluation)[choice["network"]]
    assert diamonds[-1].get_color() != diamonds[-2].get_color()
    names = {text.get_text() for text in charts.runtime(evaluation).axes[0].texts}
    assert {"voxelmorph, λ = 1, epoch 100", "voxelmorph-diff, λ = 10, epoch 20"} <= names


def test_training_shows_every_weight_and_its_validation():
    figure = network_charts.training(NETWORK, histories())
    assert figure.get_suptitle() == NETWORK
    loss = figure.axes[0]
    table = histories()["10"]
    np.testing.assert_allclose(loss.lines[4].get_ydata(), table.loss)
    np.testing.assert_allclose(loss.lines[5].get_ydata(), table.validation_loss.dropna())
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["λ = 0.5", "λ = 1", "λ = 10", "training", "validation"]
    bare = {weight: table.assign(validation_loss=np.nan, validation_similarity=np.nan, validation_penalty=np.nan)
            for weight, table in histories().items()}  # fmt: skip
    assert "validation" not in [
        text.get_text() for text in network_charts.training(NETWORK, bare).legends[0].get_texts()
    ]


def test_a_conditional_training_shows_one_line_for_all_weights_and_each_weight_s_validation():
    epoch = np.arange(1, 13)
    table = next(iter(histories(12).values())).assign(validation_weight=np.resize([0.5, 1.0, 10.0], 12))
    for part in ("loss", "similarity", "penalty"):
        table[f"validation_{part}"] = epoch + table["validation_weight"]
    of_weights = {weight: table[table.validation_weight == float(weight)] for weight in WEIGHTS}
    figure = network_charts.training(NETWORK, of_weights, table)
    loss = figure.axes[0]
    assert len(loss.lines) == len(WEIGHTS) + 1
    np.testing.assert_allclose(loss.lines[-1].get_ydata(), table.loss)
    np.testing.assert_allclose(loss.lines[0].get_xdata(), [1, 4, 7, 10])
    np.testing.assert_allclose(loss.lines[2].get_ydata(), np.array([3, 6, 9, 12]) + 10)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["λ = 0.5", "λ = 1", "λ = 10", "training, any λ", "validation"]


def test_a_search_over_weights_shows_pairs_mean_choice_and_folding():
    rows = [
        (f"p{pair}", "validation", "voxelmorph", str(weight), 50, metric, of, value, "1")
        for weight in (1.0, 2.0, 4.0)
        for pair in range(3)
        for metric, of, value in (("dice", "mean", 0.6 + 0.1 * pair + weight / 100), ("folding", "image", 0.1 / weight))
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    found = {"metric": "dice", "weight": "4.0", "as_good": ["2.0", "4.0"], "folding_percent_max": 0.5}
    dice, folding = network_charts.weight_search(table, found | {"validation_pairs": 3}).axes
    np.testing.assert_allclose(dice.lines[3].get_ydata(), [0.71, 0.72, 0.74])
    np.testing.assert_allclose(dice.lines[4].get_xdata(), 4.0)
    np.testing.assert_allclose(folding.lines[3].get_ydata(), [0.1, 0.05, 0.025])
    assert dice.get_xscale() == "log" and len(dice.patches) == 1
    assert not network_charts.weight_search(table, found | {"validation_pairs": 3, "as_good": None}).axes[0].patches


def test_a_training_with_labels_shows_their_part():
    assert len(network_charts.training(NETWORK, histories()).axes) == 3
    tables = {weight: table.assign(label_loss=1 / table.epoch) for weight, table in histories().items()}
    axes = network_charts.training(NETWORK, tables).axes
    assert len(axes) == 4 and "Label loss" in axes[3].get_title(loc="left")
    np.testing.assert_allclose(axes[3].lines[2].get_ydata(), tables["10"].label_loss)
    assert len(axes[3].lines) == len(WEIGHTS), "validation has no labels"


def test_a_part_that_only_some_networks_have_has_a_panel_under_its_column_s_name():
    extra = {"label_loss": 1.0, "folding_penalty": 0.0, "cycle": 2.5, "validation_cycle": 3.5, "slope": -1.0}
    tables = {weight: table.assign(**extra) for weight, table in histories().items()}
    figure = network_charts.training(NETWORK, tables)
    assert titles(figure)[4:] == ["cycle", "slope"], "what is 0 throughout has none"
    np.testing.assert_allclose(figure.axes[4].lines[0].get_ydata(), 2.5)
    np.testing.assert_allclose(figure.axes[4].lines[1].get_ydata(), 3.5)
    assert len(figure.axes[5].lines) == len(WEIGHTS)


def test_a_training_of_another_kind_shows_its_loss_and_then_its_own_parts():
    """As its history has them: no similarity, penalty or label loss; validation where it was watched."""
    columns = {"error": 0.5, "loss": 0.7, "likeness": 0.2, "unused": 0.0, "validation_error": 0.9, "seconds": 1.0}
    table = pd.DataFrame({"epoch": [1, 2]} | {name: [value, value / 2] for name, value in columns.items()})
    figure = network_charts.training(NETWORK, {"1": table, "2": table})
    assert titles(figure) == ["loss", "error", "likeness"]
    for axes, name in zip(figure.axes, ("loss", "error", "likeness"), strict=True):
        np.testing.assert_allclose(axes.lines[0].get_ydata(), table[name])
    assert [len(axes.lines) for axes in figure.axes] == [2, 4, 2]
    np.testing.assert_allclose(figure.axes[1].lines[1].get_ydata(), table.validation_error)


def test_what_is_learned_from_known_displacements_is_drawn_in_its_unit():
    columns = {"loss": 4.1, "displacement_error": 4.0, "penalty": 0.1, "seconds": 1.0}
    table = pd.DataFrame({"epoch": [1, 2]} | {name: [value, value / 2] for name, value in columns.items()})
    figure = network_charts.training(NETWORK, {"1": table})
    assert titles(figure) == [
        "Loss = error + λ · penalty", "Mean squared error of the displacement", "Penalty (before × λ)"
    ]  # fmt: skip
    assert [axes.get_ylabel() for axes in figure.axes] == ["mm²", "mm²", "dimensionless"]


def test_scripts_of_tables_write_every_figure(tmp_path):
    metrics = cohort_metrics()
    write_table(metrics, tmp_path / "metrics.tsv")
    write_table(summarized(metrics), tmp_path / "summary.tsv")
    write_json(SELECTED, tmp_path / "selected.json")
    for weight, table in histories().items():
        write_table(table, tmp_path / f"{weight}.tsv")
    trained = [tmp_path / f"{weight}.tsv" for weight in WEIGHTS]
    plot_training.main(NETWORK, trained, list(WEIGHTS), [tmp_path / "training.png"])
    names = ("selection", "weights", "methods", "runtime", "structures", "folding")
    outputs = {name: [tmp_path / f"{name}.png", tmp_path / f"{name}.svg"] for name in names}
    for selected in ([tmp_path / "selected.json"], []):
        given = {"metrics": tmp_path / "metrics.tsv", "summary": tmp_path / "summary.tsv", "selected": selected}
        plot_comparison.main(Evaluation.read(given), outputs, phantom=True)
        plot_selection.main(Evaluation.read(given), NETWORK, outputs, phantom=True)
    assert all(path.stat().st_size > 1000 for paths in outputs.values() for path in paths)


def test_the_chart_of_landmarks_shows_each_landmark_and_the_mean():
    methods = [Method("zeta"), Method("alpha"), Method("voxelmorph", "1", 100)]
    errors_mm = {method: np.array([3.0, 5.0, np.nan]) / (n + 1) for n, method in enumerate(methods)}
    axes = charts.landmark_errors(errors_mm, method_colours(methods)).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["zeta", "alpha", "voxelmorph,\nλ = 1, epoch 100"]
    diamonds = [line for line in axes.lines if line.get_marker() == "D"]
    np.testing.assert_allclose([line.get_xdata()[0] for line in diamonds], [4, 2, 4 / 3])
    assert len({line.get_color() for line in diamonds}) == 3
    assert all(len(points.get_offsets()) == 2 for points in axes.collections), "a landmark outside is left out"
