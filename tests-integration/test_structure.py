"""How the packages are built: sizes of files and folders, no circles of imports, nobody reads another's underscores."""

from __future__ import annotations

import ast
import graphlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
LONGEST_FILE = 400  # lines; most have 100 to 300
LONGEST_FUNCTION = 80  # lines, the docstring of its arguments included
MOST_FILES = 20  # in a folder

# Lists of alike things from which a reader picks one.
LARGER_FOLDERS = {
    "easydel_models/families": 40,
}
# What is called with an underscore and meant for everybody, and what the library `datasets` tells in no other way.
PUBLIC_UNDERSCORES = {"_replace", "_asdict", "_fields", "_exit"}
OF_DATASETS = {"_fingerprint", "_indices", "_ex_iterable", "_cache"}


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(ROOT.glob("packages/*/src/**/*.py")):
        inside = path.relative_to(next(folder for folder in path.parents if folder.name == "src"))
        parts = inside.with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text())


def imported(module: str, node: ast.AST) -> Iterator[tuple[str, str]]:
    """(module of ours, name) for each name that a statement imports from one."""
    if isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            if inner in modules() or node.module in modules():
                yield (inner if inner in modules() else node.module), alias.name


def at_import(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when a module is imported: not those of functions, nor those for type checkers."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        for name in ("body", "orelse", "finalbody"):
            yield from at_import(getattr(node, name, []))


def test_no_imports_run_in_a_circle():
    needs = {
        module: {
            target for node in at_import(tree(module).body) for target, _ in imported(module, node) if target != module
        }
        for module in modules()
    }
    assert sum(map(len, needs.values())) > 1_000
    list(graphlib.TopologicalSorter(needs).static_order())  # raises, naming the circle


def test_nobody_imports_anothers_underscore_names():
    found = [
        f"{module}: {target}.{name}"
        for module in modules()
        for node in ast.walk(tree(module))
        for target, name in imported(module, node)
        if name.startswith("_") and not name.startswith("__")
    ]
    assert found == []


def test_nobody_reads_underscore_names_of_what_is_defined_elsewhere():
    """Of other objects than `self` only those that the same file defines, as a copy of oneself has them."""
    found = []
    for module in modules():
        nodes = list(ast.walk(tree(module)))
        reads = [node for node in nodes if isinstance(node, ast.Attribute) and node.attr.startswith("_")]
        own = {node.attr for node in reads if isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}}
        own |= {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        annotated = [node.target for node in nodes if isinstance(node, ast.AnnAssign)]
        own |= {target.id for target in annotated if isinstance(target, ast.Name)}
        allowed = own | PUBLIC_UNDERSCORES | (OF_DATASETS if ".hf." in module else set())
        found += [
            f"{module}: {ast.unparse(node)}"
            for node in reads
            if node.attr not in allowed and not node.attr.startswith("__")
        ]
    assert found == []


def test_files_and_functions_are_of_a_size_worth_opening():
    long = {module: len(path.read_text().splitlines()) for module, path in modules().items()}
    assert {module: lines for module, lines in long.items() if lines > LONGEST_FILE} == {}
    functions = {
        f"{module}.{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for module in modules()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: lines for name, lines in functions.items() if lines > LONGEST_FUNCTION} == {}


def test_folders_hold_no_more_than_one_looks_through():
    counts = Counter(path.parent for path in modules().values())
    for folder, count in counts.items():
        name = folder.relative_to(next(parent for parent in folder.parents if parent.name == "src")).as_posix()
        assert count <= LARGER_FOLDERS.get(name, MOST_FILES), f"{name} holds {count} files"
