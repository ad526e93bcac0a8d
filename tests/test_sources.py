"""Which sources a module depends on, against hand-made packages and against Python's own parser."""

import ast
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from mipp.sources import _imports, closure, code_hash, file_hash
from tests.light_process import LIGHT

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for top in ("mipp", "tasks", "flows") for path in (ROOT / top).rglob("*.py"))


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes sources under a folder that is on sys.path; each test has modules of its own names."""
    monkeypatch.syspath_prepend(tmp_path)

    def files(texts):
        for name, text in texts.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return files


def places(module):
    return sorted(closure([module]))


def by_parser(source):
    """Imports of a source as Python's parser sees them, in the order of `_imports`' fields."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield (alias.name, None, alias.asname or alias.name, 0)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield (node.module or "", alias.name, alias.asname or alias.name, node.level)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_are_those_that_the_parser_finds(path):
    content = path.read_bytes()
    key = repr
    assert sorted(map(tuple, _imports(content)), key=key) == sorted(by_parser(content), key=key)


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    import a.b as c, d\n",
        "if True: import a\n",
        "x = 1; from a import b; import c\n",
        "from a import (  # (b)\n    b as c,\n    d,\n)\n",
        "from a import b, \\\n    c\n",
        "from . import a\nfrom ..b import c\nfrom .d.e import f as g\n",
        "from a import *\n",
        "try:\n    import a\nexcept ImportError:\n    import b as a\n",
        '"""Text.\n\nimport time of the module\nfrom the first import on\n"""\nimport a\n',
        "",
    ],
)
def test_imports_of_every_form_are_found(source):
    found = sorted(map(tuple, _imports(source.encode())), key=repr)
    assert found == sorted(by_parser(source), key=repr)


def test_import_inside_a_function_counts(write):
    write({"deep_one": "def f():\n    import deep_two\n", "deep_two": "from deep_three import x\n"})
    write({"deep_three": "x = 1\n", "deep_apart": ""})
    assert places("deep_one") == ["deep_one.py", "deep_three.py", "deep_two.py"]


def test_name_is_followed_through_packages_that_hand_it_on(write):
    write(
        {
            "hand/__init__": "from hand.inner import first\nfrom hand.other import second\n",
            "hand/inner/__init__": "from hand.inner.deep import first\n",
            "hand/inner/deep": "first = 1\n",
            "hand/other": "second = 2\n",
            "hand_user": "from hand import first\n",
        }
    )
    assert places("hand_user") == ["hand/inner/deep.py", "hand_user.py"]


def test_package_that_defines_the_name_counts_itself_and_what_it_imports(write):
    write(
        {
            "define/__init__": "from define.inner import first\ndef mine():\n    return first\n",
            "define/inner": "first = 1\n",
            "define/other": "",
            "define_user": "from define import mine\n",
        }
    )
    assert places("define_user") == ["define/__init__.py", "define/inner.py", "define_user.py"]


def test_module_taken_from_its_package_is_that_module(write):
    write(
        {
            "taken/__init__": "from taken.same import same\n",
            "taken/same": "def same(): ...\n",
            "taken/other": "",
            "taken_user": "from taken import other\n",
            "taken_name": "from taken import same\n",
        }
    )
    assert places("taken_user") == ["taken/other.py", "taken_user.py"]
    assert places("taken_name") == ["taken/same.py", "taken_name.py"]


def test_relative_imports_are_followed(write):
    write(
        {
            "relative/__init__": "",
            "relative/a": "from . import b\nfrom .inner import c\n",
            "relative/b": "",
            "relative/inner/__init__": "from .d import c\n",
            "relative/inner/d": "from ..b import *\nc = 1\n",
        }
    )
    expected = ["relative/a.py", "relative/b.py", "relative/inner/d.py"]
    assert places("relative.a") == expected


