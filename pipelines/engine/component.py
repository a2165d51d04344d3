"""Components: a typed function is a step of the pipeline.

    @component
    def trainer(config: str, examples: Examples, model: Output[Model]) -> None: ...

The annotations say what flows. A parameter with an artifact's class is an input, one with `Output[...]` is an output,
the rest are plain parameters. An input `X | None = None` may be left out. A call runs nothing: it makes the node of a
graph, and other components take the node's outputs.
"""

import dataclasses
import functools
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, overload

from kcnn.errors import nearest
from kcnn.registry import Registry


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A folder that a component writes and others read.

    It is whole as soon as it has its name: the component writes it under another name, and the runner renames it.

    Attributes:
        path: the folder.
        derived: names in it that follow from the rest, but whose bytes differ each time they are made. Work that takes
            the artifact is not done again because of them.
        editable: names in it that people may change.
        scratch: patterns of what a resumable component goes on from, at the top of the folder. The runner removes it
            once the database knows that the component has returned, and not before.
        head: the head under which reports compare its properties between runs.
        shown: the properties that a drawing shows; none for the first few.
    """

    path: Path
    derived: ClassVar[tuple[str, ...]] = ()
    editable: ClassVar[tuple[str, ...]] = ()
    scratch: ClassVar[tuple[str, ...]] = ()
    head: ClassVar[str] = "artifacts"
    shown: ClassVar[tuple[str, ...]] = ()

    @property
    def home(self) -> Path:
        """The folder's name once it is whole, for messages."""
        return self.path.with_suffix("")

    def recovered(self) -> bool:
        """Return whether what a killed component left is whole all the same, since what it did elsewhere is done."""
        return False

    def properties(self) -> dict[str, Any]:
        """Return the facts that the metadata keep of it, JSON-able and few."""
        return {}


A = TypeVar("A", bound=Artifact)
_OUTPUT = object()
Output = Annotated[A, _OUTPUT]
Entries = Callable[..., Mapping[Registry[Any], Sequence[str]]]


@dataclasses.dataclass(frozen=True, eq=False)
class Port:
    """An output of a node, not yet made."""

    node: "Node"
    name: str
    type: type[Artifact]


class Outputs(dict[str, Port]):
    """The ports of what a component makes, by name."""

    def __init__(self, component: str, ports: dict[str, Port]):
        super().__init__(ports)
        self.component = component

    def __missing__(self, name: str) -> Port:
        raise LookupError(f"{self.component} has no output {name!r}: {nearest(name, self)}")


