import numpy as np
import pytest
import sklearn.metrics

from edgewright.compiler.metrics import MAX_SQNR_DB, METRICS, accuracy, auc, cosine, f1, sqnr, top5
from edgewright.contracts.errors import UserError

SCORES = np.array([[0.1, 0.9, 0.0], [0.8, 0.1, 0.1], [0.2, 0.3, 0.5]], np.float32)


def test_accuracy_counts_the_highest_score():
    assert accuracy(SCORES, np.array([1, 0, 0])) == pytest.approx(2 / 3)


def test_top5_counts_the_five_highest_scores():
    scores = np.arange(12, dtype=np.float32).reshape(2, 6)
    assert top5(scores, np.array([0, 1])) == 0.5


def test_cosine_ignores_length_and_sees_direction():
    a = np.array([[1.0, 0.0], [0.0, 2.0]])
    assert cosine(3 * a, a) == pytest.approx(1)
    assert cosine(-a, a) == pytest.approx(-1)
    assert cosine(a[::-1], a) == pytest.approx(0)


def test_cosine_of_zeros_with_zeros_is_one_and_with_others_zero():
    zeros, ones = np.zeros((1, 4)), np.ones((1, 4))
    assert cosine(zeros, zeros) == 1
    assert cosine(zeros, ones) == 0


def test_cosine_and_sqnr_need_no_labels():
    assert [name for name, metric in METRICS.items() if metric.is_relative] == ["cosine", "sqnr"]


@pytest.mark.parametrize(
    ("outputs", "labels", "code", "found"),
    [
        (SCORES, np.array([0, 1, 3]), "labels-out-of-range", "3, the label of sample 2"),
        (SCORES, np.array([0, -1, 1]), "labels-out-of-range", "-1, the label of sample 1"),
        (SCORES, np.eye(3), "labels-malformed", "float64 of shape (3, 3)"),
        (SCORES[:, :1], np.array([0, 0, 0]), "metric-does-not-fit", "shape (3, 1)"),
        (SCORES[:, None], np.array([0, 0, 0]), "metric-does-not-fit", "shape (3, 1, 3)"),
    ],
)
def test_labels_and_outputs_that_do_not_fit_are_told(outputs, labels, code, found):
    with pytest.raises(UserError) as caught:
        accuracy(outputs, labels)
    assert caught.value.code == code
    assert caught.value.found == found


def test_unsigned_labels_are_taken():
    assert accuracy(SCORES, np.array([1, 0, 2], np.uint8)) == 1


def test_sqnr_is_twenty_decibel_where_the_noise_is_a_tenth_of_the_signal():
    signal = np.random.default_rng(0).normal(size=(4, 50))
    assert sqnr(signal * 1.1, signal) == pytest.approx(20)
    assert sqnr(signal * 1.01, signal) == pytest.approx(40)


def test_sqnr_of_equal_outputs_is_finite_and_the_best_there_is():
    zeros, ones = np.zeros((1, 4)), np.ones((1, 4))
    assert sqnr(ones, ones) == MAX_SQNR_DB
    assert sqnr(zeros, zeros) == MAX_SQNR_DB
    assert sqnr(ones * (1 + 1e-12), ones) == MAX_SQNR_DB
    assert sqnr(ones, zeros) == -MAX_SQNR_DB


@pytest.mark.parametrize("classes", [2, 4])
def test_f1_is_that_of_scikit_learn(classes):
    random = np.random.default_rng(classes)
    outputs, labels = random.normal(size=(60, classes)), random.integers(classes, size=60)
    expected = sklearn.metrics.f1_score(labels, outputs.argmax(1), average="macro")
    assert f1(outputs, labels) == pytest.approx(expected)


def test_f1_leaves_out_a_class_that_is_neither_label_nor_prediction():
    assert f1(np.eye(4)[[0, 1, 2]], np.array([0, 1, 2])) == 1


def test_f1_sees_a_rare_class_that_accuracy_does_not():
    outputs = np.tile([1.0, 0.0], (100, 1))
    labels = np.array([0] * 99 + [1])
    assert accuracy(outputs, labels) == 0.99
    assert f1(outputs, labels) < 0.5


def test_auc_is_that_of_scikit_learn_with_equal_scores_too():
    random = np.random.default_rng(0)
    labels = random.integers(2, size=80)
    scores = np.round(random.normal(size=80) + labels, 1)
    outputs = np.stack([np.zeros(80), scores], axis=1)
    assert auc(outputs, labels) == pytest.approx(sklearn.metrics.roc_auc_score(labels, scores))


def test_auc_of_several_classes_is_the_mean_of_each_against_the_rest_from_scores_or_probabilities():
    random = np.random.default_rng(1)
    labels = random.integers(4, size=80)
    outputs = random.normal(size=(80, 4)) + 2 * np.eye(4)[labels]
    odds = np.exp(outputs)
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    expected = sklearn.metrics.roc_auc_score(labels, probabilities, multi_class="ovr")
    assert auc(outputs, labels) == pytest.approx(expected)
    assert auc(probabilities, labels) == pytest.approx(expected)


def test_auc_of_labels_of_one_class_is_refused():
    with pytest.raises(UserError) as caught:
        auc(SCORES, np.array([1, 1, 1]))
    assert caught.value.code == "labels-malformed"
    assert caught.value.found == "only class 1"
