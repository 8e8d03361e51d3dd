"""Figures have one style: names, order and colours of methods, and files that are the same twice."""

import matplotlib.image
from test_charts import NETWORK, SELECTED, cohort_metrics, evaluated, histories

from cohortmorph.cohort.methods import Method
from cohortmorph.figures import charts, network_charts
from cohortmorph.figures.style import colours_of, method_colours, save, weight_styles


def test_a_method_and_a_weight_have_one_colour_everywhere():
    evaluation = evaluated(cohort_metrics(), SELECTED)
    by_ids = method_colours(map(Method.of, ["initial", "affine", "bspline-1r", "bspline-3r",
                                            "voxelmorph_weight-2_epoch-3"]))  # fmt: skip
    assert colours_of(evaluation) == by_ids, "a figure of tables and one of a pair"
    assert weight_styles(["10", "2", "0.5"]) == weight_styles(["0.5", "10", "2", "2"])
    assert list(weight_styles(["10", "2", "0.5"])) == ["0.5", "2", "10"]


def test_colours_go_by_the_configuration_s_order_not_by_names():
    methods = [Method("initial"), Method("zeta"), Method("affine"), Method("alpha"), Method("net", "1", 5),
               Method("net", "2", 5), Method("other-net", "1", 5)]  # fmt: skip
    colours = method_colours(methods)
    assert list(colours) == ["initial", "zeta", "affine", "alpha", "net", "other-net"]
    assert len(set(colours.values())) == len(colours)
    assert (colours["zeta"], colours["alpha"]) == ("#56B4E9", "#0072B2") and colours["net"] == "#D55E00"
    assert method_colours([Method("alpha"), Method("zeta")])["alpha"] == "#56B4E9"
    renamed = method_colours([Method("bspline-3r"), Method("bspline-1r"), Method("voxelmorph")])
    assert list(renamed.values()) == ["#56B4E9", "#0072B2", "#009E73"], "without a λ it is no network"
    many = method_colours([Method(f"m{number}") for number in range(8)])
    assert len(set(many.values())) == 8


def test_files_are_the_same_twice_fit_a_page_and_say_phantom(tmp_path):
    metrics = cohort_metrics()
    for run in ("one", "two"):
        figure = charts.comparison(evaluated(metrics, SELECTED))
        save(figure, tmp_path / run / "a.png", tmp_path / run / "a.svg", phantom=run == "two")
        assert ("PHANTOM" in [text.get_text() for text in figure.texts]) == (run == "two")
        save(network_charts.training(NETWORK, histories()), tmp_path / run / "b.png", tmp_path / run / "b.svg")
    for name in ("b.png", "b.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / "a.png").read_bytes() != (tmp_path / "two" / "a.png").read_bytes()
    assert matplotlib.image.imread(tmp_path / "one" / "a.png").shape[1] <= 1600
