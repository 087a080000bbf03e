from training.forensic import clean_figures


def test_each_clean_series_is_held_against_the_other_clean_patients():
    series = {"patients": ["a", "b", "c"], "fb": [[-1.0], [2.0], [0.5]], "fm": [[0.0], [-3.0], [-2.0]]}
    figures = {one.name: one for one in clean_figures(series, {"fb": 3.5, "fm": 1.5})}
    assert len(figures) == 6
    highest, lowest = figures["clean series b, highest FB"], figures["clean series a, highest FB"]
    assert (highest.value, lowest.value) == (2.0, -1.0)
    assert "series point 3.5" in highest.protocol
    assert highest.protocol.endswith("p-value 0.33")  # the highest of three
    assert lowest.protocol.endswith("p-value 1.00")