def test_folder_without_init_is_a_package_too(write):
    write(
        {"bare/inner": "x = 1\n", "bare_user": "from bare.inner import x\nfrom bare import inner\n"}
    )
    assert places("bare_user") == ["bare/inner.py", "bare_user.py"]


def test_modules_that_import_each_other_end(write):
    write({"circle_a": "import circle_b\n", "circle_b": "import circle_a\n"})
    assert places("circle_a") == ["circle_a.py", "circle_b.py"]


def test_other_people_s_modules_do_not_count(write):
    write({"others_user": "import numpy\nimport os.path\nfrom torch import nn\n"})
    assert places("others_user") == ["others_user.py"]


def test_own_module_depends_on_what_it_takes_from_mipp(write):
    write({"own_user": "import mipp\nfrom mipp.errors import ModelError\nfrom mipp import prune\n"})
    found = places("own_user")
    assert {"own_user.py", "mipp/errors.py", "mipp/pruning/oneshot.py"} <= set(found)
    assert "mipp/__init__.py" not in found


def test_import_of_mipp_alone_counts_nothing(write):
    write({"alone_user": "import mipp\n"})
    assert places("alone_user") == ["alone_user.py"]


def test_installed_package_is_followed_within_itself(write, tmp_path):
    (tmp_path / "site-packages").mkdir()
    write(
        {
            "site-packages/installed/__init__": "from installed.inner import x\nimport beside\n",
            "site-packages/installed/inner": "x = 1\n",
            "site-packages/beside": "",
        }
    )
    sys.path.insert(0, str(tmp_path / "site-packages"))
    assert places("installed") == ["installed/__init__.py", "installed/inner.py"]


def test_hash_is_that_of_the_places_and_contents(write):
    write({"hash_a": "import hash_b\n", "hash_b": "x = 1\n"})
    digests = [hashlib.sha256(text).hexdigest() for text in (b"import hash_b\n", b"x = 1\n")]
    text = f"hash_a.py {digests[0]}\nhash_b.py {digests[1]}"
    assert code_hash(("hash_a",)) == hashlib.sha256(text.encode()).hexdigest()


def test_hash_of_a_module_of_mipp_is_its_file_s():
    content = (ROOT / "mipp/errors.py").read_bytes()
    assert file_hash("mipp.errors") == hashlib.sha256(content).hexdigest()


def test_module_without_a_source_is_never_the_same():
    assert code_hash(("math",)) != code_hash(("math",))


def test_script_counts_with_what_lies_beside_it(tmp_path):
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "script.py").write_text(
        f"{LIGHT}\nimport beside\nfrom mipp.sources import closure\nprint(*closure(['__main__']))\n"
    )
    found = subprocess.check_output([sys.executable, tmp_path / "script.py"], text=True).split()
    assert found == ["script.py", "beside.py", "mipp/sources.py"]


def test_file_is_read_once_in_a_process(write, tmp_path):
    write({"once_a": "import once_b\n", "once_b": "x = 1\n"})
    before = code_hash(("once_a",))
    write({"once_b": "x = 2\n"})
    assert code_hash(("once_a",)) == before  # the code that runs is the one that was read


def test_package_that_imports_what_lies_beside_it_counts_whole(write):
    write(
        {
            "kinds_a/__init__": "import pkgutil\nfound = [*pkgutil.iter_modules(__path__)]",
            "kinds_a/table": "def get(): ...",
            "kinds_a/one": "import used_a",
            "used_a": "",
            "asks_a": "from kinds_a.table import get",
        }
    )
    beside = ["kinds_a/__init__.py", "kinds_a/one.py", "kinds_a/table.py"]
    assert places("asks_a") == ["asks_a.py", *beside, "used_a.py"]


def test_stages_depend_on_every_kind_of_layer():
    own = {f"mipp/layers/{path.name}" for path in (ROOT / "mipp/layers").glob("*.py")}
    assert own <= closure(["mipp.stages.extract"]).keys()
