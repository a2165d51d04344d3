"""Components: a typed function is a step of the pipeline.

    @component
    def trainer(config: str, examples: Examples, model: Output[Model]) -> None: ...

Its annotations say everything: parameters annotated with an artifact's class are inputs, those with `Output[...]` are
outputs, the rest are plain parameters. Calling it runs nothing; it makes the node of a graph, whose outputs other
components take.
"""

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pipelines.artifacts import Artifact

A = TypeVar("A", bound=Artifact)
_OUTPUT = object()
Output = Annotated[A, _OUTPUT]


@dataclasses.dataclass(frozen=True, eq=False)
class Port:
    """An output of a node, not yet made."""

    node: "Node"
    name: str
    type: type[Artifact]


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
    """

    name: str
    function: Callable[..., None]
    parameters: dict[str, Any]
    inputs: dict[str, Port]
    output_types: dict[str, type[Artifact]]
    cached: bool
    resumable: bool
    ignored: tuple[str, ...]

    @property
    def outputs(self) -> dict[str, Port]:
        """name → port of what it makes."""
        return {name: Port(self, name, type_) for name, type_ in self.output_types.items()}


def component(
    function: Callable[..., None] | None = None,
    *,
    cached: bool = True,
    resumable: bool = False,
    ignored: tuple[str, ...] = (),
) -> Callable[..., Any]:
    """Makes a component of a function; see the module's docstring.

    Raises (when the component is called):
        TypeError: an argument is missing, unknown, or an artifact of another class than the annotation's; both ends
            are named.
    """
    if function is None:
        return lambda body: component(body, cached=cached, resumable=resumable, ignored=ignored)
    name = "".join(word.capitalize() for word in function.__name__.split("_"))
    hints = typing.get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    output_types = {key: hint.__origin__ for key, hint in hints.items() if _OUTPUT in getattr(hint, "__metadata__", ())}
    input_types = {key: hint for key, hint in hints.items() if isinstance(hint, type) and issubclass(hint, Artifact)}
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
            if not isinstance(port, Port):
                raise TypeError(f"{name}: input {key!r} expects the output of a component, got {port!r}")
            if not issubclass(port.type, expected):
                raise TypeError(
                    f"{name}: input {key!r} expects {expected.__name__}, "
                    f"got {port.type.__name__} from output {port.name!r} of {port.node.name}"
                )
            inputs[key] = port
        return Node(name, function, dict(bound.arguments), inputs, output_types, cached, resumable, ignored)

    return build
