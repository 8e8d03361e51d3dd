"""Figures have one style: names, order and colours of methods, and files that are the same twice."""

import matplotlib.image
from test_charts import SELECTED, cohort_metrics, histories, summarized

from cohortmorph.figures import charts
from cohortmorph.figures import style as figures


def test_a_method_and_a_weight_have_one_colour_everywhere():
    few, many = figures.method_colours(["affine", "initial"]), figures.method_colours(["affine", "ants", "niftyreg"])
    assert few["affine"] == many["affine"] and many["ants"] != many["niftyreg"]
    assert len(set(many.values())) == len(many)
    assert figures.weight_styles(["10", "2", "0.5"]) == figures.weight_styles(["0.5", "10", "2", "2"])
    assert list(figures.weight_styles(["10", "2", "0.5"])) == ["0.5", "2", "10"]


def test_methods_come_in_the_order_of_the_story():
    shuffled = ["voxelmorph", "niftyreg", "bspline-3r", "affine", "bspline-1r", "harmonized", "initial"]
    ordered = ["initial", "harmonized", "affine", "bspline-1r", "bspline-3r", "niftyreg", "voxelmorph"]
    assert figures.ordered_methods(shuffled) == ordered


def test_files_are_the_same_twice_fit_a_page_and_say_phantom(tmp_path):
    metrics = cohort_metrics()
    for run in ("one", "two"):
        figure = charts.comparison(metrics, summarized(metrics), SELECTED)
        figures.save(figure, tmp_path / run / "a.png", tmp_path / run / "a.svg", phantom=run == "two")
        assert ("PHANTOM" in [text.get_text() for text in figure.texts]) == (run == "two")
        figures.save(charts.training(histories()), tmp_path / run / "b.png", tmp_path / run / "b.svg")
    for name in ("b.png", "b.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one" / "a.png").read_bytes() != (tmp_path / "two" / "a.png").read_bytes()
    assert matplotlib.image.imread(tmp_path / "one" / "a.png").shape[1] <= 1600