@dataclasses.dataclass(frozen=True, eq=False)
class Component:
    """A step of pipelines. Call it with its parameters and inputs, by keyword, for a node.

    Attributes:
        name: in camel case, as TFX writes it ("ExampleGen").
        function: the body.
        input_types: name → class of what it reads.
        output_types: name → class of what it makes.
        cached: whether a finished execution with equal inputs, parameters and code stands for a new one.
        resumable: whether it can go on from what an interrupted execution left in its outputs.
        ignored: parameters that do not change the result. The comparison leaves them out.
        entries: takes what the function takes but for outputs, by keyword, and names the entries that the function uses
            of registries that discover a package. None where all of them may be used.
    """

    name: str
    function: Callable[..., None]
    input_types: dict[str, type[Artifact]]
    output_types: dict[str, type[Artifact]]
    cached: bool = True
    resumable: bool = False
    ignored: tuple[str, ...] = ()
    entries: Entries | None = None

    def __call__(self, **arguments: Any) -> "Node":
        """Make a node.

        Raises:
            TypeError: an argument is missing, unknown, or an artifact of another class than the annotation's, or a
                parameter is no JSON. The message names both ends.
        """
        signature = inspect.signature(self.function)
        parameters = [p for p in signature.parameters.values() if p.name not in self.output_types]
        signature = signature.replace(parameters=parameters)
        try:
            bound = signature.bind(**arguments)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        bound.apply_defaults()
        inputs: dict[str, Port] = {}
        for key, expected in self.input_types.items():
            port = bound.arguments.pop(key)
            if port is None and signature.parameters[key].default is None:
                continue
            if not isinstance(port, Port):
                raise TypeError(f"{self.name}: input {key!r} expects the output of a component, got {port!r}")
            if not issubclass(port.type, expected):
                raise TypeError(
                    f"{self.name}: input {key!r} expects {expected.__name__}, "
                    f"got {port.type.__name__} from output {port.name!r} of {port.node.name}"
                )
            inputs[key] = port
        for key, value in bound.arguments.items():
            if isinstance(value, Port):
                raise TypeError(f"{self.name}: {key!r} is a parameter, got output {value.name!r} of {value.node.name}")
            try:
                json.dumps(value)
            except TypeError as error:
                raise TypeError(f"{self.name}: parameter {key!r}: {error}") from None
        return Node(self, dict(bound.arguments), inputs)


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """A component in a graph, with its parameters and what flows into it.

    Attributes:
        component: what runs.
        parameters: plain values, JSON-able.
        inputs: the ports that it reads.
        execution: the number of a finished execution whose outputs are taken as they are; None to do the work.
    """

    component: Component
    parameters: dict[str, Any]
    inputs: dict[str, Port]
    execution: int | None = None

    @property
    def name(self) -> str:
        """The component's name."""
        return self.component.name

    @property
    def outputs(self) -> Outputs:
        """The ports of what it makes, by name; LookupError for a name that it does not have."""
        ports = {name: Port(self, name, type_) for name, type_ in self.component.output_types.items()}
        return Outputs(self.name, ports)


def finished_node(name: str, execution: int, output_types: dict[str, type[Artifact]]) -> Node:
    """Make the node of an earlier execution, whose outputs are taken as they are, whatever the program is now."""

    def do_nothing() -> None: ...

    return Node(Component(name, do_nothing, {}, output_types), {}, {}, execution)


@overload
def component(function: Callable[..., None]) -> Component: ...


@overload
def component(
    *,
    cached: bool = True,
    resumable: bool = False,
    ignored: tuple[str, ...] = (),
    entries: Entries | None = None,
) -> Callable[[Callable[..., None]], Component]: ...


def component(
    function: Callable[..., None] | None = None,
    *,
    cached: bool = True,
    resumable: bool = False,
    ignored: tuple[str, ...] = (),
    entries: Entries | None = None,
) -> Component | Callable[[Callable[..., None]], Component]:
    """Make a `Component` of a function; `in_snake_case` becomes `InSnakeCase`. See `Component` for the options."""
    if function is None:
        return functools.partial(component, cached=cached, resumable=resumable, ignored=ignored, entries=entries)
    name = "".join(word.capitalize() for word in function.__name__.split("_"))
    hints = typing.get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    output_types = {key: hint.__origin__ for key, hint in hints.items() if _OUTPUT in getattr(hint, "__metadata__", ())}
    input_types = {key: kind for key, hint in hints.items() if (kind := _artifact_class(hint)) is not None}
    return Component(name, function, input_types, output_types, cached, resumable, ignored, entries)


def _artifact_class(hint: Any) -> type[Artifact] | None:
    """Return the class of an input's annotation, which may be `X | None`; None for any other annotation."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Artifact)), None)


def upstream(node: Node) -> set[Node]:
    """Return the node and all that it takes from, near and far."""
    return {node}.union(*(upstream(port.node) for port in node.inputs.values()))


def order_nodes(nodes: Sequence[Node]) -> list[Node]:
    """Sort the nodes of a graph, each after those that it takes from, otherwise as they were given.

    A port is made of a node that already exists, so that calls alone cannot wire a cycle. One comes about only when a
    node's `inputs` are changed later.

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
    """Describe a cycle among nodes each of which takes from another of them."""
    path = [waiting[0]]
    while path.count(path[-1]) < 2:
        path.append(next(port.node for port in path[-1].inputs.values() if port.node in waiting))
    return " takes from ".join(node.name for node in path[path.index(path[-1]) :])
