"""`import mipp` needs the library alone: no orchestrator, no tracker, and it says nothing."""

import subprocess
import sys
from ast import literal_eval

import pytest

import mipp
from mipp.criteria import CRITERIA

pytestmark = pytest.mark.xdist_group("import")  # one process asks what most look at
BLOCKED = ("prefect", "prefect_ray", "mlflow", "dvc", "ray", "resource", "fcntl")
REFUSE = f"""
import sys
assert not {{'resource', 'fcntl'}} & set(sys.modules)

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Refuse())
"""


CHOSEN = """
from mipp.criteria import CRITERIA
from mipp.information.estimators import ESTIMATORS
print(sorted(sys.modules))
for table, name in ((CRITERIA, "l1"), (ESTIMATORS, "gaussian")):
    table[name]
    print(sorted(sys.modules))
"""


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bare():
    """All of mipp imported where the orchestrators do not exist, nor what is of Unix alone."""
    modules = "mipp, mipp.commands.run, mipp.commands.sweep, mipp.report, mipp.criteria, mipp.data"
    return run_python(f"{REFUSE}\nimport {modules}\nmipp.prune\n{CHOSEN}")


def modules_of(line):
    """Names of mipp's modules in a line of what was printed."""
    return {name for name in literal_eval(line) if name.partition(".")[0] == "mipp"}


def test_mipp_imports_without_prefect_mlflow_dvc_ray_resource_and_fcntl(bare):
    assert bare.returncode == 0, bare.stderr
    assert "'mipp.pruning.oneshot'" in bare.stdout


def test_import_says_nothing(bare):
    assert bare.stderr == ""
    assert bare.stdout.count("\n") == 3  # the lists that this test printed


def test_import_leaves_scikit_learn_to_the_digits(bare):
    assert "'sklearn'" not in bare.stdout


def test_a_criterion_imports_no_other(bare):
    """What a run of one method depends on does not hold the others' sources."""
    before, after, _ = map(modules_of, bare.stdout.splitlines())
    addresses = {address.partition(":")[0] for address in map(CRITERIA.address, CRITERIA)}
    assert before & addresses == set()
    assert after & addresses == {"mipp.criteria.l1"}


def test_the_closed_form_imports_no_perceptrons(bare):
    after = modules_of(bare.stdout.splitlines()[-1])
    assert "mipp.information.gaussian" in after
    assert not [name for name in after if name.startswith("mipp.information.reconstruction")]


def test_blocked_packages_are_really_refused():
    found = run_python(REFUSE + "import prefect")
    assert found.returncode == 1
    assert "prefect is blocked" in found.stderr


def test_help_waits_for_no_library():
    """`mipp --help` takes a twentieth of a second; torch alone takes more than one."""
    code = "import runpy, sys\nsys.argv = ['mipp', '--help']\n"
    code += "try: runpy.run_module('mipp', run_name='__main__')\n"
    code += "except SystemExit: print({'torch', 'numpy', 'pydantic'} & set(sys.modules))"
    found = run_python(code)
    assert found.stdout.endswith("set()\n"), found.stdout + found.stderr
    assert "mipp COMMAND" in found.stdout


def test_every_public_name_is_there_and_listed():
    assert [name for name in mipp.__all__ if not hasattr(mipp, name)] == []
    assert set(mipp.__all__) <= set(dir(mipp))
    assert mipp.prune.__module__ == "mipp.pruning.oneshot"


def test_module_of_mipp_is_an_attribute_and_nothing_else_is():
    assert mipp.criteria is sys.modules["mipp.criteria"]
    with pytest.raises(AttributeError, match="has no attribute 'prunes'"):
        _ = mipp.prunes
