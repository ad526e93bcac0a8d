"""`import mipp` needs the library alone: no orchestrator, no tracker, and it says nothing."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.xdist_group("import")  # one process asks what most look at
BLOCKED = ("prefect", "prefect_ray", "mlflow", "dvc", "ray")
REFUSE = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(f"{{name}} is blocked", name=name)

sys.meta_path.insert(0, Refuse())
"""


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bare():
    """All of mipp imported where the orchestrators do not exist."""
    modules = "mipp, mipp.cli, mipp.stages, mipp.report, mipp.criteria, mipp.data"
    return run_python(REFUSE + f"import {modules}\nprint(sorted(sys.modules))")


def test_mipp_imports_without_prefect_mlflow_dvc_and_ray(bare):
    assert bare.returncode == 0, bare.stderr
    assert "'mipp.pruning.oneshot'" in bare.stdout


def test_import_says_nothing(bare):
    assert bare.stderr == ""
    assert bare.stdout.count("\n") == 1  # the list that this test printed


def test_import_leaves_scikit_learn_to_the_digits(bare):
    assert "'sklearn'" not in bare.stdout


def test_blocked_packages_are_really_refused():
    found = run_python(REFUSE + "import prefect")
    assert found.returncode == 1
    assert "prefect is blocked" in found.stderr


def test_mipp_imports_where_resource_and_fcntl_do_not_exist():
    refuse = REFUSE.replace(str(BLOCKED), str(("resource", "fcntl")))
    modules = "mipp, mipp.cli, mipp.stages, mipp.experiments.sweep"
    check = "import sys; assert not {'resource', 'fcntl'} & set(sys.modules), sys.modules"
    found = run_python(f"{check}\n{refuse}import {modules}\nprint(mipp.prune.__name__)")
    assert (found.returncode, found.stdout) == (0, "prune\n"), found.stderr
