import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from pacs_guard.detect.bundle import load_bundle, pack_arrays, save_bundle
from pacs_guard.detect.preprocess import block_mean
from pacs_guard.detect.slicemodels import WEIGHTS, SupportVectors, Trees, read_model, support_arrays, trees_arrays
from pacs_guard.errors import BundleError


@pytest.fixture(params=[2, 3])
def pictures(request):
    """Pictures of 8 x 10 pixels that differ a little by class."""
    rng = np.random.default_rng(0)
    answers = np.arange(90) % request.param
    return (rng.random((90, 8, 10)) + 0.3 * answers[:, None, None]).astype(np.float32), answers


def pixels(made, step):
    return np.stack([block_mean(one, step).ravel() for one in made])


@pytest.mark.parametrize("fitted", [DecisionTreeClassifier(max_depth=4), RandomForestClassifier(20, max_depth=5)])
@pytest.mark.parametrize("step", [1, 2])
def test_trees_give_scikit_learn_s_probabilities(pictures, fitted, step):
    made, answers = pictures
    fitted.set_params(random_state=0).fit(pixels(made, step)[:60], answers[:60])
    arrays = dict(trees_arrays(fitted, step))
    model = Trees(step=int(arrays.pop("step")), **arrays)
    expected = np.log(np.maximum(fitted.predict_proba(pixels(made, step)), 1e-3))
    np.testing.assert_allclose(model.scores(made), expected, atol=1e-9)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_support_vectors_give_scikit_learn_s_decisions(pictures, kernel):
    made, answers = pictures
    scale = StandardScaler().fit(pixels(made, 2)[:60])
    fitted = SVC(kernel=kernel, C=2.0).fit(scale.transform(pixels(made, 2)[:60]), answers[:60])
    arrays = dict(support_arrays(fitted, scale, 2))
    model = SupportVectors(step=int(arrays.pop("step")), gamma=float(arrays.pop("gamma")), **arrays)
    decision = fitted.decision_function(scale.transform(pixels(made, 2)))
    expected = np.stack([-decision, decision], axis=1) / 2 if decision.ndim == 1 else decision
    np.testing.assert_allclose(model.scores(made), expected, atol=1e-5)


def bundle(folder, preprocessing, arrays):
    sections = {"operating_point": {}, "calibration": {}, "training_data": [], "figures": []}
    manifest = {"name": "m", "version": "1", "detector": "slice-classifier", "preprocessing": preprocessing}
    return load_bundle(save_bundle(folder, manifest | sections, {WEIGHTS: pack_arrays(arrays)}).path)


def test_arrays_that_do_not_fit_the_model_are_refused(tmp_path):
    with pytest.raises(BundleError, match="does not hold the arrays of trees"):
        read_model(bundle(tmp_path / "a", {"model": "trees"}, {"step": np.array(1), "other": np.zeros(2)}))
    with pytest.raises(BundleError, match="model of kind 'guess'"):
        read_model(bundle(tmp_path / "b", {"model": "guess"}, {"step": np.array(1)}))
