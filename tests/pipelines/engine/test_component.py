"""Components and the runner, with small steps of their own."""

import pytest

from kcnn.errors import UserError
from pipelines.engine import runner
from pipelines.engine.component import Artifact, Output, Port, component, order_nodes, upstream


class Examples(Artifact):
    pass


class Number(Artifact):
    def read(self):
        return int((self.path / "n").read_text())

    def write(self, n):
        (self.path / "n").write_text(str(n))


CALLS = []


@component
def source(n: int, number: Output[Number]) -> None:
    CALLS.append("source")
    number.write(n)


@component(resumable=True, ignored=("loudly",))
def double(number: Number, doubled: Output[Number], fail: bool = False, loudly: bool = False) -> None:
    CALLS.append("double")
    (doubled.path / "begun").touch()
    if fail and not (doubled.path / "n").exists():
        doubled.write(0)
        raise RuntimeError("broken")
    doubled.write(2 * number.read())


@component(cached=False)
def push(number: Number, pushed: Output[Number]) -> None:
    CALLS.append("push")
    pushed.write(number.read())


def graph(n=3, **arguments):
    number = source(n=n)
    doubled = double(number=number.outputs["number"], **arguments)
    return [number, doubled, push(number=doubled.outputs["doubled"])]


@pytest.fixture(autouse=True)
def calls():
    CALLS.clear()
    return CALLS


def test_data_flows_and_finished_work_is_not_done_again(tmp_path, calls):
    made = runner.run_nodes(graph(), tmp_path)
    assert made["Double"]["doubled"].read() == 6
    assert made["Push"]["pushed"].path.parent == tmp_path / "Push" / "pushed"
    runner.run_nodes(graph(loudly=True), tmp_path)
    assert calls == ["source", "double", "push", "push"]
    assert runner.run_nodes(graph(n=4), tmp_path)["Double"]["doubled"].read() == 8


def test_a_failure_leaves_nothing_that_looks_whole(tmp_path, calls):
    with pytest.raises(RuntimeError):
        runner.run_nodes(graph(fail=True), tmp_path)
    assert [path.suffix for path in (tmp_path / "Double" / "doubled").iterdir()] == [".partial"]
    with pytest.raises(RuntimeError):
        runner.run_nodes(graph(fail=True), tmp_path, resume=False)  # anew, from an empty folder
    assert runner.run_nodes(graph(fail=True), tmp_path)["Double"]["doubled"].read() == 6
    assert calls == ["source", "double", "double", "double", "push"]


def test_what_cannot_resume_leaves_nothing(tmp_path):
    @component
    def broken(number: Output[Number]) -> None:
        number.write(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run_nodes([broken()], tmp_path)
    assert not list(tmp_path.glob("*/*/*"))


def test_wiring_errors_name_both_ends():
    @component
    def gen(x: Output[Examples]) -> None: ...

    with pytest.raises(TypeError, match="Double: input 'number' expects Number, got Examples from output 'x' of Gen"):
        double(number=gen().outputs["x"])
    with pytest.raises(TypeError, match="Double: input 'number' expects the output of a component, got 3"):
        double(number=3)
    with pytest.raises(TypeError, match="Double: missing a required argument: 'number'"):
        double()
    with pytest.raises(TypeError, match="Source: got an unexpected keyword argument 'm'"):
        source(n=1, m=3)


def test_parameters_are_plain_values():
    with pytest.raises(TypeError, match="Source: 'n' is a parameter, got output 'number' of Source"):
        source(n=source(n=1).outputs["number"])
    with pytest.raises(TypeError, match="Source: parameter 'n': Object of type set is not JSON serializable"):
        source(n={1})


def test_an_output_that_is_not_names_the_nearest():
    with pytest.raises(LookupError, match="Double has no output 'doulbed': did you mean 'doubled'"):
        double(number=source(n=1).outputs["number"]).outputs["doulbed"]


def test_order_follows_the_data_and_otherwise_the_list(tmp_path, calls):
    runner.run_nodes(graph()[::-1], tmp_path)
    assert calls == ["source", "double", "push"]
    number, doubled, pushed = graph()
    beside = push(number=number.outputs["number"])
    assert order_nodes([doubled, number]) == [number, doubled]
    assert order_nodes([number, beside, doubled]) == [number, beside, doubled]
    assert upstream(pushed) == {number, doubled, pushed}


def test_what_a_node_takes_from_must_be_part_of_the_graph(tmp_path):
    message = r"Double takes 'number' from Source \(its output 'number'\), which is not part of the pipeline"
    with pytest.raises(ValueError, match=message):
        runner.run_nodes(graph()[1:], tmp_path)
    with pytest.raises(ValueError, match=message):  # another node of that name is not the same
        runner.run_nodes([source(n=3), *graph()[1:]], tmp_path)


def test_two_nodes_of_one_name(tmp_path):
    with pytest.raises(ValueError, match="two components are named Source"):
        runner.run_nodes([source(n=3), source(n=4)], tmp_path)


def test_a_cycle(tmp_path):
    """Calls cannot wire one, since a port is of a node that exists already."""
    number, doubled, pushed = graph()
    doubled.inputs["number"] = Port(pushed, "pushed", Number)
    with pytest.raises(ValueError, match=r"a cycle: Double takes from Push takes from Double$"):
        runner.run_nodes([number, doubled, pushed], tmp_path)


def test_unwritable_root(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--pipeline_root"):
        runner.run_nodes(graph(), tmp_path / "file")
