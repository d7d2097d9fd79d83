"""M4: which branches of `core/` the simulation alone takes: `python -m tests.simulation.branches --seeds 300`.

Each branch of each statement (`if`, `for`, `while`, `case`, `except`, a conditional expression) is given a mark when
the module is imported, and running it leaves the mark. No tracing, so that a world costs hardly more than without.
Not counted: what no value can reach (`assert_never`).
"""

import argparse
import ast
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType
from typing import Any, Final

PACKAGE: Final = "controller.core."
WANTED: Final = 0.95
_MARK: Final = "_branch_taken"


class Marked(ast.NodeTransformer):
    """Puts a mark at the beginning of each branch."""

    def __init__(self, module: str, branches: dict[str, None]) -> None:
        self._module = module
        self._branches = branches

    def _named(self, node: ast.AST, what: str) -> ast.Call:
        line = getattr(node, "lineno", 0)
        name = f"{self._module}:{line} {what}"
        while name in self._branches:
            name += "'"
        self._branches[name] = None
        return ast.Call(ast.Name(_MARK, ast.Load()), [ast.Constant(name)], [])

    def _begun(self, node: Any, body: list[ast.stmt], what: str) -> list[ast.stmt]:
        return [ast.Expr(self._named(node, what)), *body]

    def visit_If(self, node: ast.If) -> ast.If:
        self.generic_visit(node)
        node.body = self._begun(node, node.body, "if")
        node.orelse = self._begun(node, node.orelse, "else")
        return node

    def visit_For(self, node: ast.For) -> ast.For:
        self.generic_visit(node)
        node.body = self._begun(node, node.body, "for")
        return node

    def visit_While(self, node: ast.While) -> ast.While:
        self.generic_visit(node)
        node.body = self._begun(node, node.body, "while")
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        self.generic_visit(node)
        node.body = self._begun(node, node.body, "except")
        return node

    def visit_Match(self, node: ast.Match) -> ast.Match:
        self.generic_visit(node)
        for case in node.cases:
            if "assert_never" not in ast.unparse(case.body[0]):
                case.body = self._begun(case.pattern, case.body, "case")
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.IfExp:
        self.generic_visit(node)
        node.body = self._either(node, node.body, "then")
        node.orelse = self._either(node, node.orelse, "otherwise")
        return node

    def _either(self, node: ast.AST, value: ast.expr, what: str) -> ast.expr:
        """`mark(…) or value`: a mark is None."""
        return ast.BoolOp(ast.Or(), [self._named(node, what), value])


class MarkingLoader(SourceFileLoader):
    """Compiles a module with its marks in it."""

    branches: dict[str, None]
    taken: dict[str, None]

    def get_code(self, fullname: str) -> CodeType:
        tree = ast.parse(self.get_data(self.path), self.path)
        marked = Marked(fullname.removeprefix("controller."), self.branches).visit(tree)
        return compile(ast.fix_missing_locations(marked), self.path, "exec")

    def exec_module(self, module: Any) -> None:
        vars(module)[_MARK] = self.taken.setdefault
        super().exec_module(module)


class MarkingFinder(MetaPathFinder):
    """Finds the modules of `core/`."""

    def __init__(self) -> None:
        self.branches: dict[str, None] = {}
        self.taken: dict[str, None] = {}

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: Any = None) -> ModuleSpec | None:
        if not fullname.startswith(PACKAGE):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            loader = MarkingLoader(fullname, spec.origin)
            loader.branches, loader.taken = self.branches, self.taken
            own: Loader = loader
            spec.loader = own
        return spec


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.branches", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--width", type=int, default=16, help="of the single faults, every so many-th is played, too")
    asked = parser.parse_args()
    assert not any(name.startswith(PACKAGE) for name in sys.modules), "core is imported before it could be marked"
    finder = MarkingFinder()
    sys.meta_path.insert(0, finder)
    from tests.simulation.campaign import Result, campaign
    from tests.simulation.complete import Tour, tour
    from tests.simulation.playing import Shape
    from tests.simulation.scenarios import SCENARIOS

    total = Result()
    seeds = [str(number) for number in range(asked.first, asked.first + asked.seeds)]
    for result in campaign(seeds, Shape(), seconds=asked.seconds):
        total.add(result)
    faults = Tour()
    for scenario in SCENARIOS:
        for _ in tour(scenario, lambda number, _: number % asked.width == 0, faults, trace=False):
            pass
    missing = [name for name in finder.branches if name not in finder.taken]
    for name in missing:
        print(f"never: {name}")
    share = 1 - len(missing) / len(finder.branches)
    played = f"{len(total.seeds)} seeds and {faults.runs} single faults"
    print(f"{played} took {share:.1%} of {len(finder.branches)} branches of core/")
    return 0 if share >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
