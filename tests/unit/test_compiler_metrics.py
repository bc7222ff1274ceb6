import numpy as np
import pytest

from edgewright.compiler.metrics import METRICS, accuracy, cosine, top5
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


def test_only_cosine_needs_no_labels():
    assert [name for name, metric in METRICS.items() if metric.is_relative] == ["cosine"]


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
