"""Classes are abstract or final: what a method does is read in one place, and no method is defined over another.

`CONTRIBUTING.md` has the rule. The exceptions below may only shrink: one that is none any more fails too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache

from test_structure import imported, modules, tree

Class = tuple[str, str]  # module, name
CONSTRUCTORS = {"__init__", "__post_init__"}

# Classes with subclasses of which no method is abstract, each with the reason.
NOT_ABSTRACT = {
    "easydel.cli.settings.command_line.FileFlags": "fields that commands share",
    "easydel.cli.training.configs.ReferencedRun": "fields that commands share",
    "easydel.cli.training.configs.RunConfig": "fields that commands share",
    "easydel_trainers.config.TrainerConfig": "fields that trainers share",
    "easydel_trainers.preference.config.PreferenceConfig": "fields that trainers share",
    "easydel_trainers.preference.config.ReferenceConfig": "fields that trainers share",
    "easydel_trainers.run.callbacks.Callback": "users override what they want to be told",
    "easydel_transforms.pairs._PairTransform": "one behaviour under the names of three trainers",
    "easydel_transforms.unpaired._UnpairedTransform": "one behaviour under the names of two trainers",
    "easydata_sources.source.SingleShardSource": "one shard of rows, whatever they come from",
    "easydata_sources.combined.transformed.TransformedShardedSource": "packed rows know their number beforehand",
    "easydata_sources.transforms.transform.ChainedTransform": "a chain of columns' transforms also takes batches",
}
# Methods with a body that subclasses define anew: defaults for those who do not care, by the class that has them.
DEFAULTS = {
    # Users derive sources, transforms and callbacks from these by one or two methods; the rest follows from those.
    "easydata_sources.source.ShardedDataSource": (
        "__len__ access at_epoch data_files get_shard_info has_repeatable_order identity is_endless "
        "open_shard_at_row rows shard shuffle token_lengths with_care"
    ),
    "easydata_sources.transforms.transform.RowTransform": "identity keeps_every_row",
    "easydata_sources.transforms.transform.BatchTransform": "batch_rows mixes_rows",
    "easydel_trainers.run.callbacks.Callback": "on_begin on_end on_evaluate on_step restore state",
    # What a reader of one format or kind does better than the general way.
    "easydata_sources.streams.RowStream": "origin origin_of_run skip take",
    # A limit ends, whatever is below; and what guards a source that knows nothing of bad rows hands no care on to it.
    "easydata_sources.combined.wrapping.WrappingSource": "is_endless with_care",
    "easydata_sources.combined.transformed.TransformedShardedSource": "__len__ over",
    "easydata_sources.transforms.transform.ChainedTransform": "batch_rows transform_batch",
    "easydata_mix.plan.steps.Step": "read_before resumed_at",
    # What few families and losses need, so that others need not speak of it.
    "easydel_trainers.preference.objective.CausalObjective": "coupled score_options",
    "easydel_trainers.step.objective.ScoredObjective": "initial_extras prepare",
}


@cache
def classes() -> dict[Class, ast.ClassDef]:
    return {
        (module, node.name): node
        for module in modules()
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ClassDef)
    }


@cache
def named_in(module: str) -> dict[str, Class]:
    """The classes of ours that a name in a module may mean; lazy menus are looked through."""
    known = {name: (home, name) for home, name in classes() if home == module}
    for node in ast.walk(tree(module)):
        for target, name in imported(module, node):
            package = target.partition(".")[0]
            homes = [(home, of) for home, of in classes() if of == name and home.partition(".")[0] == package]
            if (target, name) in classes():
                known.setdefault(name, (target, name))
            elif len(homes) == 1:
                known.setdefault(name, homes[0])
    return known


@cache
def bases(one: Class) -> tuple[Class, ...]:
    roots = [base.value if isinstance(base, ast.Subscript) else base for base in classes()[one].bases]
    names = [root.id for root in roots if isinstance(root, ast.Name)]
    return tuple(named_in(one[0])[name] for name in names if name in named_in(one[0]))


def ancestors(one: Class) -> Iterator[Class]:
    for base in bases(one):
        yield base
        yield from ancestors(base)


@cache
def methods(one: Class) -> dict[str, bool]:
    """The methods that a class defines, and whether each is abstract."""
    defined = [node for node in classes()[one].body if isinstance(node, ast.FunctionDef)]
    return {node.name: any("abstract" in ast.unparse(mark) for mark in node.decorator_list) for node in defined}


@cache
def left_open(one: Class) -> frozenset[str]:
    """The abstract methods that a class has, or leaves so."""
    inherited = frozenset().union(*map(left_open, bases(one)))
    targets = [node.target for node in classes()[one].body if isinstance(node, ast.AnnAssign)]
    fields = {target.id for target in targets if isinstance(target, ast.Name)}
    return (inherited - methods(one).keys() - fields) | {name for name, abstract in methods(one).items() if abstract}


def is_error_or_protocol(one: Class) -> bool:
    """Errors stand in kinds, of which the general one is raised too; a protocol is abstract by its nature."""
    roots = [ast.unparse(base) for each in (one, *ancestors(one)) for base in classes()[each].bases]
    return any(root.endswith(("Error", "Exception", "Protocol")) for root in roots)


def is_final(one: Class) -> bool:
    return any(ast.unparse(mark) == "final" for mark in classes()[one].decorator_list)


def full(one: Class) -> str:
    return ".".join(one)


def test_a_class_with_subclasses_is_abstract():
    parents = {base for one in classes() for base in bases(one) if not is_error_or_protocol(base)}
    assert len(parents) > 20
    assert {full(one) for one in parents if not left_open(one)} == set(NOT_ABSTRACT)
    assert [full(one) for one in parents if is_final(one)] == []


def test_a_class_without_subclasses_is_final_or_abstract():
    parents = {base for one in classes() for base in bases(one)}
    last = [one for one in classes() if bases(one) and one not in parents and not is_error_or_protocol(one)]
    assert len(last) > 100
    assert [full(one) for one in last if not (is_final(one) or left_open(one))] == []


def test_no_method_is_defined_over_another():
    found: dict[str, set[str]] = {}
    for one in classes():
        for base in set() if is_error_or_protocol(one) else set(ancestors(one)):
            concrete = {name for name, abstract in methods(base).items() if not abstract} - CONSTRUCTORS
            if again := methods(one).keys() & concrete:
                found.setdefault(full(base), set()).update(again)
    assert found == {name: set(defaults.split()) for name, defaults in DEFAULTS.items()}
