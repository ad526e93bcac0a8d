"""Names that people bring: what a table takes, what it resolves, and what its refusals say."""

import subprocess
import sys

import pytest

from mipp.errors import DataError, ModelError
from mipp.names import Table, address_of, call_taking, require_takes
from tests.light_process import LIGHT


def require_function(thing):
    if not callable(thing):
        raise TypeError(f"expected a function, got a {type(thing).__name__}")


@pytest.fixture
def table():
    rows = {"root": "math:sqrt", "twice": lambda x: 2 * x}
    return Table("shape", "shape.name", ModelError, require_function, rows)


@pytest.fixture
def brought(monkeypatch, tmp_path):
    """A folder to start in, whose modules this process forgets again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_built_in_rows_are_found_by_their_name(table):
    assert table["root"](9) == table.resolve("root")(9) == 3
    assert list(table) == ["root", "twice"]
    assert len(table) == 2


def test_row_given_by_its_address_is_imported_when_it_is_first_asked_for(table):
    rows = {"lazy": "no_such_module:f", "root": "math:sqrt"}
    lazy = Table("shape", "shape.name", ModelError, require_function, rows)
    assert "lazy" in lazy
    assert lazy["root"](4) == 2
    with pytest.raises(ModelError, match="there is no module no_such_module"):
        lazy["lazy"]


def test_registered_thing_is_found_and_left_as_it_was(table):
    def shape(x):
        return -x

    assert table.register("minus")(shape) is shape
    assert table.resolve("minus") is table["minus"] is shape
    assert "minus" in table


@pytest.mark.parametrize("name", ["root", "twice"])
def test_name_of_a_built_in_row_is_refused(table, name):
    with pytest.raises(ModelError, match=rf"shape '{name}' cannot be registered.*is taken"):
        table.register(name)(lambda x: x)


def test_name_that_another_thing_has_is_refused(table):
    def first(x): ...
    def second(x): ...

    table.register("mine")(first)
    with pytest.raises(ModelError, match=r"'mine' cannot be registered.*is taken"):
        table.register("mine")(second)
    assert table["mine"] is first


def test_thing_that_is_defined_anew_takes_its_own_place(table):
    def define():
        def mine(x): ...

        return table.register("mine")(mine)

    first, second = define(), define()
    assert first is not second
    assert table["mine"] is second


@pytest.mark.parametrize("name", ["", "my:shape", "my/shape"])
def test_name_that_could_be_an_address_or_a_prefix_is_refused(table, name):
    with pytest.raises(ModelError, match="is no name"):
        table.register(name)(lambda x: x)


def test_thing_is_checked_when_it_is_registered(table):
    with pytest.raises(ModelError, match=r"(?s)shape 'mine' .*cannot be one.*expected a function"):
        table.register("mine")(3)
    assert "mine" not in table


def test_address_is_found_in_the_current_folder(table, brought):
    (brought / "folder_mine.py").write_text("def shape(x):\n    return 7 * x\n")
    assert table.resolve("folder_mine:shape")(6) == 42


def test_address_may_lie_in_a_package_and_inside_a_class(table, brought):
    (brought / "package_mine").mkdir()
    (brought / "package_mine/inner.py").write_text(
        "class Shapes:\n    @staticmethod\n    def two():\n        return 2\n"
    )
    assert table.resolve("package_mine.inner:Shapes.two")() == 2


def test_what_the_module_imports_later_lies_beside_it(table, brought):
    (brought / "later_beside.py").write_text("number = 5\n")
    (brought / "later_mine.py").write_text(
        "def shape():\n    import later_beside\n    return later_beside.number\n"
    )
    assert table.resolve("later_mine:shape")() == 5


def test_address_is_found_by_a_command_that_lacks_the_folder_on_its_path(brought):
    (brought / "command_mine.py").write_text("def shape():\n    return 'here'\n")
    program = (
        "from mipp.names import Table; from mipp.errors import ModelError; "
        "table = Table('shape', 'shape.name', ModelError, lambda thing: None, {}); "
        "print(table.resolve('command_mine:shape')())"
    )
    command = [sys.executable, "-P", "-c", LIGHT + program]  # -P: as a script in bin/ has it
    assert subprocess.check_output(command, text=True, cwd=brought) == "here\n"


def test_unknown_name_is_refused_with_the_nearest_and_the_other_way(table):
    with pytest.raises(
        ModelError,
        match=r"shape 'rooot' \(shape.name\) is unknown; did you mean root\? choose from root, "
        r"twice, or give one of yours as package.module:attribute",
    ):
        table.resolve("rooot")


def test_missing_module_is_refused_with_the_folders_that_were_looked_in(table, brought):
    with pytest.raises(ModelError) as refusal:
        table.resolve("nowhere_mine:shape")
    text = str(refusal.value)
    assert text.startswith("shape 'nowhere_mine:shape' (shape.name) cannot be had")
    assert "there is no module nowhere_mine" in text
    assert str(brought) in text


@pytest.mark.parametrize("name", ["nowhere_package.inner:shape", "math.inner:shape"])
def test_missing_part_of_a_package_is_refused(table, brought, name):
    with pytest.raises(ModelError, match=r"cannot be had: (there is no module|module .* fails)"):
        table.resolve(name)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import no_such_library\n", "ModuleNotFoundError: No module named 'no_such_library'"),
        ("1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def f(:\n", "SyntaxError"),
    ],
)
def test_module_that_fails_is_refused_with_its_error(table, brought, source, what):
    (brought / "failing_mine.py").write_text(source)
    with pytest.raises(ModelError, match=f"(?s)fails while it is imported.*{what}") as refusal:
        table.resolve("failing_mine:shape")
    assert refusal.value.__cause__ is not None


def test_missing_attribute_is_refused_with_the_names_that_are_there(table, brought):
    (brought / "attribute_mine.py").write_text("def shape(): ...\ndef round(): ...\n")
    with pytest.raises(ModelError, match=r"(?s)attribute_mine.py\) has no 'shap'.*mean shape\?"):
        table.resolve("attribute_mine:shap")


def test_thing_at_an_address_is_checked(table, brought):
    (brought / "checked_mine.py").write_text("shape = 3\n")
    with pytest.raises(ModelError, match=r"(?s)'checked_mine:shape' .*expected a function, got a"):
        table.resolve("checked_mine:shape")


@pytest.mark.parametrize("name", [":f", "module:", "a:b:c", "folder/module:f", "folder\\module:f"])
def test_text_that_is_no_address_is_refused(table, name):
    with pytest.raises(ModelError, match=r"is no address.\nExpected package.module:attribute"):
        table.resolve(name)


def test_error_is_of_the_table_s_own_kind():
    with pytest.raises(DataError):
        Table("set", "data.name", DataError, require_function, {}).resolve("mine")


def test_address_says_where_a_thing_is_defined(table):
    table.register("check")(require_function)
    assert table.address("root") == "math:sqrt"
    assert table.address("check") == f"{__name__}:require_function"
    assert table.address("my_module:shape") == "my_module:shape"
    assert address_of(3) == "builtins:int"


def test_module_of_a_name_is_where_its_thing_is_defined(table, brought):
    (brought / "module_mine.py").write_text("def shape(): ...\n")
    table.register("check")(require_function)
    assert table.module("root") == "math"
    assert table.module("check") == __name__
    assert table.module("module_mine:shape") == "module_mine"
    assert table.module("elsewhere") is None
    with pytest.raises(ModelError, match="there is no module gone_mine"):
        table.module("gone_mine:shape")


def test_address_of_a_row_stays_once_it_was_imported():
    table = Table("shape", "shape.name", ModelError, lambda thing: None, {"path": "os.path:join"})
    before = table.address("path")
    assert table["path"]("a", "b") == "a/b"
    assert table.address("path") == before == "os.path:join"


@pytest.mark.parametrize(
    ("function", "answer"),
    [
        (lambda: (), ()),
        (lambda size: size, 8),
        (lambda classes, size=1: (classes, size), (10, 8)),
        (lambda size, depth=2: (size, depth), (8, 2)),
        (lambda *others, **named: (others, named), ((), {})),
    ],
)
def test_function_is_called_with_what_it_names(function, answer):
    require_takes(function, ("classes", "size"), "a function")
    assert call_taking(function, classes=10, size=8) == answer


def test_class_is_called_with_what_its_initialiser_names():
    class Net:
        def __init__(self, classes):
            self.classes = classes

    require_takes(Net, ("classes", "size"), "a class")
    assert call_taking(Net, classes=10, size=8).classes == 10


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda width: width, r"takes what it likes of classes, size .* needs 'width'"),
        (lambda size, /: size, "needs 'size'"),
        (3, "expected a function, got a int"),
    ],
)
def test_function_that_insists_on_more_is_refused(function, what):
    with pytest.raises(TypeError, match=what):
        require_takes(function, ("classes", "size"), "a function")
