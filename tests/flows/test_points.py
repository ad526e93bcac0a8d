"""What becomes of a point whose task does not come back with an answer."""

import pytest

from mipp.config import load_params
from mipp.experiments.points import Point
from tasks import points


class Ended:
    """A future that knows its result once it was waited for."""

    def __init__(self, result):
        self._result, self._waited = result, False

    def wait(self):
        self._waited = True

    def result(self, *, raise_on_failure):
        assert self._waited
        assert not raise_on_failure
        return self._result


@pytest.mark.parametrize(
    ("result", "reason"),
    [("", ""), ("DataError: none", "DataError: none"), (OSError("gone"), "OSError: gone")],
)
def test_death_of_a_process_is_a_failure_like_another(result, reason, monkeypatch, tmp_path):
    logged = []
    monkeypatch.setattr(points, "log_point", lambda *given: logged.append(given))
    point = Point("l1", "ratio:0.5", 0, "trained", "", load_params())
    assert points.log_outcome(tmp_path, point, "parent", Ended(result)) == bool(reason)
    assert logged == [(tmp_path, point, "parent", reason)]
