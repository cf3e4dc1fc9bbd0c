"""The style of the source, held by a test instead of by memory.

The layers are contracts of import-linter (pyproject.toml); here stands what it cannot see: sizes, calls and words. A
limit is lifted by making the code smaller, not by making the list longer: entries of ``LONG_FUNCTIONS`` may only
shrink and go.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import rayd

ROOT = Path(__file__).parents[2]
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60

# Functions that were longer than the limit when it was introduced, with their length then.
LONG_FUNCTIONS: dict[str, int] = {}

SOURCES = sorted([*ROOT.glob("rayd/**/*.py"), *ROOT.glob("sdk/ray/**/*.py")])
EVERYTHING = sorted([*SOURCES, *ROOT.glob("tests/**/*.py"), *ROOT.glob("examples/**/*.py")])
CORE = [path for path in SOURCES if path.is_relative_to(ROOT / "rayd/core")]
# The parts of the store that decide; the segment beside them does the input and output.
PURE = [*CORE, ROOT / "rayd/store/arena.py", *ROOT.glob("rayd/wire/*.py")]
DAEMON = [
    path for path in SOURCES if path.is_relative_to(ROOT / "rayd") and not path.is_relative_to(ROOT / "rayd/bench")
]

IMPURE_MODULES = frozenset(
    "asyncio datetime logging multiprocessing os random secrets select signal socket subprocess".split()
    + "threading time uuid".split()
)
IMPURE_CALLS = frozenset({"open", "print", "input", "id", "exec", "eval", "__import__"})
UNPICKLERS = frozenset({"pickle", "_pickle", "cloudpickle", "dill", "marshal", "shelve"})


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def place(path: Path, node: ast.stmt | ast.expr | ast.ExceptHandler) -> str:
    return f"{name(path)}:{node.lineno}"


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def nodes(paths: list[Path]) -> Iterator[tuple[Path, ast.AST]]:
    for path in paths:
        for node in ast.walk(tree(path)):
            yield path, node


def imports(path: Path) -> Iterator[str]:
    """Top-level packages that a file imports, anywhere in it."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module is not None:
            yield node.module.partition(".")[0]


def lines_of(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function's qualified name and length in lines, without its decorators and its docstring."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                label = f"{prefix}{child.name}"
                if not isinstance(child, ast.ClassDef):
                    yield label, lines_of(child) - (lines_of(child.body[0]) if ast.get_docstring(child) else 0)
                yield from walk(child, f"{label}.")
            else:
                yield from walk(child, prefix)

    yield from walk(tree(path), f"{name(path)}:")


def test_files_stay_short() -> None:
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in EVERYTHING}
    long = {path: length for path, length in lines.items() if length > FILE_LINES_MAX}
    assert not long, "find the second noun in each"


def test_functions_stay_short_and_the_list_of_long_ones_only_shrinks() -> None:
    long = {label: length for path in SOURCES for label, length in functions(path) if length > FUNCTION_LINES_MAX}
    new = {label: length for label, length in long.items() if length > LONG_FUNCTIONS.get(label, 0)}
    gone = {label: length for label, length in LONG_FUNCTIONS.items() if long.get(label, 0) < length}
    assert not new, f"longer than {FUNCTION_LINES_MAX} lines, split them: {new}"
    assert not gone, f"shorter than listed, correct LONG_FUNCTIONS: { ({label: long.get(label) for label in gone}) }"


def test_what_decides_imports_nothing_that_does() -> None:
    found = {name(path): banned for path in PURE if (banned := IMPURE_MODULES & set(imports(path)))}
    assert not found


def test_what_decides_calls_nothing_that_depends_on_the_process() -> None:
    found = [
        f"{place(path, node)} {node.func.id}"
        for path, node in nodes(PURE)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS
    ]
    assert not found


def test_the_core_never_iterates_a_set_it_just_made() -> None:
    """The order of a set differs from run to run, and with it would the decisions."""
    found = []
    for path, node in nodes(CORE):
        if isinstance(node, ast.For | ast.comprehension):
            over = node.iter
            made = isinstance(over, ast.Set | ast.SetComp) or (
                isinstance(over, ast.Call) and isinstance(over.func, ast.Name) and over.func.id in {"set", "frozenset"}
            )
            if made:
                found.append(place(path, over))
    assert not found, "use a dict or sort it"


def test_the_daemon_never_imports_the_sdk() -> None:
    assert not [name(path) for path in DAEMON if "ray" in set(imports(path))]


def test_the_daemon_can_unpickle_nothing() -> None:
    assert not {name(path): banned for path in DAEMON if (banned := UNPICKLERS & set(imports(path)))}


def test_only_the_configuration_reads_the_environment() -> None:
    """Handing the environment on to a child (``os.environ`` as an argument) is no reading."""
    found = []
    for path, node in nodes([path for path in DAEMON if path != ROOT / "rayd/config.py"]):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"os.getenv", "os.environ.get"}:
            found.append(place(path, node))
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "os.environ":
            found.append(place(path, node))
    assert not found, "let rayd.config read it"


def test_no_exception_is_swallowed_unnamed() -> None:
    found = [
        place(path, node)
        for path, node in nodes(EVERYTHING)
        if isinstance(node, ast.ExceptHandler) and node.type is None
    ]
    assert not found, "name what is expected"


def test_no_asyncio_task_is_started_and_forgotten() -> None:
    """The event loop keeps only a weak reference: a task that nobody holds may vanish half-way."""
    found = [
        place(path, node)
        for path, node in nodes(SOURCES)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func).endswith(("create_task", "ensure_future"))
    ]
    assert not found, "hold the task"


def test_no_function_rebinds_a_global_but_the_one_session() -> None:
    stateless = [path for path in SOURCES if path != ROOT / "sdk/ray/_session.py"]
    found = [f"{place(path, node)} {node.names}" for path, node in nodes(stateless) if isinstance(node, ast.Global)]
    assert not found, "hold the value in an object"


def test_nothing_is_left_to_be_done() -> None:
    words = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]) + r")\b")
    found = [
        f"{name(path)}:{number}"
        for path in EVERYTHING
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if words.search(line)
    ]
    assert not found, "finish it, or open an issue"


def test_every_module_says_what_it_is() -> None:
    assert not [name(path) for path in SOURCES if not ast.get_docstring(tree(path))]


def test_the_version_is_stated_alike_in_code_and_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["version"] == rayd.__version__
