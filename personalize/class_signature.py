"""What a class is built from, read from its source without importing it.

Importing torch takes seconds; a misspelt option should be answered at once. Where the source does
not tell (a class made at run time, keyword arguments handed on), nothing is claimed.
"""

import ast
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class Signature:
    """Parameters of a constructor.

    Attributes:
        required: Names that have no default.
        optional: Names that have one.
        complete: False where more names may be accepted than are known.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    complete: bool = True

    @property
    def names(self) -> tuple[str, ...]:
        """All names."""
        return self.required + self.optional


@dataclass(frozen=True)
class UnknownClass:
    """Why a class path leads nowhere, and what is near it."""

    reason: str
    candidates: tuple[str, ...]


def find_signature(class_path: str) -> Signature | UnknownClass | None:
    """The constructor parameters of a class.

    Args:
        class_path: Dotted path, such as `recsys.baselines.sasrec.SASRec`.

    Returns:
        The signature; `UnknownClass` where a module or the class in it is certainly missing;
        None where reading the source does not tell.
    """
    module, _, name = class_path.rpartition(".")
    if not module:
        return None  # a short name, which only the full parser can resolve
    path, missing = _module_file(module)
    if missing:
        return UnknownClass(f"there is no module {missing}", _neighbours(missing))
    if path is None:
        return None
    return _class_signature(module, path, name, depth=0)


def _class_signature(
    module: str, path: Path, name: str, *, depth: int
) -> Signature | UnknownClass | None:
    tree = _tree(path)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    if name in classes:
        return _constructor(module, path, classes[name], depth=depth)
    imported, is_open = _imports(module, path, tree)
    if name in imported and depth < 8:
        origin_module, origin_name = imported[name]
        origin, missing = _module_file(origin_module)
        if origin is None or missing:
            return None
        return _class_signature(origin_module, origin, origin_name, depth=depth + 1)
    if is_open or _defines(tree, name):
        return None
    return UnknownClass(f"{module} has no class {name}", tuple(classes) + tuple(imported))


def _constructor(
    module: str, path: Path, node: ast.ClassDef, *, depth: int
) -> Signature | UnknownClass | None:
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return _function_signature(statement)
    if any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list):
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        required = tuple(ast.unparse(f.target) for f in fields if f.value is None)
        optional = tuple(ast.unparse(f.target) for f in fields if f.value is not None)
        return Signature(required, optional, complete=False)
    if len(node.bases) == 1 and depth < 8:
        base = ast.unparse(node.bases[0])
        if "." not in base and "[" not in base:
            return _class_signature(module, path, base, depth=depth + 1)
    return None


def _function_signature(node: ast.FunctionDef) -> Signature:
    arguments = node.args
    positional = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)][1:]
    with_default = min(len(arguments.defaults), len(positional))
    first_default = len(positional) - with_default
    required = positional[:first_default]
    optional = positional[first_default:]
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        (required if default is None else optional).append(argument.arg)
    return Signature(tuple(required), tuple(optional), complete=arguments.kwarg is None)


def _imports(module: str, path: Path, tree: ast.Module) -> tuple[dict[str, tuple[str, str]], bool]:
    """Imported names with their origin, and whether names may come from elsewhere too."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: dict[str, tuple[str, str]] = {}
    is_open = any(
        isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in tree.body
    )
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package.split(".")[: len(package.split(".")) - max(0, node.level - 1)]
        origin = ".".join([*base, *([node.module] if node.module else [])])
        origin = origin if node.level else (node.module or "")
        for alias in node.names:
            is_open |= alias.name == "*"
            found[alias.asname or alias.name] = (origin, alias.name)
    return found, is_open


def _defines(tree: ast.Module, name: str) -> bool:
    """Whether a module binds a name in a way that is not a plain class or import."""
    return any(
        isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store)
        for node in ast.walk(tree)
    ) or any(
        isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name
        for node in ast.walk(tree)
    )


def _module_file(module: str) -> tuple[Path | None, str]:
    """The source file of a module, or the part of its name that certainly does not exist."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None, top
    if spec is None:
        return None, top
    if not spec.submodule_search_locations:
        return (Path(spec.origin) if spec.origin and not rest else None), ""
    folder = Path(next(iter(spec.submodule_search_locations)))
    for number, part in enumerate(rest):
        if (folder / part).is_dir() and (folder / part / "__init__.py").is_file():
            folder = folder / part
        elif (folder / f"{part}.py").is_file() and number == len(rest) - 1:
            return folder / f"{part}.py", ""
        elif any(folder.glob(f"{part}.*")) or (folder / part).is_dir():
            return None, ""  # compiled, or a namespace: the source does not tell
        else:
            return None, ".".join([top, *rest[: number + 1]])
    path = folder / "__init__.py"
    return (path if path.is_file() else None), ""


def _neighbours(missing: str) -> tuple[str, ...]:
    """Modules beside a missing one."""
    parent = missing.rpartition(".")[0]
    if not parent:
        return ()
    path, _ = _module_file(parent)
    if path is None:
        return ()
    names = [item.stem for item in path.parent.iterdir() if not item.name.startswith("_")]
    return tuple(f"{parent}.{name}" for name in sorted(names))


@lru_cache(maxsize=64)
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))
