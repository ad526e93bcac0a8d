"""What a command ends with, and what it says on the way."""

import pytest

from mipp.errors import BudgetError, ExportError
from mipp.exit_codes import exit_code


@pytest.mark.parametrize(
    ("error", "code"), [(BudgetError("too small"), 2), (ExportError("does not fit"), 1)]
)
def test_bad_input_is_2_and_every_other_error_of_ours_1(error, code, capsys):
    def command():
        raise error

    assert exit_code(command) == code
    assert capsys.readouterr().err == f"{type(error).__name__}: {error}\n"


@pytest.mark.parametrize(("answer", "code"), [(None, 0), (0, 0), (1, 1)])
def test_a_command_that_ends_well_has_its_own_code(answer, code):
    assert exit_code(lambda: answer) == code


def test_what_is_no_error_of_ours_stays_an_error():
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 // 0)
