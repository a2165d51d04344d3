"""Components: a typed function is a step of the pipeline.

    @component
    def trainer(config: str, examples: Examples, model: Output[Model]) -> None: ...

Its annotations say everything: parameters annotated with an artifact's class are inputs, those with `Output[...]` are
outputs, the rest are plain parameters; an input `X | None = None` may be left out. Calling it runs nothing; it makes
the node of a graph, whose outputs other components take.
"""

import dataclasses
import inspect
import json
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from kcnn.errors import nearest


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A folder that a component writes and others read, whole as soon as it has its name: it is written under another
    and renamed.

    Attributes:
        path: the folder.
        derived: folders in it that follow from the rest, but whose bytes differ each time they are made; what takes the
            artifact is not done again because of them.
        editable: files in it that people may change.
    """

    path: Path
    derived: ClassVar[tuple[str, ...]] = ()
    editable: ClassVar[tuple[str, ...]] = ()

    @property
    def home(self) -> Path:
        """Its folder once it is whole, which is what people are told."""
        return self.path.with_suffix("")

    def recovered(self) -> bool:
        """Whether what a killed component has left is whole all the same, since what it did elsewhere is done."""
        return False

    def properties(self) -> dict[str, Any]:
        """The facts that the metadata keep of it, JSON-able and few."""
        return {}


A = TypeVar("A", bound=Artifact)
_OUTPUT = object()
Output = Annotated[A, _OUTPUT]


@dataclasses.dataclass(frozen=True, eq=False)
class Port:
    """An output of a node, not yet made."""

    node: "Node"
    name: str
    type: type[Artifact]


class Outputs(dict[str, Port]):
    """name → port of what a component makes."""

    def __init__(self, component: str, ports: dict[str, Port]):
        super().__init__(ports)
        self.component = component

    def __missing__(self, name: str) -> Port:
        raise LookupError(f"{self.component} has no output {name!r}: {nearest(name, self)}")


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """One step: a component with its parameters and what flows into it.

    Attributes:
        name: the component's, in camel case as TFX writes it ("ExampleGen").
        function: its body.
        parameters: plain values, JSON-able.
        inputs: the ports it reads.
        output_types: name → class of what it makes.
        cached: whether a finished execution with equal inputs and parameters stands for a new one.
        resumable: whether it can go on from what an interrupted execution of it left in its outputs.
        ignored: parameters that do not change the result, left out of the comparison.
        execution: the number of one that is finished and whose outputs are taken as they are; None to do the work.
    """

    name: str
    function: Callable[..., None]
    parameters: dict[str, Any]
    inputs: dict[str, Port]
    output_types: dict[str, type[Artifact]]
    cached: bool = True
    resumable: bool = False
    ignored: tuple[str, ...] = ()
    execution: int | None = None

    @property
    def outputs(self) -> Outputs:
        """name → port of what it makes; LookupError for a name that it does not have."""
        return Outputs(self.name, {name: Port(self, name, type_) for name, type_ in self.output_types.items()})


def finished(name: str, execution: int, output_types: dict[str, type[Artifact]]) -> Node:
    """The node of what an earlier run did: its outputs are taken as they are, whatever the program is now."""

    def nothing() -> None:
        """Is left to do."""

    return Node(name, nothing, {}, {}, output_types, execution=execution)


def component(
    function: Callable[..., None] | None = None,
    *,
    cached: bool = True,
    resumable: bool = False,
    ignored: tuple[str, ...] = (),
) -> Callable[..., Any]:
    """Makes a component of a function; see the module's docstring.

    Raises (when the component is called):
        TypeError: an argument is missing, unknown, or an artifact of another class than the annotation's, or a
            parameter is no JSON; both ends are named.
    """
    if function is None:
        return lambda body: component(body, cached=cached, resumable=resumable, ignored=ignored)
    name = "".join(word.capitalize() for word in function.__name__.split("_"))
    hints = typing.get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    output_types = {key: hint.__origin__ for key, hint in hints.items() if _OUTPUT in getattr(hint, "__metadata__", ())}
    input_types = {key: kind for key, hint in hints.items() if (kind := _artifact_class(hint)) is not None}
    signature = inspect.signature(function)
    signature = signature.replace(parameters=[p for p in signature.parameters.values() if p.name not in output_types])

    def build(**arguments: Any) -> Node:
        try:
            bound = signature.bind(**arguments)
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from None
        bound.apply_defaults()
        inputs: dict[str, Port] = {}
        for key, expected in input_types.items():
            port = bound.arguments.pop(key)
            if port is None and signature.parameters[key].default is None:
                continue
            if not isinstance(port, Port):
                raise TypeError(f"{name}: input {key!r} expects the output of a component, got {port!r}")
            if not issubclass(port.type, expected):
                raise TypeError(
                    f"{name}: input {key!r} expects {expected.__name__}, "
                    f"got {port.type.__name__} from output {port.name!r} of {port.node.name}"
                )
            inputs[key] = port
        for key, value in bound.arguments.items():
            if isinstance(value, Port):
                raise TypeError(f"{name}: {key!r} is a parameter, got output {value.name!r} of {value.node.name}")
            try:
                json.dumps(value)
            except TypeError as error:
                raise TypeError(f"{name}: parameter {key!r}: {error}") from None
        return Node(name, function, dict(bound.arguments), inputs, output_types, cached, resumable, ignored)

    return build


def _artifact_class(hint: Any) -> type[Artifact] | None:
    """Of an input's annotation, which may be `X | None`; None for any other."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Artifact)), None)


def upstream(node: Node) -> set[Node]:
    """The node and all that it takes from, near and far."""
    return {node}.union(*(upstream(port.node) for port in node.inputs.values()))


def order(nodes: Sequence[Node]) -> list[Node]:
    """The nodes of a graph, each behind those that it takes from, otherwise as they were given.

    A port is made of a node that already exists, so that no cycle can be wired by calls alone; one comes about only
    when a node's `inputs` are changed afterwards.

    Raises:
        ValueError: two nodes have one name, a node takes from one that is not among them, or there is a cycle.
    """
    names = [node.name for node in nodes]
    for node in nodes:
        if names.count(node.name) > 1:
            raise ValueError(f"two components are named {node.name}: what they make would be mistaken for one another")
        for key, port in node.inputs.items():
            if port.node not in nodes:
                raise ValueError(
                    f"{node.name} takes {key!r} from {port.node.name} (its output {port.name!r}), "
                    "which is not part of the pipeline"
                )
    placed: list[Node] = []
    while waiting := [node for node in nodes if node not in placed]:
        ready = next((n for n in waiting if all(port.node in placed for port in n.inputs.values())), None)
        if ready is None:
            raise ValueError(f"a cycle: {_cycle(waiting)}")
        placed.append(ready)
    return placed


def _cycle(waiting: list[Node]) -> str:
    """Of nodes each of which takes from another of them."""
    path = [waiting[0]]
    while path.count(path[-1]) < 2:
        path.append(next(port.node for port in path[-1].inputs.values() if port.node in waiting))
    return " takes from ".join(node.name for node in path[path.index(path[-1]) :])
